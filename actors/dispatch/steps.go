package dispatch

import (
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// request asks the committer for an operation; then runs on this actor's turn.
// It leaves at the end of the present turn.
func (b *broker) request(op persistence.Op, failFast bool, then func(actor.Context, commit.Done)) {
	b.ask(commit.Request{Op: op, FailFast: failFast}, then)
}

func (b *broker) ask(r commit.Request, then func(actor.Context, commit.Done)) {
	r.ReplyTo, r.Tag = b.self, &asked{then: then}
	b.requests = append(b.requests, r)
}

// asked is what follows an operation.
type asked struct {
	then func(actor.Context, commit.Done)
}

// flush sends what a turn has asked for in one message: so a task's insert and
// its claim, which follows from it, share a batch.
func (b *broker) flush(ctx actor.Context) {
	if len(b.requests) > 0 {
		ctx.Send(b.s.Committer, b.requests)
		b.requests = nil
	}
}

// change is one step of a task.
type change struct {
	update   persistence.TaskUpdate // step fills in what it is compared with
	gateway  string                 // of the row before, likewise
	reason   string
	fences   []messages.Fence // nil: the pool's
	session  *persistence.SessionWrite
	events   []*messages.Event
	failFast bool
	follows  bool // it stands or falls with the task's insert, which is under way
	refusals int  // how often the store said that it can never take it
	// then runs after the outcome was applied, before settle; ok says whether
	// the step was made. It may be nil.
	then func(ctx actor.Context, ok bool, err error)
}

// to begins a change that leads to the row t.
func to(t messages.Task, reason string) *change {
	return &change{update: persistence.TaskUpdate{Task: t}, reason: reason}
}

// step writes one change of a task by compare-and-set. A task that waits is
// taken out of the order meanwhile; it still blocks its session.
func (b *broker) step(ctx actor.Context, e *entry, c *change) {
	e.busy = true
	c.update.From, c.update.FromClaim, c.gateway = e.row.State, e.row.Claim, e.row.Gateway
	if s := c.update.Task.State; s == messages.DeadLetter || s == messages.Expired {
		c.update.UnlessCancelled = true // a cancel that was promised comes first, also one that memory has not heard of
	}
	if e.item.Phase() == Waiting {
		b.arb.Set(&e.item, Blocking, "")
	}
	if c.fences == nil {
		c.fences = b.s.fences
	}
	op := persistence.Op{
		Fences:  c.fences,
		Update:  &c.update,
		Session: c.session,
		Events:  append([]*messages.Event{c.update.Task.Event(c.update.From, b.now, c.reason)}, c.events...),
	}
	b.ask(commit.Request{Op: op, FailFast: c.failFast, Follows: c.follows}, func(ctx actor.Context, d commit.Done) { b.stepped(ctx, e, c, d) })
}

func (b *broker) stepped(ctx actor.Context, e *entry, c *change, d commit.Done) {
	if d.Err != nil && !c.failFast && !e.void {
		// Nobody knows whether it was written: the same step again tells.
		b.s.after(b.retryAfter(e, c, d.Err), b.self, again{func(ctx actor.Context) { b.step(ctx, e, c) }})
		return
	}
	e.busy = false
	ok := b.outcome(ctx, e, c, d)
	if c.then != nil {
		var err error
		if !ok {
			err = interpret(d.Outcome, d.Err)
		}
		c.then(ctx, ok, err)
	}
	b.settle(ctx, e)
	later := e.later
	e.later = nil
	for _, m := range later {
		b.command(ctx, m)
	}
}

// retryAfter is when a step is made again that was not answered. One that the
// store can never take is a bug of ours or of the store: it is said, and made
// again more and more rarely, as another version may take it.
func (b *broker) retryAfter(e *entry, c *change, err error) time.Duration {
	if messages.CodeOf(err) != messages.CodeInvalid {
		return storeRetry
	}
	b.s.Metrics.refusedSteps.Inc()
	b.s.Logger.Error("the store can never take this step of a task", slog.String("task", e.row.ID),
		slog.String("to", c.update.Task.State.String()), slog.Any("err", err))
	delay := min(storeRetry<<min(c.refusals, 20), refusedRetry)
	c.refusals++
	return delay
}

// outcome applies what the store answered and reports whether the step was made.
func (b *broker) outcome(ctx actor.Context, e *entry, c *change, d commit.Done) bool {
	current, next, u := d.Outcome.Current, &c.update.Task, &c.update
	switch {
	case e.void && (d.Err != nil || d.Outcome.Status != persistence.OK):
		return false // nothing was there to be changed
	case d.Err != nil:
		b.place(e, "")
		return false
	case e.void:
		// The insert was written after all: the sweep takes the row in.
		return false
	case d.Outcome.Status == persistence.OK:
		b.apply(e, *next)
		if g := b.gates[c.gateway]; g != nil && u.From == messages.Held {
			// Nobody needs a proof of its success any more.
			b.tell(ctx, g, messages.Withdraw{ClaimRef: messages.ClaimRef{Task: next.ID, Claim: u.FromClaim}})
		}
		return true
	case d.Outcome.Status == persistence.Fenced:
		b.fenced(ctx, next.Gateway)
	case d.Outcome.Status == persistence.Missing:
		b.mend("missing_row")
		b.drop(e)
		return false
	case current != nil && current.State == next.State && current.Claim == next.Claim && current.Gateway == next.Gateway && current.Replays == next.Replays:
		b.apply(e, *next) // an earlier try of this very step was written
		return true
	case current != nil && (current.State != u.From || current.Claim != u.FromClaim || current.CancelRequested()):
		b.apply(e, *current)
		b.place(e, c.gateway)
		return false
	case c.session != nil:
		b.reloadSession(c.session.Session.Tenant, c.session.Session.ID)
	}
	b.place(e, "")
	return false
}

// fenced finds out whose fence it was: the pool's ends the pool, the gateway's
// closes the gateway until its owner speaks again.
func (b *broker) fenced(ctx actor.Context, gateway string) {
	if g := b.gates[gateway]; g != nil {
		g.shut = true
		b.offer(g)
	}
	b.request(persistence.Op{Fences: b.s.fences}, false, func(ctx actor.Context, d commit.Done) {
		if d.Err == nil && d.Outcome.Status == persistence.Fenced {
			ctx.Send(b.s.root, fencedOut{})
		}
	})
}
