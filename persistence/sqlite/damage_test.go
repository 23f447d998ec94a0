package sqlite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/storetest"
)

// killed copies the files of an open store as a kill -9 would leave them.
func killed(t *testing.T, db *DB) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{FileName, FileName + "-wal", markName} {
		b, err := os.ReadFile(filepath.Join(db.cfg.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func logOf(t *testing.T, dir string) (path string, end int64) {
	t.Helper()
	path = filepath.Join(dir, FileName+"-wal")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if end, err = logLength(f); err != nil {
		t.Fatal(err)
	}
	return path, end
}

func TestTornTailLosesNothing(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{})
	defer closeDB(t, db)
	for range 20 {
		mustCommit(t, db, []persistence.Op{bigOp(3000)})
	}
	dir := killed(t, db)
	path, end := logOf(t, dir)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// A frame that the loss of power cut short: its header is right, its page is not.
	page := int64(binary.BigEndian.Uint32(b[8:]))
	torn := append(bytes.Clone(b[:end]), b[end-frameHeader-page:end-page]...)
	torn = append(torn, make([]byte, page/2)...)
	if err := os.WriteFile(path, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	again := openTest(t, Config{Dir: dir})
	defer closeDB(t, again)
	if n, err := storetest.Count(t.Context(), again, persistence.TaskFilter{}); err != nil || n != 20 {
		t.Errorf("%d tasks, %v, want 20", n, err)
	}
}

// TestCutLogIsNoticed cuts acknowledged commits off, which SQLite cannot see.
func TestCutLogIsNoticed(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{})
	defer closeDB(t, db)
	for range 20 {
		mustCommit(t, db, []persistence.Op{bigOp(3000)})
	}
	for name, cut := range map[string]func(path string, end int64) error{
		"last frame": func(path string, end int64) error { return os.Truncate(path, end-1) },
		"half":       func(path string, end int64) error { return os.Truncate(path, end/2) },
		"all":        func(path string, _ int64) error { return os.Remove(path) },
	} {
		dir := killed(t, db)
		path, end := logOf(t, dir)
		if err := cut(path, end); err != nil {
			t.Fatal(err)
		}
		for range 2 { // a refusal changes nothing
			_, err := Open(t.Context(), Config{Dir: dir})
			var lost *LostError
			if !errors.As(err, &lost) || lost.Has >= lost.Marked || !strings.Contains(lost.Next(), "dash restore") {
				t.Fatalf("%s: %v", name, err)
			}
		}
		// What its message says is the way on.
		if err := os.Remove(filepath.Join(dir, markName)); err != nil {
			t.Fatal(err)
		}
		again := openTest(t, Config{Dir: dir})
		mustCommit(t, again, []persistence.Op{bigOp(10)})
		closeDB(t, again)
		closeDB(t, openTest(t, Config{Dir: dir}))
	}
}

func TestDamagedPageIsRefused(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{})
	for range 50 {
		mustCommit(t, db, []persistence.Op{bigOp(3000)})
	}
	closeDB(t, db) // everything is in the database file now
	path := filepath.Join(db.cfg.Dir, FileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := int(binary.BigEndian.Uint16(whole[16:]))
	for name, from := range map[string]int{"first page": 0, "all others": page} {
		b := bytes.Clone(whole)
		for at := from; at < len(b) && (from > 0 || at == 0); at += page {
			copy(b[at:], strings.Repeat("\xa5", 200))
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		var damaged *DamagedError
		if _, err := Open(t.Context(), Config{Dir: db.cfg.Dir}); !errors.As(err, &damaged) {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again := openTest(t, Config{Dir: db.cfg.Dir})
	defer closeDB(t, again)
	if n, err := storetest.Count(t.Context(), again, persistence.TaskFilter{}); err != nil || n != 50 {
		t.Errorf("%d tasks, %v, want 50", n, err)
	}
}

// TestUncleanStopIsChecked damages a page that nothing reads at the start.
func TestUncleanStopIsChecked(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{})
	for range 50 {
		mustCommit(t, db, []persistence.Op{bigOp(3000)})
	}
	closeDB(t, db)
	db = openTest(t, Config{Dir: db.cfg.Dir})
	defer closeDB(t, db)
	dir := killed(t, db)
	path := filepath.Join(dir, FileName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := int64(binary.BigEndian.Uint16(b[16:]))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, 200), int64(len(b))/2/page*page); err != nil {
		t.Fatal(err)
	}
	var damaged *DamagedError
	if _, err := Open(t.Context(), Config{Dir: dir}); !errors.As(err, &damaged) {
		t.Errorf("open: %v", err)
	}
}

// TestSecureLogKeepsTheLog rewrites a log byte by byte as it was.
func TestSecureLogKeepsTheLog(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{})
	defer closeDB(t, db)
	for range 300 {
		mustCommit(t, db, []persistence.Op{bigOp(3000)})
	}
	dir := killed(t, db)
	path, end := logOf(t, dir)
	if end < 2<<20 {
		t.Fatalf("the log has %d bytes: too short to be worth the test", end)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if unclean, err := secureLog(dir); err != nil || !unclean {
		t.Fatalf("unclean %v, %v", unclean, err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the log is another one, %v", err)
	}
	for _, junk := range [][]byte{nil, []byte("short"), bytes.Repeat([]byte{0xff}, 5000)} {
		if err := os.WriteFile(path, junk, 0o600); err != nil {
			t.Fatal(err)
		}
		if unclean, err := secureLog(dir); err != nil || unclean {
			t.Errorf("junk of %d bytes: unclean %v, %v", len(junk), unclean, err)
		}
	}
}

func TestUnreadableMarkNoticesNothing(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{})
	closeDB(t, db)
	if err := os.WriteFile(filepath.Join(db.cfg.Dir, markName), []byte("not a number"), 0o600); err != nil {
		t.Fatal(err)
	}
	closeDB(t, openTest(t, Config{Dir: db.cfg.Dir}))
}

// TestDamageWhileServing damages pages under an open store: what needs them is
// refused with the reason, and the store can still be closed.
func TestDamageWhileServing(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{})
	ids := make([]string, 400)
	for i := range ids {
		op := bigOp(3000)
		ids[i] = op.Insert.Task.ID
		mustCommit(t, db, []persistence.Op{op})
	}
	closeDB(t, db)
	db = openTest(t, Config{Dir: db.cfg.Dir})
	path := filepath.Join(db.cfg.Dir, FileName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := int(binary.BigEndian.Uint16(b[16:]))
	for at := page; at < len(b); at += page {
		copy(b[at:], strings.Repeat("\xa5", 64))
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, id := range ids {
		_, err := db.Task(t.Context(), "", id)
		var damaged *DamagedError
		switch {
		case err == nil: // from a cache
		case !errors.As(err, &damaged) || !errors.Is(err, persistence.ErrUnavailable):
			t.Fatalf("read: %v", err)
		default:
			refused++
		}
	}
	if refused == 0 {
		t.Error("no read met the damage")
	}
	// The end may report the damage once more; it must come all the same.
	if err := db.Close(); err != nil {
		t.Logf("close: %v", err)
	}
}
