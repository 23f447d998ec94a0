package postgres

import (
	"slices"
	"strings"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/wire"
)

// Types of the columns that rows which only look leave NULL.
var (
	// insertTail are those of commit_insert_v1 after idem_key.
	insertTail = [...]uint32{oidBytea, oidBytea, oidInt8, oidInt8, oidInt8, oidInt8, oidInt4, oidInt2, oidInt2, oidBool, oidText, oidText, oidBytea, oidBytea}
	// updateTail are those of commit_update_v1 after x_tenant.
	updateTail = [...]uint32{oidInt8, oidInt8, oidInt8, oidInt4, oidInt2, oidInt2, oidBool, oidText, oidText, oidBytea, oidInt8, oidBytea}
)

// addTasks writes the rows in the order of their ids, in which they are locked.
func (r *request) addTasks(p *plan) error {
	slices.SortFunc(p.order, func(a, b *taskNode) int { return strings.Compare(a.id, b.id) })
	for _, t := range p.order {
		var err error
		switch {
		case t.insert != nil:
			err = r.addInsert(p, t)
		case t.task != nil:
			err = r.addUpdate(p, t, true)
		default:
			if t.setCancel || (t.open && !t.compare) {
				r.addCancel(p, t)
			}
			if t.compare && !t.loaded {
				err = r.addUpdate(p, t, false)
			}
		}
		if err != nil {
			return err
		}
	}
	for _, l := range p.looks {
		r.addLook(p, l, 0)
	}
	return nil
}

// addInsert writes a task to be made, with all that the ops have done to it.
func (r *request) addInsert(p *plan, t *taskNode) error {
	in := &t.insert.Task
	p.markSent(t.id, idemKey{in.Tenant, t.insert.IdemKey})
	var spec []byte
	var err error
	if in.Spec != nil {
		if spec, err = wire.Marshal(in.Spec); err != nil {
			return err
		}
	}
	group, created := p.group(t.insertOp), micros(in.CreatedAt)
	r.countMade(created)
	a := &r.inserts
	a.row(24)
	a.i4(group)
	a.bool(true)
	a.i4(t.insertOp + 1)
	a.text(in.ID)
	a.text(in.Tenant)
	a.text(in.Pool)
	a.text(in.Session)
	a.i2(int(in.Class))
	a.i8(created)
	a.stringOr(t.insert.IdemKey)
	if t.insert.IdemKey == "" {
		a.null(oidBytea)
	} else {
		a.string(string(t.insert.IdemHash))
	}
	a.bytes(spec)
	a.i8(t.task.Seq)
	a.i8(t.task.Claim)
	cancelAt, reason := micros(in.Cancel.RequestedAt), in.Cancel.Reason
	if t.setCancel {
		cancelAt, reason = t.cancelAt, t.reason
	}
	a.i8(cancelAt)
	addProgress(a, t)
	a.stringOr(reason)
	run, err := wire.EncodeRun(t.task)
	if err != nil {
		return err
	}
	a.bytes(run)
	a.end()
	r.addLabels(group, t.insertOp, in.Spec.GetLabels())
	return nil
}

func (r *request) countMade(created int64) {
	if r.made == 0 || created < r.minCreated {
		r.minCreated = created
	}
	r.made++
	r.maxCreated = max(r.maxCreated, created)
}

func (r *request) addLabels(group, op int, labels map[string]string) {
	a := &r.labels
	for k, v := range labels {
		a.row(4)
		a.i4(group)
		a.i4(op + 1)
		a.string(k)
		a.string(v)
		a.end()
	}
}

// addUpdate writes a stored task that changes, or without write only what it
// must be like.
func (r *request) addUpdate(p *plan, t *taskNode, write bool) error {
	t.sent = true
	a := &r.updates
	a.row(19)
	a.i4(p.group(t.op))
	a.bool(write)
	a.text(t.id)
	a.i2(int(t.state0))
	a.i8(t.claim0)
	if t.cancel0 == flagUnknown {
		a.null(oidBool)
	} else {
		a.bool(t.cancel0 == flagSet)
	}
	a.textOr(t.tenant0)
	if !write {
		r.check = true
		for _, oid := range updateTail {
			a.null(oid)
		}
		a.end()
		return nil
	}
	a.i8(t.task.Seq)
	a.i8(t.task.Claim)
	addProgress(a, t)
	run, err := wire.EncodeRun(t.task)
	if err != nil {
		return err
	}
	a.bytes(run)
	if t.setCancel {
		a.i8(t.cancelAt)
		a.stringOr(t.reason)
	} else {
		a.null(oidInt8)
		a.null(oidBytea)
	}
	a.end()
	return nil
}

// addCancel writes the cancel flag of a task of which only that it is open is
// expected.
func (r *request) addCancel(p *plan, t *taskNode) {
	r.check = true
	t.sent = true
	a := &r.cancels
	a.row(5)
	a.i4(p.group(t.op))
	a.text(t.id)
	a.textOr(t.tenant0)
	a.i8(t.cancelAt)
	a.stringOr(t.reason)
	a.end()
}

// addProgress writes the columns that inserts and updates have in common, from
// finished_at to code.
func addProgress(a *array, t *taskNode) {
	u := t.task
	a.i8(micros(u.FinishedAt))
	// ended orders the ends of a session's tasks; others are never asked for it.
	if u.State == messages.Succeeded && (t.insert == nil || t.insert.Task.Session != "") {
		a.i4(t.ended)
	} else {
		a.null(oidInt4)
	}
	a.i2(int(u.State))
	if u.State > messages.Succeeded { // failed
		a.i2(int(u.State))
	} else {
		a.null(oidInt2)
	}
	a.bool(!u.State.Terminal())
	a.text(u.Gateway)
	a.textOr(u.Error.GetCode())
}

// addLook names an id and a key. off 0: they must be free; -1: only their rows
// are to be returned if the group is.
func (r *request) addLook(p *plan, l look, off int) {
	if off == 0 {
		r.check = true
	}
	a := &r.inserts
	a.row(24)
	a.i4(p.group(l.op))
	a.bool(false)
	a.i4(off)
	a.text(l.id)
	a.text(l.tenant)
	for _, oid := range [...]uint32{oidText, oidText, oidInt2, oidInt8} {
		a.null(oid)
	}
	a.stringOr(l.key)
	for _, oid := range insertTail {
		a.null(oid)
	}
	a.end()
	p.markSent(l.id, idemKey{l.tenant, l.key})
}

// markSent notes that the request names a task and a key.
func (p *plan) markSent(id string, key idemKey) {
	if t := p.tasks[id]; t != nil {
		t.sent = true
	}
	if k := p.keys[key]; k != nil {
		k.sent = true
	}
}

// addUnnamed names what a group of several ops touches and nothing has named yet,
// so that all its rows are returned at once if the group does not fit.
func (r *request) addUnnamed(p *plan) {
	for i := range p.ops {
		if p.skip[i] || p.size[p.group(i)] == 1 {
			continue
		}
		op := &p.ops[i]
		l := look{op: i, id: taskID(op)}
		if op.Insert != nil {
			l.tenant, l.key = op.Insert.Task.Tenant, op.Insert.IdemKey
		}
		t, k := p.tasks[l.id], p.keys[idemKey{l.tenant, l.key}]
		if (l.id != "" && (t == nil || !t.sent)) || (l.key != "" && (k == nil || !k.sent)) {
			r.addLook(p, l, -1)
		}
	}
}
