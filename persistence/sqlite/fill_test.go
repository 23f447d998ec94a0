package sqlite

import (
	"bytes"
	"database/sql/driver"
	"os"
	"path/filepath"
	"testing"

	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/storetest"
)

// TestFilledLog commits while the log is being filled and checks that it gets
// its length, that the store then writes over the zeros instead of behind them,
// and that a log with zeros behind its last frame is read back whole, as after
// a kill.
func TestFilledLog(t *testing.T) {
	t.Parallel()
	const bound = 3<<20 + 100
	db := openTest(t, Config{WALBytes: bound})
	defer closeDB(t, db)
	n := 0
	write := func() {
		n++
		mustCommit(t, db, []persistence.Op{bigOp(4000)})
	}
	fill := startFiller(t.Context(), db.cfg, db.w)
	defer fill.stop()
	for filling := true; filling; write() {
		select {
		case <-fill.done:
			filling = false
		default:
		}
	}
	size := walSize(t, db)
	if free, err := freeBytes(db.cfg.Dir); err != nil || free < fillFree {
		t.Fatalf("%d bytes free, %v: this test needs %d", free, err, fillFree)
	}
	if size < bound {
		t.Fatalf("the log has %d bytes, want at least %d", size, bound)
	}
	write()
	if after := walSize(t, db); after != size && size == bound {
		t.Errorf("the log grew from %d to %d bytes", size, after)
	}

	copied := t.TempDir()
	for _, name := range []string{FileName, FileName + "-wal"} {
		data, err := os.ReadFile(filepath.Join(db.cfg.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if name != FileName && size == bound && !bytes.HasSuffix(data, make([]byte, 1000)) {
			t.Fatal("no zeros behind the last frame: nothing is tested")
		}
		if err := os.WriteFile(filepath.Join(copied, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again := openTest(t, Config{Dir: copied, WALBytes: 1})
	defer closeDB(t, again)
	got, err := storetest.Count(t.Context(), again, persistence.TaskFilter{})
	if err != nil || got != n {
		t.Errorf("%d tasks of %d, %v", got, n, err)
	}
	check, err := again.w.conn.textOf(`PRAGMA integrity_check`)
	if err != nil || check != "ok" {
		t.Errorf("integrity: %s, %v", check, err)
	}
}

func (c *conn) textOf(q string) (s string, err error) {
	err = c.query(q, func(v []driver.Value) error { s = text(v[0]); return nil })
	return s, err
}
