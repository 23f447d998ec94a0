package gateway

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/actors/supervise"
	"github.com/dash-fleet/dash/messages"
)

// Props returns the props of a gateway actor.
func Props(cfg Config) *actor.Props {
	cfg.Timing = cfg.Timing.withDefaults()
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	cfg.Logger = cfg.Logger.With(slog.String("gateway", cfg.Gateway.ID))
	var incarnations atomic.Uint64
	var opts []actor.PropsOption
	if cfg.Dispatcher != nil {
		opts = append(opts, actor.WithDispatcher(cfg.Dispatcher))
	}
	return actor.PropsFromProducer(func() actor.Actor {
		return newGateway(cfg, incarnations.Add(1))
	}, opts...)
}

// gateway is the actor's state; only its own turn touches it.
type gateway struct {
	cfg    Config
	inc    uint64
	ctx    context.Context // ends with the incarnation
	cancel context.CancelFunc
	supervisor

	life    // decided by decide, see happens
	link    Link
	status  messages.GatewayStatus // as it was recorded last; see row
	missing bool                   // its loss was said
	tearing int                    // teardowns under way

	window   Window
	pauses   pauses
	claims   map[messages.ClaimRef]*claim
	order    []*claim // fresh claims whose frame is not written yet, in claim order
	returned map[messages.ClaimRef]messages.Returned
	refusal  refusal
	early    []*messages.Assign // came before the claims were loaded
	idle     []*actor.PID       // session actors without a run, at most maxIdle
	routes   *routes
	room     *room
	reads    chan struct{} // a place for each transcript that is being read
	deletes  sweeper
	children children
	demanded time.Time
	read     time.Time // last health reading asked for
	asking   bool
	ticker   *time.Ticker
	tickDone chan struct{}
	spawned  uint64
	toPark   []park
}

func newGateway(cfg Config, inc uint64) *gateway {
	now := time.Now()
	g := &gateway{
		cfg: cfg, inc: inc, life: newLife(&cfg, now), status: cfg.Last,
		window:   NewWindow(max(1, cfg.Gateway.MaxConcurrency), now),
		claims:   map[messages.ClaimRef]*claim{},
		returned: map[messages.ClaimRef]messages.Returned{},
		routes:   newRoutes(cfg.Text, cfg.Trouble, cfg.Metrics.cutTexts),
		room:     newRoom(cfg.Memory),
		reads:    make(chan struct{}, maxReads),
	}
	g.status.ID, g.status.Tenant = cfg.Gateway.ID, cfg.Gateway.Tenant
	g.status.Owner, g.status.Epoch = cfg.Fence.Owner, cfg.Fence.Epoch
	g.status.State = 0
	g.supervisor.Strategy = supervise.New(supervise.Config{
		Kind: "session", Initial: cfg.Timing.SessionDelay, Max: 30 * time.Second,
		Limit: cfg.Timing.SessionLimit, Window: cfg.Timing.SessionWindow,
		GiveUp: g.parkLater, Restarting: g.sessionFailed, Logger: cfg.Logger, Restarts: cfg.Restarts,
	})
	return g
}

// supervisor makes the gateway's strategy that of its session actors.
type supervisor struct{ *supervise.Strategy }

func (g *gateway) Receive(ctx actor.Context) {
	defer supervise.LogPanic(g.cfg.Logger, ctx)
	switch m := ctx.Message().(type) {
	case *actor.Started:
		g.started(ctx)
	case *actor.Stopping:
		g.stopping()
	case *actor.Restarting:
		g.stopping()
		g.countOff()
	case *actor.Stopped:
		g.countOff()
		g.cfg.Boots.Release(g.gw.ID)
	case *actor.Terminated:
		g.parkAll(ctx)

	// from the pool's owner
	case *messages.Assign:
		g.assign(ctx, m)
	case messages.StopRun:
		g.tell(ctx, m.ClaimRef, m)
	case messages.Withdraw:
		g.withdraw(ctx, m)
	case messages.Taken:
		g.taken(m)

	// from session actors
	case *session.SendRun:
		g.sendRun(ctx, m)
	case session.Track:
		g.track(m)
	case session.Attends:
		if g.claims[m.Ref] != nil { // what is said last of a claim is nothing
			g.routes.wait(m)
		}
	case session.Report:
		g.report(ctx, m)
	case session.Suspect:
		g.suspect(ctx, m.Ref)
	case session.WantAlone:
		g.wantAlone(ctx, m.Ref)
	case session.Watching:
		g.watchOnly(ctx, m.Ref)
	case *session.Over:
		g.over(ctx, m)
	case session.Again:
		g.again(ctx, m.Ref)
	case session.Served:
		if g.pauses.served(m.Provider, m.Claimed) {
			g.happens(ctx, judged{})
			g.demand(ctx)
		}
	case session.Troubled:
		g.troubled(ctx, m)

	// own slow work
	case own:
		if m.inc == g.inc {
			g.mine(ctx, m.m)
		}
	case news:
		<-m.place
		g.heard(ctx, m.m)
	case tick:
		g.tick(ctx)
	case commit.Done:
		g.committed(ctx, m)

	// from operators
	case Drain, Restart, Remove:
		g.happens(ctx, m)
	case Resume:
		g.pauses.lift()
		g.happens(ctx, m)
	case Configure:
		g.configure(ctx, m)
	case Lost:
		if m.Epoch == g.cfg.Fence.Epoch {
			g.lost(ctx)
		}
	case Inspect:
		m.Reply <- g.snapshot()
	}
}

// mine takes what came of the actor's own slow work.
func (g *gateway) mine(ctx actor.Context, m any) {
	switch m := m.(type) {
	case claimsLoaded:
		g.claimsLoaded(ctx, m)
	case reload:
		g.loadClaims(ctx)
	case rowLoaded:
		g.rowLoaded(ctx, m)
	case loadAgain:
		if g.claims[m.ref] != nil {
			g.loadRow(ctx, m.ref, m.park)
		}
	case dialled:
		g.dialled(ctx, m)
	case linkLost:
		g.linkLost(ctx, m)
	case settled:
		g.settled(ctx, m)
	case reading:
		g.reading(ctx, m)
	case swept:
		g.swept(ctx, m)
	case tornDown:
		g.tornDown(m)
	case reloaded:
		g.happens(ctx, m)
		g.happens(ctx, judged{}) // the window and the pauses may have changed
	default: // reconnect, started, exited, stopped
		g.happens(ctx, m)
	}
}

type tick struct{}

// heard takes news of a connection.
func (g *gateway) heard(ctx actor.Context, m any) {
	switch m := m.(type) {
	case childHeard:
		if m.inc == g.inc {
			g.subAgent(ctx, m.child)
		}
	case ended:
		g.tell(ctx, m.ref, m.event)
	}
}

func (g *gateway) started(ctx actor.Context) {
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.happens(ctx, registered{})
	g.startTicker(ctx)
	g.loadClaims(ctx)
}

func (g *gateway) startTicker(ctx actor.Context) {
	g.ticker = time.NewTicker(g.cfg.Timing.Tick)
	g.tickDone = make(chan struct{})
	root, self, ticks, done := ctx.ActorSystem().Root, ctx.Self(), g.ticker.C, g.tickDone
	go func() {
		for {
			select {
			case <-ticks:
				root.Send(self, tick{})
			case <-done:
				return
			}
		}
	}()
}

// stopping leaves the gateway process and its runs alone: another owner, or
// this actor's next incarnation, takes them up.
func (g *gateway) stopping() {
	g.cancel() // the link and every call under way end with it
	g.room.clear()
	g.link = nil
	g.ticker.Stop()
	close(g.tickDone)
}

// countOff takes this incarnation out of the gauges.
func (g *gateway) countOff() {
	g.cfg.Metrics.window.DeleteLabelValues(g.gw.ID)
	g.cfg.Metrics.running.DeleteLabelValues(g.gw.ID)
	g.cfg.Metrics.moved(g.status.State, 0)
	for _, c := range g.claims {
		g.cfg.Metrics.busy.Dec()
		g.mended(c)
	}
}
