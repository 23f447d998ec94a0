package redis

import (
	"strings"
	"testing"

	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/backup"
	"github.com/dash-fleet/dash/persistence/backup/backuptest"
	"github.com/dash-fleet/dash/persistence/sqlite"
	"github.com/dash-fleet/dash/persistence/testserver"
)

type backups struct{ server *testserver.RedisServer }

// New implements backuptest.Engine.
func (b backups) New(t testing.TB) backuptest.Store { return b.Blank(t).Open(t) }

// Blank implements backuptest.Engine.
func (b backups) Blank(t testing.TB) backuptest.Blank {
	return blank{Config{URL: b.server.Database(t)}, t.TempDir()}
}

// blank is a Redis store with accounts in another engine.
type blank struct {
	cfg Config
	dir string
}

func (b blank) Target(t testing.TB) persistence.Restorer {
	t.Helper()
	queue, err := OpenTarget(t.Context(), b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	accounts, err := sqlite.OpenTarget(t.Context(), b.dir)
	if err != nil {
		t.Fatal(err)
	}
	return backup.JoinTargets(queue, accounts)
}

func (b blank) Open(t testing.TB) backuptest.Store {
	t.Helper()
	e := &engine{dir: b.dir}
	e.open(t, b.cfg)
	t.Cleanup(func() {
		if !t.Failed() {
			whole(t, e.db)
		}
		closeDB(t, e.db)
		if err := e.side.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

// Source implements backuptest.Store.
func (e *engine) Source(t testing.TB) persistence.Snapshotter {
	t.Helper()
	queue, err := OpenSource(t.Context(), e.db.cfg)
	if err != nil {
		t.Fatal(err)
	}
	accounts, err := sqlite.OpenSource(t.Context(), e.dir)
	if err != nil {
		t.Fatal(err)
	}
	return backup.Join(queue, accounts)
}

func TestBackup(t *testing.T) {
	t.Parallel()
	backuptest.Run(t, backups{testserver.Redis(t)})
}

// TestHalfRestored: a store that a killed restore left is not opened, and the
// next restore begins anew.
func TestHalfRestored(t *testing.T) {
	t.Parallel()
	cfg := Config{URL: testserver.Redis(t).Database(t)}
	target, err := OpenTarget(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := target.Close(); err != nil {
			t.Error(err)
		}
	}()
	_, err = target.Restore(t.Context(), persistence.Mark{}, func(yield func(any, error) bool) {
		for _, id := range []string{"a", "b"} {
			if !yield(&persistence.PoolSeq{Pool: id, Seq: 1}, nil) {
				t.Error("the restore ended early")
			}
		}
		// Another process looks while the restore is under way.
		if db, err := Open(t.Context(), cfg); err == nil {
			closeDB(t, db)
			t.Error("a store that is being filled was opened")
		} else if !strings.Contains(err.Error(), "is being restored") {
			t.Errorf("open while it is filled: %v", err)
		}
		if _, err := target.Restore(t.Context(), persistence.Mark{}, nil); err == nil || !strings.Contains(err.Error(), "another restore") {
			t.Errorf("a second restore at once: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, r := t.Context(), target.db.writer
	if err := r.HSet(ctx, target.db.key("meta"), "dataset", restoring+"gone").Err(); err != nil {
		t.Fatal(err)
	}
	counts, err := target.Restore(ctx, persistence.Mark{Seq: 9}, func(func(any, error) bool) {})
	if err != nil || len(counts) != 0 {
		t.Errorf("restore over what a killed one left: %v, %v", counts, err)
	}
}
