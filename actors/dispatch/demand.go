package dispatch

import (
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/messages"
)

// gate is what the pool knows of one gateway and its owner.
type gate struct {
	id     string
	pid    *actor.PID // who sent the last Demand; nil: nobody since this incarnation began
	offer  Offer
	owner  string
	epoch  int64
	boot   string           // process that the window belongs to
	fences []messages.Fence // see broker.fences
	heard  time.Time        // last Demand
	away   time.Time        // its AwaySince
	gone   bool             // it was removed
	// draining: it takes no work because somebody wants so
	draining bool
	paused   []messages.Pause // providers it does not ask
	shut     bool             // a claim was fenced: closed until a Demand with another epoch
	closed   time.Time        // since when the window is 0
	tasks    map[string]*entry
}

// fences are those of the pool and of the gateway's owner.
func (b *broker) fences(g *gate) []messages.Fence {
	f := messages.Fence{Scope: messages.GatewayScope, Key: g.id, Owner: g.owner, Epoch: g.epoch}
	if len(g.fences) == 0 || g.fences[1] != f {
		g.fences = []messages.Fence{b.s.Fence, f}
	}
	return g.fences
}

// silent reports whether its owner has stopped asking for work.
func (g *gate) silent(now time.Time) bool { return now.Sub(g.heard) >= messages.DemandTimeout }

// awaySince is when the gateway was last known to be there, zero while it is there.
func (g *gate) awaySince(now time.Time) time.Time {
	switch {
	case g.gone:
		return time.Unix(1, 0) // longer ago than any pool waits
	case !g.away.IsZero():
		return g.away
	case g.silent(now):
		return g.heard
	}
	return time.Time{}
}

// gate returns the gateway; one that has not spoken yet counts as away since
// the pool's start.
func (b *broker) gate(id string) *gate {
	g := b.gates[id]
	if g == nil {
		g = &gate{id: id, heard: b.began, closed: b.began, offer: Offer{ID: id, Tenant: "\x00"}, tasks: map[string]*entry{}}
		b.gates[id] = g
	}
	return g
}

// offer gives the arbiter the window that counts now.
func (b *broker) offer(g *gate) {
	o := g.offer
	if g.shut || g.pid == nil || !g.awaySince(b.now).IsZero() {
		o.Window = 0
	}
	for _, p := range g.paused {
		if b.now.Before(p.Until) {
			o.Paused = append(o.Paused, p.Provider)
		}
	}
	switch {
	case o.Window > 0:
		g.closed = time.Time{}
	case g.closed.IsZero():
		g.closed = b.now
	}
	b.arb.Offer(o)
}

func (b *broker) demand(ctx actor.Context, m *messages.Demand) {
	if m.Pool != b.pool.ID || messages.CheckID(m.Gateway) != nil {
		b.stale("demand_of_other_pool")
		return
	}
	g := b.gate(m.Gateway)
	if m.Epoch < g.epoch {
		b.stale("demand_of_old_epoch")
		return
	}
	if m.Epoch > g.epoch || m.Owner != g.owner {
		g.shut = false
	}
	g.owner, g.epoch, g.boot, g.heard, g.away = m.Owner, m.Epoch, m.BootID, b.now, m.AwaySince
	lifted := lifts(g.paused, m.Paused, b.now)
	g.gone, g.paused, g.draining = m.Gone, m.Paused, m.Draining
	if s := ctx.Sender(); s != nil {
		g.pid = s
	}
	g.offer = Offer{ID: m.Gateway, Tenant: m.Tenant, Region: m.Region, Capabilities: m.Capabilities, Weight: m.Weight, Window: m.Window}
	b.offer(g)
	if g.gone {
		b.away(ctx, g)
	}
	if lifted {
		b.resumeUncalled(ctx, g)
	}
	b.compare(ctx, g, m)
	b.takeBack(ctx, g, m.Returned)
}

// lifts reports whether a pause of before is over ahead of its time: somebody
// has mended its cause.
func lifts(before, now []messages.Pause, at time.Time) bool {
	return slices.ContainsFunc(before, func(p messages.Pause) bool {
		return at.Before(p.Until) && !slices.ContainsFunc(now, func(n messages.Pause) bool { return n.Provider == p.Provider })
	})
}

// resumeUncalled queues the tasks that the gateway sent back without a model
// call: they waited for the pause that was lifted.
func (b *broker) resumeUncalled(ctx actor.Context, g *gate) {
	for _, e := range b.tasks {
		if t := &e.row; !e.busy && t.State == messages.RetryWait && t.Gateway == g.id && t.Error.GetUncalled() > 0 {
			b.step(ctx, e, to(due(*t, 0), "due"))
		}
	}
}

// newer returns which tells of more ends of processes: what a gateway's owner writes while a
// claim goes on is not compared with (state, claim).
func newer(known, told *messages.Trials) *messages.Trials {
	if told.Ends() > known.Ends() {
		return told
	}
	return known
}

// compare looks for claims that only one side knows.
func (b *broker) compare(ctx actor.Context, g *gate, m *messages.Demand) {
	for r, trials := range m.Trials {
		if e := b.tasks[r.Task]; e != nil && !e.busy && e.row.Claim == r.Claim && e.row.State.AtGateway() {
			e.row.Trials = newer(e.row.Trials, trials)
		}
	}
	for _, r := range m.Running {
		e := b.tasks[r.Task]
		switch {
		case e == nil || r.Claim > e.row.Claim:
			// Ended already, or the row in memory is behind: the store knows.
		case r.Claim < e.row.Claim || e.row.State == messages.Queued || e.row.State == messages.Held:
			if !e.busy {
				held := r.Claim == e.row.Claim && e.row.State == messages.Held
				b.tell(ctx, g, messages.Withdraw{ClaimRef: r, Held: held})
			}
		case e.row.Gateway == g.id:
			e.listed = b.now
		}
	}
	returned := make(map[string]bool, len(m.Returned))
	for _, r := range m.Returned {
		returned[r.Task] = true
	}
	var lost []string
	for id, e := range g.tasks {
		if e.busy || returned[id] || b.now.Sub(e.listed) < repeatEvery {
			continue
		}
		if e.row.State == messages.Claimed && b.now.Sub(e.sent) >= repeatEvery {
			b.assign(ctx, g, e)
		}
		if b.now.Sub(e.listed) >= unlistedAfter && b.now.Sub(e.checked) >= sweepEvery && len(lost) < verifyPerTurn {
			e.checked = b.now
			lost = append(lost, id)
		}
		if e.row.CancelRequested() {
			b.settle(ctx, e)
		}
	}
	b.verify(lost)
}

// takeBack returns to the order what the gateway certainly did not execute.
func (b *broker) takeBack(ctx actor.Context, g *gate, returned []messages.Returned) {
	var taken []messages.ClaimRef
	for _, r := range returned {
		e := b.tasks[r.Task]
		if e == nil || e.row.Claim != r.Claim || e.row.Gateway != g.id || e.row.State != messages.Claimed {
			if e == nil || !e.busy {
				taken = append(taken, r.ClaimRef)
			}
			continue
		}
		if e.busy {
			continue
		}
		ref := r.ClaimRef
		row := e.row
		row.Trials = newer(row.Trials, r.Trials)
		c := to(givenBack(row, b.now, r.Reason), "refused: "+r.Reason)
		// Evidence counts only while the owner that gave it is the owner: a later
		// one may have sent the claim again.
		c.fences = b.fences(g)
		c.then = func(ctx actor.Context, ok bool, _ error) {
			if ok {
				b.s.Metrics.givenBack.WithLabelValues(returnKind(r)).Inc()
				b.tell(ctx, g, messages.Taken{Claims: []messages.ClaimRef{ref}})
			}
		}
		b.step(ctx, e, c)
	}
	if len(taken) > 0 {
		b.tell(ctx, g, messages.Taken{Claims: taken})
	}
}

func returnKind(r messages.Returned) string {
	if r.Refused {
		return "refused"
	}
	return "not_sent"
}

// tell sends a message to the gateway's owner, whose answers go to the pool's root.
func (b *broker) tell(ctx actor.Context, g *gate, m any) {
	if g.pid != nil {
		ctx.RequestWithCustomSender(g.pid, m, b.s.root)
	}
}

func (b *broker) ended(ctx actor.Context, m *messages.Ended) {
	if m.Session != nil {
		b.sessionChanged(ctx, m.Session)
	}
	e := b.tasks[m.Task.ID]
	switch {
	case e == nil:
		b.stale("ended_unknown")
	case m.Task.Claim != e.row.Claim || m.Task.Replays != e.row.Replays:
		b.stale("ended_old_claim")
	case e.busy || e.row.State.Waiting():
		// The operation under way, or the row that followed, knows better.
		b.stale("ended_meanwhile")
	default:
		b.s.Metrics.ended(&m.Task)
		b.apply(e, m.Task)
		b.turnOver(&m.Task)
		b.settle(ctx, e)
	}
}

// proven ends a HELD task with the success that its gateway's owner found.
func (b *broker) proven(ctx actor.Context, t *messages.Task) {
	e := b.tasks[t.ID]
	if e == nil || e.row.Claim != t.Claim || e.row.State != messages.Held || t.Result == nil {
		b.stale("proof")
		return
	}
	if e.busy {
		return // G repeats it while the task is HELD
	}
	b.step(ctx, e, to(succeeded(e.row, t.Result, b.now), "proof"))
}

// stopRun tells the gateway's owner of the cancel flag, again while nothing happens.
func (b *broker) stopRun(ctx actor.Context, e *entry) {
	g := b.gates[e.row.Gateway]
	if g == nil || e.row.State == messages.Cancelling || b.now.Sub(e.stopped) < repeatEvery {
		return
	}
	e.stopped = b.now
	b.tell(ctx, g, messages.StopRun{ClaimRef: messages.ClaimRef{Task: e.row.ID, Claim: e.row.Claim}})
}
