package postgres

import (
	"slices"
	"strings"
	"sync"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// request is a batch as it is sent: the parameters of commit_batch_v1, of which
// the migration says what each holds.
type request struct {
	fences    []messages.Fence // sorted, each once
	fenceRows array

	inserts, updates, cancels, labels array
	made                              int // inserts to make; other rows of inserts only look
	minCreated, maxCreated            int64

	sessions, statuses, seqs array

	// Events: by op its group, how many it has and their bytes; the same by row
	// of the log (part), of which the last is still open.
	events                               []byte
	eventGroups, eventCounts, eventSizes array
	partCounts, partSizes                array
	openEvents, openBytes                int

	ops   int   // ops of the batch
	hard  array // groups without which nothing may be written
	want  array // groups whose rows are returned in any case
	check bool  // look at the expectations before writing
}

// requestPool keeps the memory of requests that have been sent.
var requestPool = sync.Pool{New: func() any { return &request{} }}

func (r *request) reset() {
	r.fences, r.events = r.fences[:0], r.events[:0]
	for _, a := range []*array{
		&r.fenceRows, &r.inserts, &r.updates, &r.cancels, &r.labels, &r.sessions, &r.statuses, &r.seqs,
		&r.eventGroups, &r.eventCounts, &r.eventSizes, &r.partCounts, &r.partSizes, &r.hard, &r.want,
	} {
		a.b, a.n = a.b[:0], 0
	}
	r.made, r.minCreated, r.maxCreated = 0, 0, 0
	r.openEvents, r.openBytes = 0, 0
	r.ops, r.check = 0, false
}

// newRequest encodes a plan. stored tells the greatest queue number of a
// pool that is stored for certain.
func newRequest(p *plan, stored func(pool string) int64) (*request, error) {
	r := requestPool.Get().(*request)
	r.reset()
	r.ops = len(p.ops)
	r.addFences(p)
	if err := r.addTasks(p); err != nil {
		return nil, err
	}
	r.addUnnamed(p)
	if err := r.addSessions(p); err != nil {
		return nil, err
	}
	if err := r.addStatuses(p); err != nil {
		return nil, err
	}
	if err := r.addOps(p, stored); err != nil {
		return nil, err
	}
	return r, nil
}

func compareFences(a, b messages.Fence) int {
	switch {
	case a.Scope != b.Scope:
		return int(a.Scope) - int(b.Scope)
	case a.Key != b.Key:
		return strings.Compare(a.Key, b.Key)
	case a.Owner != b.Owner:
		return strings.Compare(a.Owner, b.Owner)
	}
	return int(max(min(a.Epoch-b.Epoch, 1), -1))
}

func (r *request) addFences(p *plan) {
	var last []messages.Fence // ops mostly share the slice of the op before
	for i := range p.ops {
		f := p.ops[i].Fences
		if p.skip[i] || len(f) == 0 || (len(f) == len(last) && &f[0] == &last[0]) {
			continue
		}
		last = f
		for _, f := range f {
			at, found := slices.BinarySearchFunc(r.fences, f, compareFences)
			if !found {
				r.fences = slices.Insert(r.fences, at, f)
			}
		}
	}
	a := &r.fenceRows
	for _, f := range r.fences {
		a.row(4)
		a.i2(int(f.Scope))
		a.text(f.Key)
		a.text(f.Owner)
		a.i8(f.Epoch)
		a.end()
	}
}

// addOps writes what goes by op: events, queue numbers, groups.
func (r *request) addOps(p *plan, stored func(pool string) int64) (err error) {
	for i := range p.ops {
		if p.skip[i] {
			continue
		}
		op, group := &p.ops[i], p.group(i)
		if group == i && !p.easy(i) {
			r.hard.int4(group)
		}
		if p.want[i] {
			r.want.int4(group)
			r.check = true
		}
		if p.outcomes[i].Status != persistence.OK {
			continue
		}
		var t *messages.Task
		switch {
		case op.Insert != nil:
			t = &op.Insert.Task
		case op.Update != nil:
			t = &op.Update.Task
		}
		if t != nil && t.Seq > stored(t.Pool) {
			r.seqs.row(3)
			r.seqs.i4(group)
			r.seqs.text(t.Pool)
			r.seqs.i8(t.Seq)
			r.seqs.end()
		}
		if len(op.Events) > 0 {
			if err := r.addEvents(group, op.Events); err != nil {
				return err
			}
		}
	}
	r.endPart()
	return nil
}

// easy says whether the group of op i, whose first op it is, may be left out
// when it does not fit: a single op of which nothing is to be written then.
func (p *plan) easy(i int) bool {
	op := &p.ops[i]
	return p.size[i] == 1 && !p.knows(i) && (op.Cancel == nil || (op.Session == nil && op.Gateway == nil && len(op.Events) == 0))
}
