package dispatch

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/messages"
)

// pump claims whatever the arbiter assigns. The number of claims under way is
// bounded by the gateways' windows.
func (b *broker) pump(ctx actor.Context) {
	for {
		it, gateway := b.arb.Next(b.now)
		if it == nil {
			return
		}
		b.claim(ctx, it.Owner.(*entry), b.gates[gateway])
	}
}

// claim writes the assignment of a task under the fences of the pool and of
// the gateway; the task goes to the gateway when that is durable. The item is
// in flight in the arbiter already.
func (b *broker) claim(ctx actor.Context, e *entry, g *gate) {
	var generation int64
	var s *session
	// The claim of a task that may not be written fails with its insert, so that
	// what waits for the store stays bounded, but not before it.
	follows := e.arriving && !e.tried
	c := &change{fences: b.fences(g), failFast: follows, follows: follows}
	c.update.UnlessCancelled = true
	if e.item.Session != "" {
		s = b.session(e.item.Session)
		if !b.historyKnown(s) {
			b.arb.Set(&e.item, Waiting, "")
			b.loadHistory(s)
			return
		}
		generation = s.row.Generation
		next := s.row
		next.Gateway, next.State, next.Replay = g.id, messages.SessionBusy, s.history != ""
		next.UpdatedAt = b.now
		c.session, c.events = b.sessionWrite(s, next)
	}
	c.update.Task = claimed(e.row, g.id, g.boot, generation, b.now)
	c.then = func(ctx actor.Context, ok bool, _ error) {
		e.tried = e.tried || !ok
		if s != nil {
			b.sessionWritten(s, c.session, ok)
		}
		if ok {
			b.assign(ctx, g, e)
			e.listed = b.now
		}
	}
	b.step(ctx, e, c)
}

// assign gives a durable claim to the gateway's owner, perhaps again.
func (b *broker) assign(ctx actor.Context, g *gate, e *entry) {
	if !e.row.State.AtGateway() {
		return // ended or taken back already
	}
	m := &messages.Assign{Task: e.row}
	if e.item.Session != "" {
		s := b.session(e.item.Session)
		if s.row.Replay && !b.historyKnown(s) {
			b.loadHistory(s) // after a restart; the next Demand repeats the claim
			return
		}
		row := s.row
		m.Session = &row
		if row.Replay {
			m.History = s.history
		}
	}
	e.sent = b.now
	b.tell(ctx, g, m)
}

// tick does what depends on the passing of time alone.
func (b *broker) tick(ctx actor.Context) {
	b.s.after(tickEvery, b.self, tick{})
	for _, c := range messages.Classes {
		class := c.String()
		ctx.Send(b.classes[c], pulse{})
		b.s.Metrics.depth.WithLabelValues(b.pool.ID, class).Set(float64(b.arb.Queued(c)))
		age := 0.0
		if at := b.arb.Oldest(c); at != 0 {
			age = max(0, b.now.Sub(time.UnixMicro(at)).Seconds())
		}
		b.s.Metrics.oldest.WithLabelValues(b.pool.ID, class).Set(age)
	}
	for id, g := range b.gates {
		b.offer(g)
		b.away(ctx, g)
		if g.silent(b.now) && len(g.tasks) == 0 && (g.gone || b.now.Sub(g.heard) > time.Hour) && b.arb.Forget(id) {
			delete(b.gates, id)
		}
	}
	b.tickSessions(ctx)
}

// away takes tasks back from a gateway that has been gone for longer than the
// pool allows, as their on_unknown says.
func (b *broker) away(ctx actor.Context, g *gate) {
	at := g.awaySince(b.now)
	if at.IsZero() || b.now.Sub(at) < b.pool.Away() {
		return
	}
	for _, e := range g.tasks {
		b.withdraw(ctx, g, e, goneAway, "")
	}
}

// goneAway is why the away policy takes a task back.
const goneAway = "gateway_away"

// withdraw takes a task back from a gateway without knowing its outcome. The
// session goes on with a new generation, so that a late turn cannot leak in,
// bound to the target gateway (empty: none).
func (b *broker) withdraw(ctx actor.Context, g *gate, e *entry, reason, target string) {
	t := &e.row
	if e.busy || !t.State.AtGateway() || t.State == messages.Cancelling {
		return
	}
	c := to(requeued(*t), reason)
	if reason == goneAway {
		c.update.Task = givenBack(*t, b.now, "its gateway "+g.id+" was away for too long")
	}
	if t.OnUnknown() == messages.Hold && c.update.Task.State == messages.Queued {
		c.update.Task = held(*t, b.now)
	}
	if t.CancelRequested() {
		// The run may go on where nobody could stop it.
		c.update.Task.Cancel.Confirmed = messages.Unconfirmed
	}
	var s *session
	if e.item.Session != "" {
		s = b.session(e.item.Session)
		if !s.known || s.busy {
			return // at the next tick
		}
		c.session, c.events = b.sessionWrite(s, b.renewed(s, target, reason))
	}
	void := messages.Withdraw{ClaimRef: messages.ClaimRef{Task: t.ID, Claim: t.Claim}, Held: c.update.Task.State == messages.Held}
	c.then = func(ctx actor.Context, ok bool, _ error) {
		if s != nil {
			b.sessionWritten(s, c.session, ok)
		}
		if ok {
			if reason == goneAway {
				b.s.Metrics.givenBack.WithLabelValues("away").Inc()
			}
			b.tell(ctx, g, void)
		}
	}
	b.step(ctx, e, c)
}
