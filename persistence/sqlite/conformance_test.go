package sqlite

import (
	"testing"

	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/storetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if chaosChild() {
		return
	}
	goleak.VerifyTestMain(m)
}

type engine struct{ db *DB }

func (e *engine) Store() persistence.Store               { return e.db.Store() }
func (e *engine) Repositories() persistence.Repositories { return e.db.Repositories() }

func (e *engine) Restart(t testing.TB) {
	t.Helper()
	if err := e.db.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	db, err := Open(t.Context(), e.db.cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	e.db = db
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"defaults": {},
		// Compares read the rows, and the log starts over all the time.
		"small": {CacheTasks: 1, WALBytes: 1, Readers: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(t testing.TB) storetest.Engine {
				e := &engine{db: openTest(t, cfg)}
				t.Cleanup(func() { closeDB(t, e.db) })
				return e
			})
		})
	}
}

// openTest opens a store in a folder of its own unless cfg names one. The
// caller closes it.
func openTest(t testing.TB, cfg Config) *DB {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	db, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return db
}
