package postgres

import (
	"testing"

	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/storetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type engine struct {
	t  testing.TB
	db *DB
}

func (e *engine) Store() persistence.Store               { return e.db.Store() }
func (e *engine) Repositories() persistence.Repositories { return e.db.Repositories() }

func (e *engine) SharedLeases() {}

func (e *engine) Restart(t testing.TB) {
	t.Helper()
	if err := e.db.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	e.db = openTest(e.t, e.db.cfg)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) storetest.Engine { return &engine{t, openTest(t, testConfig(t))} })
}
