package sqlite

import (
	"database/sql/driver"
	"fmt"
	"testing"
)

// TestSettingsOfTheWriter: the promise that what is acknowledged survives a loss
// of power rests on them, and no test can pull the plug.
func TestSettingsOfTheWriter(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{})
	defer closeDB(t, db)
	w := db.w
	if err := w.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer w.release()
	for pragma, want := range map[string]string{
		"synchronous":        "2", // FULL: a commit ends with a sync of the log
		"journal_mode":       "wal",
		"foreign_keys":       "1",
		"wal_autocheckpoint": "0", // no commit waits for one
	} {
		var got string
		err := w.conn.query("PRAGMA "+pragma, func(v []driver.Value) error { got = fmt.Sprint(v[0]); return nil })
		if err != nil || got != want {
			t.Errorf("%s is %s (%v), want %s", pragma, got, err, want)
		}
	}
}
