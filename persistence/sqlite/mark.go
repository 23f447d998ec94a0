package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dash-fleet/dash/messages/next"
)

// markName is the file beside the database that says which batch was the last
// one to be acknowledged.
const markName = "dash.mark"

// mark notices a store that came back with less than it has acknowledged: a
// write-ahead log that ends too early looks to SQLite like one that was never
// longer. It is written after each commit, with no fsync of its own. A loss of
// power may thus leave an older number, which notices less, never a newer one:
// whatever it names was durable before.
type mark struct {
	f   *os.File
	buf [markSize]byte
}

const markSize = 21 // twenty digits and the end of the line

// openMark also returns the number it holds, 0 for a new or unreadable mark.
func openMark(dir string) (*mark, int64, error) {
	f, err := os.OpenFile(filepath.Join(dir, markName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("open mark: %w", err)
	}
	m := &mark{f: f}
	n, _ := f.ReadAt(m.buf[:], 0) // what cannot be read notices nothing
	last, err := strconv.ParseInt(strings.TrimSpace(string(m.buf[:n])), 10, 64)
	if err != nil {
		last = 0
	}
	return m, last, nil
}

func (m *mark) write(batch int64) error {
	for i := markSize - 2; i >= 0; i-- {
		m.buf[i] = byte('0' + batch%10)
		batch /= 10
	}
	m.buf[markSize-1] = '\n'
	_, err := m.f.WriteAt(m.buf[:], 0)
	return err
}

// removeMark forgets what the folder has acknowledged: its content is about to
// be replaced on purpose.
func removeMark(dir string) error {
	if err := os.Remove(filepath.Join(dir, markName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove mark: %w", err)
	}
	return nil
}

// LostError says that commits which were acknowledged are no longer in the store.
type LostError struct {
	Dir         string
	Has, Marked int64 // batches: the last one in the store, and the last one acknowledged
}

func (e *LostError) Error() string {
	return fmt.Sprintf("the store in %s has lost its last %d commits, which were acknowledged: it ends at %d and had reached %d; its files were damaged, cut or replaced by older ones", e.Dir, e.Marked-e.Has, e.Has, e.Marked)
}

// Next says what to do about it.
func (e *LostError) Next() string {
	return fmt.Sprintf(next.PutFilesBack, filepath.Join(e.Dir, markName))
}
