package storetest

import (
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

func cancelOnce(t *testing.T, e Engine) {
	a := newTask()
	must(t, e, insert(a))
	first := cancel(a, "first")
	out := one(t, e, first, persistence.OK)
	a.Cancel.RequestedAt, a.Cancel.Reason = first.Cancel.At, "first"
	same(t, out.Current, &a)
	same(t, one(t, e, cancel(a, "second"), persistence.OK).Current, &a)
	stored(t, e, a)
	b := ended(a, messages.Cancelled)
	must(t, e, update(b, messages.Queued, 0))
	same(t, one(t, e, cancel(a, "third"), persistence.Conflict).Current, &b)
}

func cancelSurvives(t *testing.T, e Engine) {
	a := newTask()
	must(t, e, insert(a))
	b := claimed(a, "gw") // read before the flag was set
	c := cancel(a, "stop")
	must(t, e, c, update(b, messages.Queued, 0))
	b.Cancel.RequestedAt, b.Cancel.Reason = c.Cancel.At, "stop"
	stored(t, e, b)
	d := b
	d.State, d.Cancel = messages.Running, messages.Cancel{}
	must(t, e, update(d, messages.Claimed, 1))
	d.Cancel = b.Cancel
	stored(t, e, d)
	must(t, e, cancel(d, "again")) // the first flag stays
	stored(t, e, d)
	claim := update(d, messages.Running, 1)
	claim.Update.UnlessCancelled = true
	one(t, e, claim, persistence.Conflict)
	e.Restart(t)
	stored(t, e, d)
	f := ended(d, messages.Cancelled)
	f.Cancel = messages.Cancel{Confirmed: messages.Confirmed}
	must(t, e, update(f, messages.Running, 1))
	f.Cancel.RequestedAt, f.Cancel.Reason = b.Cancel.RequestedAt, b.Cancel.Reason
	stored(t, e, f)
}

func unlessCancelled(t *testing.T, e Engine) {
	a, b := newTask(), newTask()
	must(t, e, insert(a), insert(b), cancel(a, "stop"))
	claim := func(x messages.Task) persistence.Op {
		op := update(claimed(x, "gw"), messages.Queued, 0)
		op.Update.UnlessCancelled = true
		return op
	}
	out := commit(t, e, claim(a), claim(b))
	if out[0].Status != persistence.Conflict || out[1].Status != persistence.OK {
		t.Fatalf("statuses %v and %v", out[0].Status, out[1].Status)
	}
	if !out[0].Current.CancelRequested() {
		t.Error("the conflict does not show the flag")
	}
	// In one batch, and in the batch that sets the flag.
	c := newTask()
	out = commit(t, e, insert(c), cancel(c, "stop"), claim(c))
	if out[2].Status != persistence.Conflict {
		t.Errorf("claim in the batch of the flag: %v", out[2].Status)
	}
}

func clearCancel(t *testing.T, e Engine) {
	a := newTask()
	dead := ended(claimed(a, "gw"), messages.DeadLetter)
	must(t, e, insert(a), cancel(a, "stop"), update(dead, messages.Queued, 0))
	b := dead
	b.State, b.Attempt, b.Error, b.FinishedAt = messages.Queued, 0, nil, a.FinishedAt
	b.Replays++
	op := update(b, messages.DeadLetter, 1)
	op.Update.ClearCancel = true
	must(t, e, op)
	stored(t, e, b)
	claim := update(claimed(b, "gw"), messages.Queued, 1)
	claim.Update.UnlessCancelled = true
	must(t, e, claim)
}
