package gateway

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// claim is one task that the gateway holds, with the session actor below it.
type claim struct {
	ref     messages.ClaimRef
	task    *messages.Task // as it came; never changed in place
	runs    []string       // run ids whose events belong here
	pid     *actor.PID
	fresh   bool // its first frame is not written yet
	want    *session.SendRun
	watched bool             // HELD: it takes no slot
	suspect bool             // its task may be what kills the gateway
	waits   bool             // for the gateway to itself
	failing string           // why its session actor is being restarted
	trials  *messages.Trials // of its task, if gateways died under it
}

// held counts the claims that take a slot.
func (g *gateway) held() int {
	n := 0
	for _, c := range g.claims {
		if !c.watched {
			n++
		}
	}
	return n
}

func (g *gateway) recoveringClaims() int {
	n := 0
	for _, c := range g.claims {
		if !c.watched && !c.fresh && c.task.BootID != "" && c.task.BootID != g.boot {
			n++
		}
	}
	return n
}

type claimsLoaded struct {
	tasks    []messages.Task
	sessions map[string]*messages.Session // by task id
	err      error
}

// loadClaims reads what earlier lives of this gateway's owner left.
func (g *gateway) loadClaims(ctx actor.Context) {
	store, id, limit, base := g.cfg.Store, g.gw.ID, g.cfg.Timing.CallTimeout, g.ctx
	g.aside(ctx, func() any {
		out := claimsLoaded{sessions: map[string]*messages.Session{}}
		f := persistence.TaskFilter{Gateway: id, States: []messages.TaskState{
			messages.Claimed, messages.Running, messages.Recovering, messages.Cancelling, messages.Held}}
		for cursor := ""; ; {
			c, cancel := context.WithTimeout(base, limit)
			page, next, err := store.Tasks(c, f, cursor, 500)
			cancel()
			out.tasks = append(out.tasks, page...)
			if out.err = err; err != nil || next == "" {
				break
			}
			cursor = next
		}
		for _, t := range out.tasks {
			if out.err != nil {
				break
			}
			out.sessions[t.ID], out.err = sessionRow(base, store, limit, t)
		}
		return out
	})
}

func sessionRow(base context.Context, store Store, limit time.Duration, t messages.Task) (*messages.Session, error) {
	if t.Session == "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(base, limit)
	defer cancel()
	s, err := store.Session(ctx, t.Tenant, t.Session)
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// stopped reports whether the actor ends: it waits for its children then, and one that
// was made now would not be stopped. The next owner finds what is left.
func (g *gateway) stopped() bool { return g.ctx.Err() != nil }

func (g *gateway) claimsLoaded(ctx actor.Context, m claimsLoaded) {
	if g.stopped() {
		return
	}
	if m.err != nil {
		g.cfg.Logger.Warn("claims of the gateway cannot be read; trying again", slog.Any("err", m.err))
		g.later(ctx, time.Second, reload{})
		return
	}
	slices.SortFunc(m.tasks, func(a, b messages.Task) int { return a.ClaimedAt.Compare(b.ClaimedAt) })
	for i := range m.tasks {
		t := &m.tasks[i]
		ref := messages.ClaimRef{Task: t.ID, Claim: t.Claim}
		c := &claim{ref: ref, task: t, watched: t.State == messages.Held, suspect: t.Suspect()}
		g.employ(ctx, c)
		ctx.Send(c.pid, &session.Begin{Task: t, Session: m.sessions[t.ID]})
	}
	for _, a := range g.early {
		g.take(ctx, a)
	}
	g.early = nil
	if len(m.tasks) > 0 {
		g.cfg.Logger.Info("took up tasks of an earlier life", slog.Int("tasks", len(m.tasks)))
	}
	g.happens(ctx, known{})
}

// reload reads them once more.
type reload struct{}

// maxIdle bounds the session actors that wait for their next run.
const maxIdle = 64

// employ gives a claim its session actor: one whose run is over, else a new one.
func (g *gateway) employ(ctx actor.Context, c *claim) {
	if n := len(g.idle); n > 0 {
		c.pid, g.idle = g.idle[n-1], g.idle[:n-1]
	} else {
		c.pid = g.spawn(ctx)
	}
	g.claims[c.ref] = c
	g.room.open(c.ref)
	g.listen(c, messages.RunID(c.ref.Task, c.ref.Claim), true)
	g.cfg.Metrics.busy.Inc()
}

// listen routes the events of a run id to the claim.
func (g *gateway) listen(c *claim, runID string, own bool) {
	c.runs = append(c.runs, runID)
	g.routes.add(runID, route{ref: c.ref, own: own})
}

// spawn starts a session actor.
func (g *gateway) spawn(ctx actor.Context) *actor.PID {
	g.spawned++
	cfg := session.Config{
		Committer: g.cfg.Committer, Fence: g.cfg.Fence, History: g.cfg.History,
		Timing: g.cfg.Timing.Session, Logger: g.cfg.Logger, Dispatcher: g.cfg.Dispatcher,
		Reads: g.reads, Hold: g.room.hold, Free: g.room.free,
	}
	pid, err := ctx.SpawnNamed(session.Props(cfg), "session-"+strconv.FormatUint(g.spawned, 36))
	if err != nil {
		panic(err) // the number is new: a bug
	}
	return pid
}

func (g *gateway) assign(ctx actor.Context, a *messages.Assign) {
	if !g.loaded {
		g.early = append(g.early, a)
		return
	}
	g.take(ctx, a)
}

// take takes a durable claim. It goes back at once when nothing can be sent now.
func (g *gateway) take(ctx actor.Context, a *messages.Assign) {
	if g.stopped() {
		return
	}
	ref := messages.ClaimRef{Task: a.Task.ID, Claim: a.Task.Claim}
	if _, ok := g.claims[ref]; ok {
		return
	}
	if _, ok := g.returned[ref]; ok {
		g.demand(ctx)
		return
	}
	if a.Task.State != messages.Claimed {
		g.adopt(ctx, ref, &a.Task)
		return
	}
	if !g.takesWork() {
		g.giveBack(ctx, messages.Returned{ClaimRef: ref, Reason: "the gateway takes no work now"})
		return
	}
	if s := g.runsAlone(); s != nil && !a.Task.Suspect() {
		g.giveBack(ctx, messages.Returned{ClaimRef: ref, Reason: "the gateway runs task " + s.ref.Task + " alone"})
		return
	}
	c := &claim{ref: ref, task: &a.Task, fresh: true, suspect: a.Task.Suspect()}
	g.order = append(g.order, c)
	g.employ(ctx, c)
	ctx.Send(c.pid, &session.Begin{
		Task: &a.Task, Session: a.Session, History: a.History, Fresh: true,
		Linked: g.present(),
	})
	if c.suspect {
		g.demand(ctx) // its window is smaller now
	}
}

// adopt takes up a run that this owner should have and does not: the pool's
// owner missed it in the Demand. What becomes of it is read from its row, which
// may say by now that it has ended.
func (g *gateway) adopt(ctx actor.Context, ref messages.ClaimRef, t *messages.Task) {
	if g.stopped() {
		return
	}
	g.cfg.Logger.Warn("took up a run that was not known here", slog.String("task", ref.Task), slog.String("state", t.State.String()))
	g.employ(ctx, &claim{ref: ref, task: t, suspect: t.Suspect()})
	g.loadRow(ctx, ref, "")
}

// tell passes a message on to the claim's session actor.
func (g *gateway) tell(ctx actor.Context, ref messages.ClaimRef, m any) {
	if c := g.claims[ref]; c != nil {
		ctx.Send(c.pid, m)
	}
}

func (g *gateway) track(m session.Track) {
	if c := g.claims[m.Ref]; c != nil {
		g.listen(c, m.RunID, false)
	}
}

// report passes a run's news on to the pool's owner.
func (g *gateway) report(ctx actor.Context, m session.Report) {
	pool := g.cfg.Pool(g.gw.Pool)
	switch {
	case m.Changed != nil:
		if c := g.claims[m.Ref]; c != nil {
			task := *c.task
			task.Generation = m.Changed.Session.Generation
			c.task = &task
		}
		ctx.Request(pool, *m.Changed)
	case m.Trials != nil:
		if c := g.claims[m.Ref]; c != nil {
			c.trials = m.Trials
			g.demand(ctx) // before anybody can take the task away
		}
	case m.Proof != nil:
		ctx.Request(pool, messages.Proof{Task: *m.Proof})
	}
}

// giveBack keeps the evidence until the pool's owner has taken it.
func (g *gateway) giveBack(ctx actor.Context, r messages.Returned) {
	g.returned[r.ClaimRef] = r
	g.cfg.Metrics.returned.Inc()
	g.demand(ctx)
}

func (g *gateway) taken(m messages.Taken) {
	for _, ref := range m.Claims {
		delete(g.returned, ref)
	}
}

func (g *gateway) withdraw(ctx actor.Context, m messages.Withdraw) {
	if c := g.claims[m.ClaimRef]; c != nil {
		ctx.Send(c.pid, session.Withdrawn{Claim: m.Claim, Held: m.Held})
	}
}

// watchOnly: the task is HELD; its run only looks for a proof from now on.
func (g *gateway) watchOnly(ctx actor.Context, ref messages.ClaimRef) {
	if c := g.claims[ref]; c != nil {
		c.watched = true
		g.skip(ctx, c)
		g.demand(ctx)
		g.grant(ctx)
		g.happens(ctx, freed{})
	}
}

// free takes the claim's slot back, before anybody hears of its end.
func (g *gateway) free(ctx actor.Context, ref messages.ClaimRef) {
	if c := g.claims[ref]; c != nil && !c.watched {
		c.watched = true
		g.skip(ctx, c)
	}
}

// over takes the end of a run: the pool's owner hears of it, the session actor
// is free for another.
func (g *gateway) over(ctx actor.Context, m *session.Over) {
	g.free(ctx, m.Ref)
	if m.Ended != nil {
		ctx.Send(g.cfg.Pool(g.gw.Pool), m.Ended)
	}
	if m.Returned != nil {
		if m.Returned.Refused {
			g.refusal.again(time.Now())
		}
		g.giveBack(ctx, *m.Returned)
	}
	if m.Delete != "" {
		g.deletes.add(m.Delete)
		g.sweepMany(ctx)
	}
	if m.Fence.Key != "" {
		g.tearDown(ctx, m.Fence.Key, m.Fence.Dispose)
	}
	if c := g.claims[m.Ref]; c != nil {
		g.retire(ctx, c)
		g.forget(ctx, c)
	}
	if m.Ended != nil {
		if m.Ended.Task.State == messages.Succeeded && g.unwell != "" {
			g.happens(ctx, served{})
		}
		g.explained(ctx, &m.Ended.Task)
	}
}

// retire keeps a healthy session actor for the next claim and ends any other.
func (g *gateway) retire(ctx actor.Context, c *claim) {
	if c.failing != "" || len(g.idle) >= maxIdle {
		ctx.Stop(c.pid)
		return
	}
	g.idle = append(g.idle, c.pid)
}

func (g *gateway) forget(ctx actor.Context, c *claim) {
	delete(g.claims, c.ref)
	g.routes.remove(c.ref, c.runs)
	g.room.close(c.ref)
	g.skip(ctx, c)
	g.supervisor.Forget(c.pid)
	g.cfg.Metrics.busy.Dec()
	g.mended(c)
	if c.suspect {
		g.demand(ctx) // its window is whole again
	}
	g.grant(ctx)
	g.happens(ctx, freed{})
}
