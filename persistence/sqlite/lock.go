package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockDir takes the folder for this process until unlock or the end of the
// process. The lock is on a file of its own, because SQLite's own locks
// must stay shareable between the connections of this process.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "dash.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder := "another process"
		if b, rerr := os.ReadFile(path); rerr == nil {
			if pid := strings.TrimSpace(string(b)); pid != "" {
				holder = "process " + pid
			}
		}
		err = errors.Join(&LockedError{Dir: dir, Holder: holder, Err: err}, f.Close())
		return nil, err
	}
	if err := writePID(f); err != nil {
		return nil, errors.Join(fmt.Errorf("lock data folder: %w", err), f.Close())
	}
	return f, nil
}

// unlock gives the folder back. Closing alone would not: a child that another
// goroutine has forked a moment ago holds a copy of the descriptor until it
// becomes its program.
func unlock(f *os.File) error {
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// LockedError says that another process has the data folder open.
type LockedError struct {
	Dir    string
	Holder string // "process 123"
	Err    error
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("data folder %s is in use by %s: the embedded store serves one process at a time; stop that process, or start this one with another --data folder", e.Dir, e.Holder)
}

func (e *LockedError) Unwrap() error { return e.Err }
