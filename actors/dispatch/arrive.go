package dispatch

import (
	"errors"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// arrive gives a new task its place in the order and asks for it to be made
// durable. The task is in the order at once: whatever is decided from now on
// has seen it and is written behind it, its own claim too. So no claim stands
// in the log behind a smaller task that it did not know of. Its client is
// answered, and its gateway told, when the respective write is durable.
func (b *broker) arrive(ctx actor.Context, in *intake) {
	in.Task.Seq = b.s.seq.Add(1)
	op := persistence.Op{
		Fences: b.s.fences,
		Insert: &in.TaskInsert,
		Events: []*messages.Event{in.Task.Event(0, b.now, "")},
	}
	e := b.add(in.Task)
	e.arriving = true
	// Its dispatcher has counted it at admission.
	b.s.loads[in.Task.Class].add(&in.Task, -1)
	b.request(op, true, func(ctx actor.Context, d commit.Done) { b.arrived(ctx, e, in, d) })
}

// arrived answers the client. A task that was not written leaves the order; a
// claim of it that is under way finds no row.
func (b *broker) arrived(ctx actor.Context, e *entry, in *intake, d commit.Done) {
	e.arriving = false
	if d.Err == nil && d.Outcome.Status == persistence.OK {
		b.s.Metrics.entered(&in.Task)
		reply(in.reply, SubmitReply{Task: in.Task})
		b.settle(ctx, e)
		return
	}
	e.void = true
	b.unmake(e)
	reply(in.reply, b.s.notEnqueued(in, d))
}

// unmake takes a task that never was out of everything that counts it.
func (b *broker) unmake(e *entry) {
	b.arb.Set(&e.item, Gone, "")
	b.states[e.row.Class][e.row.State]--
	b.s.loads[e.row.Class].add(&e.row, -1)
	delete(b.tasks, e.row.ID)
	b.openIn(e.item.Session, -1)
	if e.armed != 0 {
		b.s.send.Send(b.classes[e.row.Class], arm{task: e.row.ID})
	}
	if e.item.Session != "" {
		b.sessionIdle(e.item.Session)
	}
}

// notEnqueued is the answer to a submit or replay that the store did not take.
func (s *shared) notEnqueued(in *intake, d commit.Done) SubmitReply {
	if d.Err == nil && d.Outcome.Status == persistence.Duplicate && d.Outcome.Current != nil {
		if d.Outcome.SameBody {
			return SubmitReply{Task: *d.Outcome.Current, Existing: true}
		}
		return SubmitReply{Err: refuse(messages.CodeKeyReused,
			"this idempotency key was used with another body", next.UseNewKey)}
	}
	if d.Err == nil && d.Outcome.Status == persistence.Fenced {
		s.send.Send(s.root, fencedOut{})
	}
	if errors.Is(d.Err, commit.ErrBusy) {
		s.Metrics.refused.WithLabelValues(s.Pool.ID, in.Task.Class.String(), "store_busy").Inc()
	}
	return SubmitReply{Err: interpret(d.Outcome, d.Err)}
}
