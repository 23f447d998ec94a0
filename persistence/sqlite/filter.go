package sqlite

import (
	"slices"
	"strings"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// taskQuery is the FROM and WHERE of a filter. It names the index to use: all
// have no as their next column, so a page ends after limit matches however
// many finished tasks there are.
type taskQuery struct {
	index string
	terms []string
	args  []any
}

func (q *taskQuery) where(term string, args ...any) {
	q.terms = append(q.terms, term)
	q.args = append(q.args, args...)
}

func (q *taskQuery) from() string {
	s := " FROM tasks"
	switch q.index {
	case "":
		s += " NOT INDEXED" // along no
	default:
		s += " INDEXED BY " + q.index
	}
	if len(q.terms) > 0 {
		s += " WHERE " + strings.Join(q.terms, " AND ")
	}
	return s
}

// use names the index unless a narrower one was named before.
func (q *taskQuery) use(index string) {
	if q.index == "" {
		q.index = index
	}
}

func (db *DB) filter(f *persistence.TaskFilter) *taskQuery {
	q := db.candidates(f)
	if f.IDBegin != "" {
		from, to := f.IDRange()
		q.where("id >= ? AND id < ?", from, to)
	}
	if f.IDEnd != "" {
		q.where("substr(id, -?) = ?", len(f.IDEnd), f.IDEnd)
	}
	return q
}

// byBegin narrows by the index of ids alone, for a begin that few tasks have.
func (q *taskQuery) byBegin(f *persistence.TaskFilter) {
	from, to := f.IDRange()
	q.where("no IN (SELECT b.no FROM tasks b INDEXED BY tasks_id WHERE b.id >= ? AND b.id < ?)", from, to)
	q.index = ""
}

// candidates leaves the ids out.
func (db *DB) candidates(f *persistence.TaskFilter) *taskQuery {
	q := &taskQuery{}
	if f.Session != "" {
		q.where("session <> '' AND session = ?", f.Session)
		q.use("tasks_session")
	}
	if f.Code != "" {
		q.where("code <> '' AND code = ?", f.Code)
		q.use("tasks_code")
	}
	q.states(f.States)
	if f.Gateway != "" {
		q.where("gateway <> '' AND gateway = ?", f.Gateway)
		q.use("tasks_gateway")
	}
	if f.Tenant != "" {
		q.where("tenant = ?", f.Tenant)
		if f.Tenant != messages.DefaultTenant {
			q.where("tenant <> 'default'")
			q.use("tasks_tenant")
		}
	}
	if f.Pool != "" {
		q.where("pool = ?", f.Pool)
		if f.Pool != messages.DefaultPool && q.index != "tasks_open" {
			q.where("pool <> 'default'")
			q.use("tasks_pool")
		}
	}
	if f.Class != 0 {
		q.where("class = ?", int64(f.Class))
	}
	q.labels(f)
	db.times(q, f)
	return q
}

// states uses the open index for open states and the index of what did not
// succeed for the others. Succeeded is what most rows are: no index helps.
func (q *taskQuery) states(states []messages.TaskState) {
	if len(states) == 0 {
		return
	}
	marks := strings.TrimSuffix(strings.Repeat("?,", len(states)), ",")
	args := make([]any, len(states))
	for i, s := range states {
		args[i] = int64(s)
	}
	q.where("state IN ("+marks+")", args...)
	open := func(s messages.TaskState) bool { return !s.Terminal() }
	failed := func(s messages.TaskState) bool { return s > messages.Succeeded }
	switch {
	case !slices.ContainsFunc(states, func(s messages.TaskState) bool { return !open(s) }):
		q.where("open = 1")
		q.use("tasks_open")
	case !slices.ContainsFunc(states, func(s messages.TaskState) bool { return !failed(s) }):
		q.where("state >= 10")
		q.use("tasks_failed")
	}
}

// labels narrows by the label index; without another index the matching rows
// are looked up one by one.
func (q *taskQuery) labels(f *persistence.TaskFilter) {
	if f.LabelKey == "" {
		return
	}
	in := "SELECT l.no FROM task_labels l WHERE l.key = ?"
	args := []any{f.LabelKey}
	if f.LabelVal != "" {
		in, args = in+" AND l.value = ?", append(args, f.LabelVal)
	}
	q.where("no IN ("+in+")", args...)
}

// between bounds no: from <= no < before, where 0 is no bound.
func (q *taskQuery) between(from, before int64) {
	if from > 0 {
		q.where("no >= ?", from)
	}
	if before > 0 {
		q.where("no < ?", before)
	}
}

// times bounds no by the creation times: created_at <= no <= created_at+drift.
func (db *DB) times(q *taskQuery, f *persistence.TaskFilter) {
	if !f.After.IsZero() {
		q.where("created_at > ? AND no > ?", f.After.UnixMicro(), f.After.UnixMicro())
	}
	if !f.Before.IsZero() {
		q.where("created_at < ? AND no < ? + (SELECT drift FROM counters)", f.Before.UnixMicro(), f.Before.UnixMicro())
	}
}
