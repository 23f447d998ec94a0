package sqlite

import (
	"database/sql/driver"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// TestPlans checks that no list sorts or scans more than it must: every filter
// walks an index, or along no, already in the order of the page.
func TestPlans(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{})
	defer closeDB(t, db)
	for name, want := range map[string]struct {
		filter persistence.TaskFilter
		plan   string
		sorts  bool
	}{
		"all":       {persistence.TaskFilter{}, "SCAN tasks", false},
		"tenant":    {persistence.TaskFilter{Tenant: "acme"}, "INDEX tasks_tenant (tenant=?)", false},
		"pool":      {persistence.TaskFilter{Pool: "p2"}, "INDEX tasks_pool (pool=?)", false},
		"session":   {persistence.TaskFilter{Session: "s", Tenant: "acme"}, "INDEX tasks_session (session=?)", false},
		"gateway":   {persistence.TaskFilter{Gateway: "g"}, "INDEX tasks_gateway (gateway=?)", false},
		"code":      {persistence.TaskFilter{Code: "c", States: []messages.TaskState{messages.DeadLetter}}, "INDEX tasks_code (code=?)", false},
		"dead":      {persistence.TaskFilter{States: []messages.TaskState{messages.DeadLetter}}, "INDEX tasks_failed (state=?)", false},
		"succeeded": {persistence.TaskFilter{States: []messages.TaskState{messages.Succeeded}}, "SCAN tasks", false},
		"after":     {persistence.TaskFilter{After: time.Now()}, "INTEGER PRIMARY KEY (rowid>?)", false},
		"between":   {persistence.TaskFilter{After: time.Now(), Before: time.Now()}, "INTEGER PRIMARY KEY (rowid>? AND rowid<?)", false},
		"label":     {persistence.TaskFilter{LabelKey: "k", LabelVal: "v"}, "INDEX task_labels_value (key=? AND value=?)", false},
		// Open tasks are few beside the finished: these are sorted.
		"open in pool": {persistence.TaskFilter{Pool: "p2", States: []messages.TaskState{messages.Running}}, "INDEX tasks_open (pool=?)", true},
		"open":         {persistence.TaskFilter{States: []messages.TaskState{messages.Running}}, "INDEX tasks_open", true},
	} {
		q := db.filter(&want.filter)
		plan := explain(t, db, `SELECT no`+q.from()+` ORDER BY no DESC LIMIT 10`, q.args...)
		if !strings.Contains(plan, want.plan) || strings.Contains(plan, "TEMP B-TREE") != want.sorts {
			t.Errorf("%s: plan\n%s", name, plan)
		}
	}
	for i, text := range statements {
		if strings.HasPrefix(text, "UPDATE tasks") || strings.HasPrefix(text, "SELECT no, id, ten") {
			if plan := explain(t, db, text, make([]any, strings.Count(text, "?"))...); strings.Contains(plan, "SCAN") {
				t.Errorf("statement %d: plan\n%s", i, plan)
			}
		}
	}
}

func explain(t *testing.T, db *DB, query string, args ...any) string {
	t.Helper()
	var plan []string
	err := db.readRows(t.Context(), func(v []driver.Value) error {
		plan = append(plan, text(v[3]))
		return nil
	}, 4, `EXPLAIN QUERY PLAN `+query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return strings.Join(plan, "\n")
}

// TestLogIsBounded pins the log with a reader until it has outgrown its bound
// and checks that it starts over once the reader is gone.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{WALBytes: 1 << 20})
	defer closeDB(t, db)
	fill := func() int64 {
		for range 20 {
			ops := make([]persistence.Op, 20)
			for i := range ops {
				ops[i] = bigOp(4000)
			}
			mustCommit(t, db, ops)
		}
		return walSize(t, db)
	}
	tx, err := db.read.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRowContext(t.Context(), `SELECT count(*) FROM tasks`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	pinned := fill()
	db.ckpt.once(t.Context())
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if pinned <= db.cfg.WALBytes || !db.w.needRestart.Load() {
		t.Fatalf("log of %d bytes, restart asked for: %v", pinned, db.w.needRestart.Load())
	}
	if after := fill(); after > pinned*3/2 { // twice without
		t.Errorf("the log grew from %d to %d bytes instead of starting over", pinned, after)
	}
}

// TestCacheIsBounded checks that the compare fields of more open tasks than fit
// are read back, and that finished tasks leave the cache.
func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{CacheTasks: 10})
	defer closeDB(t, db)
	var tasks []messages.Task
	for range 50 {
		op := bigOp(10)
		tasks = append(tasks, op.Insert.Task)
		mustCommit(t, db, []persistence.Op{op})
	}
	if n := len(db.w.hot); n != 10 {
		t.Errorf("%d entries", n)
	}
	for _, a := range tasks {
		a.State, a.FinishedAt = messages.Expired, messages.Now()
		mustCommit(t, db, []persistence.Op{{Update: &persistence.TaskUpdate{Task: a, From: messages.Queued}}})
	}
	if n := len(db.w.hot); n != 0 {
		t.Errorf("%d entries of finished tasks", n)
	}
}
