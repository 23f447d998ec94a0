package sqlite

import (
	"database/sql/driver"
	"slices"
	"testing"

	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/backup/backuptest"
)

type backups struct{}

// New implements backuptest.Engine.
func (backups) New(t testing.TB) backuptest.Store { return blank(t.TempDir()).Open(t) }

// Blank implements backuptest.Engine.
func (backups) Blank(t testing.TB) backuptest.Blank { return blank(t.TempDir()) }

type blank string

func (b blank) Target(t testing.TB) persistence.Restorer {
	t.Helper()
	target, err := OpenTarget(t.Context(), string(b))
	if err != nil {
		t.Fatalf("open target: %v", err)
	}
	return target
}

func (b blank) Open(t testing.TB) backuptest.Store {
	t.Helper()
	e := &engine{db: openTest(t, Config{Dir: string(b)})}
	t.Cleanup(func() { closeDB(t, e.db) })
	return e
}

func (e *engine) Source(t testing.TB) persistence.Snapshotter {
	t.Helper()
	s, err := OpenSource(t.Context(), e.db.cfg.Dir)
	if err != nil {
		t.Fatalf("open source: %v", err)
	}
	return s
}

func TestBackup(t *testing.T) {
	t.Parallel()
	backuptest.Run(t, backups{})
}

// TestBackupKnowsEveryTable: a table that is added is backed up, or is named
// here with what it follows from.
func TestBackupKnowsEveryTable(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{})
	defer closeDB(t, db)
	derived := []string{
		"schema_migrations", "schema_compat", // the restoring dash has its own
		"counters",                  // events and tasks
		"task_specs", "task_labels", // tasks
		"audit_head", // audit
	}
	var unknown []string
	err := db.readRows(t.Context(), func(v []driver.Value) error {
		name := text(v[0])
		known := slices.ContainsFunc(backupTables, func(b backupTable) bool { return b.table == name })
		if !known && !slices.Contains(derived, name) {
			unknown = append(unknown, name)
		}
		return nil
	}, 1, `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`)
	if err != nil {
		t.Fatal(err)
	}
	if len(unknown) > 0 {
		t.Errorf("tables that no backup holds: %v", unknown)
	}
}
