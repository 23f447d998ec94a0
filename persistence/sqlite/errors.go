package sqlite

import (
	"errors"
	"fmt"

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
	return fmt.Errorf("%s: %w: %w", step, persistence.ErrUnavailable, err)
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
