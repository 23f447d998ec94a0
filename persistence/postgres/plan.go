package postgres

import (
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// plan is a batch played through in memory before it is sent: each op against
// what the ops before it leave. Where a row is not known, the first op that
// looks at it says what it must be like (its expectation), and is taken to be
// right. The server checks the expectations and writes each row once, with what
// the last op leaves. So several steps of one task in one batch are one write,
// and the order inside the batch costs nothing.
//
// Ops that touch a common row form a group. If an expectation fails, the server
// leaves the group out and returns its rows; of a single op that settles the
// outcome, and for others the batch is played again with the rows known.
type plan struct {
	// By op.
	ops      []persistence.Op
	skip     []bool // settled already
	outcomes []persistence.Outcome
	want     []bool  // the outcome needs the stored row
	parent   []int32 // another op of the group, itself: first found of it (union-find)
	size     []int32 // ops in the group, right where the op is its own parent

	known *knownRows // what the server returned to an earlier try, if any

	// The rows that the ops touch.
	tasks    map[string]*taskNode
	order    []*taskNode // the same, as they were met
	keys     map[idemKey]*keyNode
	sessions map[sessionKey]*sessionNode
	statuses map[string]*statusNode
	looks    []look
}

// play settles the ops as far as it can be done without the server.
func play(ops []persistence.Op, skip []bool, known *knownRows) *plan {
	p := &plan{
		ops: ops, skip: skip, known: known, outcomes: make([]persistence.Outcome, len(ops)), parent: make([]int32, len(ops)),
		size: make([]int32, len(ops)), want: make([]bool, len(ops)), tasks: make(map[string]*taskNode, len(ops)), order: make([]*taskNode, 0, len(ops)),
	}
	for i := range ops {
		p.parent[i], p.size[i] = int32(i), 1
	}
	for i := range ops {
		if !skip[i] {
			p.outcomes[i] = p.apply(i, &ops[i])
		}
	}
	return p
}

// group names the group of an op by one of its ops, always the same.
func (p *plan) group(op int) int {
	for int(p.parent[op]) != op {
		p.parent[op] = p.parent[p.parent[op]]
		op = int(p.parent[op])
	}
	return op
}

func (p *plan) join(a, b int) {
	if a, b = p.group(a), p.group(b); a != b {
		p.parent[b] = int32(a)
		p.size[a] += p.size[b]
	}
}

// knows says whether the rows that op i touches were returned by the server.
func (p *plan) knows(i int) bool { return p.known != nil && p.known.ops[i] }

// apply plays op i: whether it fits, and then what it leaves.
func (p *plan) apply(i int, op *persistence.Op) persistence.Outcome {
	out := persistence.Outcome{Status: persistence.OK}
	var t *taskNode
	var k *keyNode
	switch {
	case op.Insert != nil:
		t, k, out = p.fitInsert(i, op.Insert)
	case op.Update != nil:
		t, out = p.fitUpdate(i, op.Update)
	case op.Cancel != nil:
		t, out = p.fitCancel(i, op.Cancel)
	}
	var s *sessionNode
	if op.Session != nil {
		// Joined also when the task does not fit: the group is what is looked at.
		s = p.session(i, sessionKey{op.Session.Session.Tenant, op.Session.Session.ID})
	}
	if op.Gateway != nil {
		p.status(i, op.Gateway.ID)
	}
	if out.Status != persistence.OK {
		return out
	}
	if s != nil && !p.fitSession(s, op.Session) {
		if op.Insert != nil {
			p.looks = append(p.looks, look{i, op.Insert.Task.ID, op.Insert.Task.Tenant, op.Insert.IdemKey})
			return persistence.Outcome{Status: persistence.Conflict}
		}
		return p.conflict(i, t)
	}
	switch {
	case op.Insert != nil:
		p.doInsert(i, t, k, op.Insert)
	case op.Update != nil:
		t.update(i, op.Update)
	case op.Cancel != nil:
		out = p.doCancel(i, t, op.Cancel)
	}
	if s != nil {
		w := &op.Session.Session
		s.known, s.exists, s.generation, s.write = true, w.State != messages.SessionRemoved, w.Generation, w
	}
	if op.Gateway != nil {
		p.statuses[op.Gateway.ID].write = op.Gateway
	}
	return out
}

// conflict carries the row as it is at this op's turn. If that is not known,
// the server will be asked.
func (p *plan) conflict(i int, t *taskNode) persistence.Outcome {
	out := persistence.Outcome{Status: persistence.Conflict}
	if t == nil {
		return out
	}
	out.Current = p.current(i, t)
	return out
}

func (p *plan) current(i int, t *taskNode) *messages.Task {
	if t.row == nil {
		p.want[i] = true
		return nil
	}
	c := *t.row
	return &c
}
