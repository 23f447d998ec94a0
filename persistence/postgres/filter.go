package postgres

import (
	"slices"
	"strconv"
	"strings"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// taskQuery is the FROM and WHERE of a filter.
type taskQuery struct {
	terms []string
	args  []any
}

// where adds a term; each $ in it is one of args.
func (q *taskQuery) where(term string, args ...any) {
	for _, a := range args {
		q.args = append(q.args, a)
		term = strings.Replace(term, "$", "\x00"+strconv.Itoa(len(q.args)), 1)
	}
	q.terms = append(q.terms, strings.ReplaceAll(term, "\x00", "$"))
}

func (q *taskQuery) from() string {
	if len(q.terms) == 0 {
		return " FROM tasks"
	}
	return " FROM tasks WHERE " + strings.Join(q.terms, " AND ")
}

// filter repeats the predicates of the partial indexes, so that the planner may
// use them.
func filter(f *persistence.TaskFilter) *taskQuery {
	q := candidates(f)
	if f.IDBegin != "" {
		from, to := f.IDRange()
		q.where("id >= $ AND id < $", from, to)
	}
	if f.IDEnd != "" {
		q.where("right(id, $) = $", len(f.IDEnd), f.IDEnd)
	}
	return q
}

// byBegin narrows by the index of ids alone, for a begin that few tasks have.
func (q *taskQuery) byBegin(f *persistence.TaskFilter) {
	from, to := f.IDRange()
	q.where("no = ANY (ARRAY (SELECT b.no FROM tasks b WHERE b.id >= $ AND b.id < $))", from, to)
}

// between bounds no: from <= no < before, where 0 is no bound.
func (q *taskQuery) between(from, before int64) {
	if from > 0 {
		q.where("no >= $", from)
	}
	if before > 0 {
		q.where("no < $", before)
	}
}

// candidates leaves the ids out.
func candidates(f *persistence.TaskFilter) *taskQuery {
	q := &taskQuery{}
	if f.Session != "" {
		q.where("session <> '' AND session = $", f.Session)
	}
	if f.Code != "" {
		q.where("code IS NOT NULL AND code = $", f.Code)
	}
	q.states(f.States)
	if f.Gateway != "" {
		q.where("gateway = $", f.Gateway)
	}
	if f.Tenant != "" {
		q.where("tenant = $", f.Tenant)
		if f.Tenant != messages.DefaultTenant {
			q.where("tenant <> 'default'")
		}
	}
	if f.Pool != "" {
		q.where("pool = $", f.Pool)
		if f.Pool != messages.DefaultPool {
			q.where("pool <> 'default'")
		}
	}
	if f.Class != 0 {
		q.where("class = $", int16(f.Class))
	}
	switch {
	case f.LabelKey == "":
	case f.LabelVal == "":
		q.where("no IN (SELECT l.no FROM task_labels l WHERE l.key = $)", []byte(f.LabelKey))
	default:
		q.where("no IN (SELECT l.no FROM task_labels l WHERE l.key = $ AND sha256(l.value) = sha256($) AND l.value = $)",
			[]byte(f.LabelKey), []byte(f.LabelVal), []byte(f.LabelVal))
	}
	// created_at <= no <= created_at+drift
	if !f.After.IsZero() {
		q.where("created_at > $ AND no > $", f.After.UnixMicro(), f.After.UnixMicro())
	}
	if !f.Before.IsZero() {
		q.where("created_at < $ AND no < $ + (SELECT drift FROM counters)", f.Before.UnixMicro(), f.Before.UnixMicro())
	}
	return q
}

// states names the open index for open states and the index of what did not
// end well for those. Succeeded is what most rows are: no index helps.
func (q *taskQuery) states(states []messages.TaskState) {
	if len(states) == 0 {
		return
	}
	list := make([]int16, len(states))
	for i, s := range states {
		list[i] = int16(s)
	}
	q.where("state = ANY ($)", list)
	switch {
	case !slices.ContainsFunc(states, messages.TaskState.Terminal):
		q.where("open")
	case !slices.ContainsFunc(states, func(s messages.TaskState) bool { return s <= messages.Succeeded }):
		q.where("failed IS NOT NULL AND failed = ANY ($)", list)
	}
}
