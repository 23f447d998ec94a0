package sqlite

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/dash-fleet/dash/persistence"
	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// unavailable wraps what the driver reported as ErrUnavailable, except for
// constraint violations, which are never the disk's fault.
func unavailable(step string, err error) error {
	if err == nil {
		return nil
	}
	if code(err)&0xff == lib.SQLITE_CONSTRAINT {
		return fmt.Errorf("%s: %w", step, err)
	}
	if isDamage(err) {
		err = &DamagedError{Err: err}
	}
	return fmt.Errorf("%s: %w: %w", step, persistence.ErrUnavailable, err)
}

// openFree is more than opening a store needs.
const openFree = 1 << 20

// FullError says that the store could not be opened as its disk is full.
type FullError struct {
	Dir string
	Err error
}

func (e *FullError) Error() string { return "the disk of " + e.Dir + " is full: " + e.Err.Error() }
func (e *FullError) Unwrap() error { return e.Err }

// asFull makes err a *FullError where the disk has no room to open a store. On
// such a disk SQLite reports an I/O error, which says nothing of its cause.
func asFull(dir string, err error) error {
	free, failed := freeBytes(dir)
	if errors.Is(err, unix.ENOSPC) || failed == nil && free < openFree && (code(err)&0xff == lib.SQLITE_IOERR || code(err)&0xff == lib.SQLITE_FULL) {
		return &FullError{Dir: dir, Err: err}
	}
	return err
}

// DamagedError says that the database is not what SQLite has written. Whatever
// is read from undamaged pages is right; the store neither repairs nor guesses.
type DamagedError struct{ Err error }

func (e *DamagedError) Error() string { return "the database is damaged: " + e.Err.Error() }
func (e *DamagedError) Unwrap() error { return e.Err }

func isDamage(err error) bool {
	c := code(err) & 0xff
	return c == lib.SQLITE_CORRUPT || c == lib.SQLITE_NOTADB
}

// asDamage makes err a *DamagedError if it tells of damage and is none yet.
func asDamage(err error) error {
	var known *DamagedError
	if !isDamage(err) || errors.As(err, &known) {
		return err
	}
	return &DamagedError{Err: err}
}

// code is the extended SQLite result code of err, 0 if it has none.
func code(err error) int {
	var e *driver.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

func isUnique(err error) bool {
	c := code(err)
	return c == lib.SQLITE_CONSTRAINT_UNIQUE || c == lib.SQLITE_CONSTRAINT_PRIMARYKEY
}

func isForeignKey(err error) bool { return code(err) == lib.SQLITE_CONSTRAINT_FOREIGNKEY }
