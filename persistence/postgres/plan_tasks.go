package postgres

import (
	"bytes"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

func (p *plan) task(i int, id string) *taskNode {
	if t := p.tasks[id]; t != nil {
		p.join(t.op, i)
		return t
	}
	t := &taskNode{node: node{i}, id: id}
	if p.knows(i) {
		t.loaded = true
		if b := p.known.tasks[id]; b != nil {
			row := b.task
			t.load(&row)
		}
	}
	p.tasks[id] = t
	p.order = append(p.order, t)
	return t
}

// load makes the row of the store the one to go on from; it must still be the
// same when the batch is written.
func (t *taskNode) load(row *messages.Task) {
	t.exists, t.state, t.claim, t.cancel, t.row = true, row.State, row.Claim, flagUnset, row
	if row.CancelRequested() {
		t.cancel = flagSet
	}
	t.compare, t.state0, t.claim0, t.cancel0 = true, t.state, t.claim, t.cancel
}

func (p *plan) fitInsert(i int, in *persistence.TaskInsert) (*taskNode, *keyNode, persistence.Outcome) {
	var k *keyNode
	if in.IdemKey != "" {
		if k = p.key(i, idemKey{in.Task.Tenant, in.IdemKey}); k.holder != nil {
			return nil, k, persistence.Outcome{Status: persistence.Duplicate, Current: p.current(i, k.holder), SameBody: bytes.Equal(k.hash, in.IdemHash)}
		}
	}
	t := p.task(i, in.Task.ID)
	if t.exists {
		if k != nil && !p.knows(i) {
			p.looks = append(p.looks, look{i, "", in.Task.Tenant, in.IdemKey})
		}
		return t, k, p.conflict(i, t)
	}
	t.expected = true
	return t, k, persistence.Outcome{Status: persistence.OK}
}

func (p *plan) key(i int, id idemKey) *keyNode {
	if p.keys == nil {
		p.keys = map[idemKey]*keyNode{}
	}
	if k := p.keys[id]; k != nil {
		p.join(k.op, i)
		return k
	}
	k := &keyNode{node: node{i}}
	if p.knows(i) {
		if b := p.known.keys[id]; b != nil {
			k.holder, k.hash = p.task(i, b.task.ID), b.hash
		}
	}
	p.keys[id] = k
	return k
}

func (p *plan) doInsert(i int, t *taskNode, k *keyNode, in *persistence.TaskInsert) {
	row := in.Task
	t.exists, t.state, t.claim, t.cancel, t.row = true, row.State, row.Claim, flagUnset, &row
	if row.CancelRequested() {
		t.cancel = flagSet
	}
	t.insert, t.insertOp, t.task, t.ended = in, i, &in.Task, i+1
	if k != nil {
		k.holder, k.hash = t, in.IdemHash
	}
}

func (p *plan) fitUpdate(i int, u *persistence.TaskUpdate) (*taskNode, persistence.Outcome) {
	t := p.task(i, u.Task.ID)
	if !t.loaded && !t.expected {
		t.exists, t.expected = true, true
	}
	switch {
	case !t.exists:
		return t, persistence.Outcome{Status: persistence.Missing}
	case t.state == 0 && !t.compare && (!t.open || !u.From.Terminal()):
		t.compare, t.state0, t.claim0, t.state, t.claim = true, u.From, u.FromClaim, u.From, u.FromClaim
	}
	if t.state != u.From || t.claim != u.FromClaim {
		return t, p.conflict(i, t)
	}
	if u.UnlessCancelled {
		t.expectUnset()
		if t.cancel == flagSet {
			return t, p.conflict(i, t)
		}
	}
	return t, persistence.Outcome{Status: persistence.OK}
}

func (t *taskNode) expectUnset() {
	if t.cancel == flagUnknown {
		t.cancel, t.cancel0 = flagUnset, flagUnset
	}
}

func (t *taskNode) update(i int, u *persistence.TaskUpdate) {
	t.task, t.ended = &u.Task, i+1
	t.state, t.claim = u.Task.State, u.Task.Claim
	if u.ClearCancel && t.cancel != flagUnset {
		t.cancel, t.setCancel, t.cancelAt, t.reason = flagUnset, true, 0, ""
	}
	if t.row != nil {
		t.row = t.merge(t.row)
	}
}

// merge is what the stored row looks like with the changes so far.
func (t *taskNode) merge(row *messages.Task) *messages.Task {
	c := *row
	if u := t.task; u != nil {
		c = *u
		c.ID, c.Tenant, c.Pool, c.Class, c.Session, c.Spec, c.CreatedAt = row.ID, row.Tenant, row.Pool, row.Class, row.Session, row.Spec, row.CreatedAt
		c.Cancel.RequestedAt, c.Cancel.Reason = row.Cancel.RequestedAt, row.Cancel.Reason
	}
	if t.setCancel {
		c.Cancel.RequestedAt, c.Cancel.Reason = fromMicros(t.cancelAt), t.reason
	}
	return &c
}

func (p *plan) fitCancel(i int, r *persistence.CancelRequest) (*taskNode, persistence.Outcome) {
	t := p.task(i, r.Task)
	if !t.loaded && !t.expected {
		t.exists, t.expected, t.open = true, true, true
	}
	if !t.exists {
		return t, persistence.Outcome{Status: persistence.Missing}
	}
	if r.Tenant != "" {
		tenant := t.tenant0
		if t.row != nil {
			tenant = t.row.Tenant
		}
		switch tenant {
		case "":
			t.tenant0 = r.Tenant
		case r.Tenant:
		default:
			return t, persistence.Outcome{Status: persistence.Missing}
		}
	}
	if t.state.Terminal() {
		return t, p.conflict(i, t)
	}
	t.expectUnset()
	return t, persistence.Outcome{Status: persistence.OK}
}

func (p *plan) doCancel(i int, t *taskNode, r *persistence.CancelRequest) persistence.Outcome {
	if t.cancel != flagSet {
		t.setFlag(r)
	}
	return persistence.Outcome{Status: persistence.OK, Current: p.current(i, t)}
}

func (t *taskNode) setFlag(r *persistence.CancelRequest) {
	// A flag without a time would be none.
	t.cancel, t.setCancel, t.cancelAt, t.reason = flagSet, true, max(micros(r.At), 1), r.Reason
	if t.row != nil {
		row := *t.row
		row.Cancel.RequestedAt, row.Cancel.Reason = fromMicros(t.cancelAt), t.reason
		t.row = &row
	}
}
