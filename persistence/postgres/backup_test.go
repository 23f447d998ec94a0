package postgres

import (
	"slices"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/backup/backuptest"
)

type backups struct{}

// New implements backuptest.Engine.
func (backups) New(t testing.TB) backuptest.Store { return blank{testConfig(t)}.Open(t) }

// Blank implements backuptest.Engine.
func (backups) Blank(t testing.TB) backuptest.Blank { return blank{testConfig(t)} }

type blank struct{ cfg Config }

func (b blank) Target(t testing.TB) persistence.Restorer {
	t.Helper()
	target, err := OpenTarget(t.Context(), b.cfg)
	if err != nil {
		t.Fatalf("open target: %v", err)
	}
	return target
}

func (b blank) Open(t testing.TB) backuptest.Store {
	t.Helper()
	return opened{openTest(t, b.cfg)}
}

type opened struct{ *DB }

func (o opened) Source(t testing.TB) persistence.Snapshotter {
	t.Helper()
	s, err := OpenSource(t.Context(), o.cfg)
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
	db := openTest(t, testConfig(t))
	derived := []string{
		"schema_migrations", "schema_compat", // the restoring dash has its own
		"writers", "nodes", // of processes
		"counters",    // events and tasks
		"task_labels", // tasks
		"audit_head",  // audit
		// What a store in Redis is rebuilt from: its restore feeds them again.
		"task_history", "task_history_mark",
	}
	var unknown []string
	err := db.rows(t.Context(), func(v [][]byte) error {
		name := string(v[0])
		known := slices.ContainsFunc(backupTables, func(b backupTable) bool { return b.table == name })
		if !known && !slices.Contains(derived, name) {
			unknown = append(unknown, name)
		}
		return nil
	}, `SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()`)
	if err != nil {
		t.Fatal(err)
	}
	if len(unknown) > 0 {
		t.Errorf("tables that no backup holds: %v", unknown)
	}
}

// TestRestoreRefusesLiveNodes: nothing is restored below running nodes.
func TestRestoreRefusesLiveNodes(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	db := openTest(t, cfg)
	if _, err := db.Renew(t.Context(), messages.Node{ID: "n1"}, leaseOfTest); err != nil {
		t.Fatal(err)
	}
	target := blank{cfg}.Target(t)
	defer func() {
		if err := target.Close(); err != nil {
			t.Error(err)
		}
	}()
	_, err := target.Restore(t.Context(), persistence.Mark{}, func(func(any, error) bool) { t.Error("rows were read") })
	if err == nil || !strings.Contains(err.Error(), "1 nodes of dash run on this database") {
		t.Errorf("restore below a node: %v", err)
	}
}

// TestBackupOfNothing: the error says that the database is the wrong one.
func TestBackupOfNothing(t *testing.T) {
	t.Parallel()
	s, err := OpenSource(t.Context(), testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := s.Snapshot(t.Context()); err == nil || !strings.Contains(err.Error(), "no store of dash") {
		t.Errorf("snapshot of an empty database: %v", err)
	}
	if _, err := OpenSource(t.Context(), Config{URL: messages.Secret("postgres://x:secret@127.0.0.1:1/x")}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("no server: %v", err)
	}
}

const leaseOfTest = 60e9
