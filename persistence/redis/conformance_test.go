package redis

import (
	"context"
	"testing"

	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/sqlite"
	"github.com/dash-fleet/dash/persistence/storetest"
	"github.com/dash-fleet/dash/persistence/testserver"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// engine is the Redis store beside repositories of another engine, as in the
// product.
type engine struct {
	db   *DB
	side *sqlite.DB
	dir  string
}

func (e *engine) Store() persistence.Store               { return e.db.Store() }
func (e *engine) Repositories() persistence.Repositories { return e.side.Repositories() }

// SharedLeases says that leases are those of several processes.
func (e *engine) SharedLeases() {}

func (e *engine) Restart(t testing.TB) {
	t.Helper()
	if err := e.db.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	if err := e.side.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	e.open(t, e.db.cfg)
}

func (e *engine) open(t testing.TB, cfg Config) {
	t.Helper()
	var err error
	if e.side, err = sqlite.Open(t.Context(), sqlite.Config{Dir: e.dir}); err != nil {
		t.Fatalf("open: %v", err)
	}
	if e.db, err = Open(t.Context(), cfg); err != nil {
		t.Fatalf("open: %v", err)
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	storetest.Run(t, func(t testing.TB) storetest.Engine {
		e := &engine{dir: t.TempDir()}
		e.open(t, Config{URL: server.Database(t)})
		t.Cleanup(func() {
			if t.Failed() {
				t.Log("not checked, as the test has failed")
			} else {
				whole(t, e.db)
			}
			closeDB(t, e.db)
			if err := e.side.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		return e
	})
}

func openTest(t testing.TB, cfg Config) *DB {
	t.Helper()
	db, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return db
}

func closeDB(t testing.TB, db *DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// whole fails the test if rows and indexes have drifted apart.
func whole(t testing.TB, db *DB) {
	t.Helper()
	problems, err := db.Check(context.Background())
	if err != nil {
		t.Errorf("check: %v", err)
	}
	for _, p := range problems {
		t.Error(p)
	}
}
