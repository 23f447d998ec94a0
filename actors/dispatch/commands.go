package dispatch

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// command handles what clients ask of the arbiter actor.
func (b *broker) command(ctx actor.Context, m any) {
	switch m := m.(type) {
	case Cancel:
		b.cancel(ctx, m)
	case Release:
		b.release(ctx, m)
	case OpenSession:
		b.open(ctx, m.Tenant, m.Session, m.Labels, func(_ actor.Context, s *session, created bool, err error) {
			reply(m.Reply, SessionReply{Session: s.row, Created: created, Err: err})
		})
	case CloseSession:
		b.closeSession(ctx, m)
	case MoveSession:
		b.moveSession(ctx, m)
	case UnparkSession:
		b.unpark(ctx, m)
	case RetireSessions:
		b.retire(ctx, m)
	case SetPool:
		b.setPool(ctx, m.Pool)
		reply[error](m.Reply, nil)
	case QueueStats:
		b.stats(ctx, m)
	case Explain:
		b.explainAll(m)
	}
}

// wait keeps a command until the operation under way on its task is over.
func (b *broker) wait(e *entry, m any, full func(error)) {
	if len(e.later) >= maxLater {
		full(&messages.Error{Code: messages.CodeUnavailable, Message: "too many requests wait for this task", NextStep: next.TryAgain, RetryAfter: repeatEvery})
		return
	}
	e.later = append(e.later, m)
}

// cancel writes the flag first; what follows from it is read from the row.
func (b *broker) cancel(ctx actor.Context, m Cancel) {
	op := persistence.Op{
		Fences: b.s.fences,
		Cancel: &persistence.CancelRequest{Tenant: m.Tenant, Task: m.Task, At: b.now, Reason: m.Reason},
	}
	b.request(op, true, func(ctx actor.Context, d commit.Done) {
		current := d.Outcome.Current
		switch {
		case d.Err == nil && current != nil && d.Outcome.Status == persistence.OK:
			b.flagged(ctx, m, *current)
		case d.Err == nil && current != nil && current.State == messages.Cancelled:
			reply(m.Reply, TaskReply{Task: *current})
		case d.Err == nil && current != nil:
			reply(m.Reply, TaskReply{Task: *current, Err: refuse(messages.CodeWrongState,
				"the task has ended already as "+current.State.String(), next.NothingToCancel)})
		default:
			if d.Outcome.Status == persistence.Fenced {
				b.fenced(ctx, "")
			}
			reply(m.Reply, TaskReply{Err: interpret(d.Outcome, d.Err)})
		}
	})
}

// flagged acts on a cancel flag that has become durable.
func (b *broker) flagged(ctx actor.Context, m Cancel, row messages.Task) {
	e := b.tasks[row.ID]
	if e == nil {
		reply(m.Reply, TaskReply{Task: row})
		return
	}
	e.row.Cancel.RequestedAt, e.row.Cancel.Reason = row.Cancel.RequestedAt, row.Cancel.Reason
	if e.busy {
		// A claim under way reads the flag; settle follows in any case.
		b.wait(e, m, func(error) { reply(m.Reply, TaskReply{Task: row}) })
		return
	}
	if e.row.State.AtGateway() {
		b.settle(ctx, e)
		reply(m.Reply, TaskReply{Task: e.row})
		return
	}
	c := to(cancelled(e.row, b.now, stoppable(&e.row)), "cancel")
	c.then = func(actor.Context, bool, error) { reply(m.Reply, TaskReply{Task: e.row}) }
	b.step(ctx, e, c)
}

// release ends the wait of a held task.
func (b *broker) release(ctx actor.Context, m Release) {
	e := b.tasks[m.Task]
	switch {
	case e == nil || m.Tenant != "" && e.row.Tenant != m.Tenant:
		reply(m.Reply, TaskReply{Err: refuse(messages.CodeWrongState, "the task is not held", next.ReadTaskAgain)})
		return
	case e.busy:
		b.wait(e, m, func(err error) { reply(m.Reply, TaskReply{Err: err}) })
		return
	case e.row.State != messages.Held:
		reply(m.Reply, TaskReply{Task: e.row, Err: refuse(messages.CodeWrongState,
			"only a held task can be released, this one is "+e.row.State.String(), next.ReadTaskAgain)})
		return
	}
	c := &change{reason: "released", failFast: true}
	switch m.Action {
	case ReleaseRequeue:
		c.update.Task = requeued(e.row)
		c.update.Task.Trials = nil // somebody has looked at it
	case ReleaseFail:
		c.update.Task = dead(e.row, b.now, messages.CodeReleasedFailed, "an operator released the held task as failed")
	default:
		reply(m.Reply, TaskReply{Err: refuse(messages.CodeInvalid, "unknown action "+string(m.Action), next.RequeueOrFail)})
		return
	}
	c.then = func(_ actor.Context, ok bool, err error) {
		if ok {
			err = nil
		}
		reply(m.Reply, TaskReply{Task: e.row, Err: err})
	}
	b.step(ctx, e, c)
}

func (b *broker) setPool(ctx actor.Context, p messages.Pool) {
	if p.ID != b.pool.ID {
		return
	}
	b.pool = p
	b.arb.Configure(limitsOf(&p))
	b.rule(ctx)
}

// rule tells the dispatchers their limits.
func (b *broker) rule(ctx actor.Context) {
	for _, c := range messages.Classes {
		ctx.Send(b.classes[c], rule{limit: b.pool.Limit(c)})
	}
}

func (b *broker) stats(ctx actor.Context, m QueueStats) {
	st := Stats{Pool: b.pool.ID, Open: len(b.tasks), Sessions: len(b.sessions)}
	for _, c := range messages.Classes {
		n := &b.states[c]
		cs := ClassStats{
			Class: c, Queued: n[messages.Queued], Scheduled: n[messages.Scheduled], RetryWait: n[messages.RetryWait],
			Held: n[messages.Held], Running: b.arb.Running(c), Limit: b.pool.Limit(c),
			Starved: b.starved(c),
		}
		if at := b.arb.Oldest(c); at != 0 {
			cs.Oldest = unixMicro(at)
		}
		st.Classes = append(st.Classes, cs)
	}
	for _, g := range b.arb.order {
		st.Gateways = append(st.Gateways, GatewayStats{ID: g.ID, Window: g.Window, InFlight: g.flying,
			Silent: b.gate(g.ID).silent(b.now), Away: b.gate(g.ID).away})
	}
	// Each class adds what it alone knows, on its own turn.
	b.flush(ctx)
	rest := []*actor.PID{b.classes[messages.High], b.classes[messages.Medium], b.classes[messages.Low]}
	ctx.Send(b.classes[messages.Critical], measure{stats: st, reply: m.Reply, rest: rest})
}
