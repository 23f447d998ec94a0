package gateway

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
)

// takesWork reports whether a claim could be sent now.
func (g *gateway) takesWork() bool {
	return g.loaded && g.link != nil && g.open && !g.draining && !g.removed && !g.managed.stopping
}

// live reports whether this node certainly owns the gateway still.
func (g *gateway) live() bool { return g.cfg.Live == nil || g.cfg.Live() }

// size is the window that the pool's owner is told.
func (g *gateway) size() int {
	if !g.takesWork() || !g.live() || g.refusal.shut || g.cfg.Yielding != nil && g.cfg.Yielding() {
		return 0
	}
	switch g.state {
	case messages.GatewayReady, messages.GatewayDegraded, messages.GatewayRecovering:
		if g.runsAlone() != nil {
			return min(1, g.window.Size())
		}
		return g.window.Size()
	}
	return 0
}

// demand tells the pool's owner how much work the gateway takes and what it holds.
func (g *gateway) demand(ctx actor.Context) {
	if !g.loaded {
		return
	}
	now := time.Now()
	g.demanded = now
	gw := g.gw
	d := messages.Demand{
		Gateway: gw.ID, Tenant: gw.Tenant, Pool: gw.Pool, Region: gw.Region, Capabilities: gw.Capabilities,
		Labels: gw.Labels, Weight: gw.Weight, Owner: g.cfg.Fence.Owner, Epoch: g.cfg.Fence.Epoch,
		BootID: g.boot, Window: g.size(), AwaySince: g.since, Gone: g.removed, Draining: g.draining, Paused: g.pauses.list(),
		Running: make([]messages.ClaimRef, 0, len(g.claims)),
	}
	for ref, c := range g.claims {
		if !c.watched {
			d.Running = append(d.Running, ref)
			if t := cmp.Or(c.trials, c.task.Trials); t != nil {
				if d.Trials == nil {
					d.Trials = map[messages.ClaimRef]*messages.Trials{}
				}
				d.Trials[ref] = t
			}
		}
	}
	for _, r := range g.returned {
		d.Returned = append(d.Returned, r)
	}
	g.cfg.Metrics.window.WithLabelValues(gw.ID).Set(float64(d.Window))
	g.cfg.Metrics.running.WithLabelValues(gw.ID).Set(float64(len(d.Running)))
	ctx.Request(g.cfg.Pool(gw.Pool), d)
}

func (g *gateway) tick(ctx actor.Context) {
	now := time.Now()
	before := g.size()
	g.window.Tick(now)
	back := g.pauses.expire(now)
	back = g.refusal.expire(now) || back
	g.health(ctx, now)
	g.sweep(ctx)
	g.happens(ctx, tick{})
	if back || g.size() != before || now.Sub(g.demanded) >= messages.DemandInterval {
		g.demand(ctx)
	}
}

// reduced says why the window is smaller than it could be, empty when it is not.
func (g *gateway) reduced() string {
	if g.refusal.shut {
		return gatewayRefuses
	}
	if c := g.runsAlone(); c != nil {
		return "it runs task " + c.ref.Task + " alone, because gateways died under it"
	}
	return g.window.Reduced()
}

// troubled takes a failure that points at the gateway or its provider.
func (g *gateway) troubled(ctx actor.Context, m session.Troubled) {
	now := time.Now()
	before, off := g.size(), g.pauses.reason()
	switch m.Trouble.Kind {
	case session.AuthTrouble:
		g.pauses.note(m.Trouble, m.Model, now)
		g.cfg.Metrics.refused.Inc()
	case session.ProviderTrouble:
		g.window.Trouble("runs failed at the model provider", now)
	case session.TimeoutTrouble:
		g.window.Trouble("runs hit their time limit", now)
	}
	if g.size() != before || g.pauses.reason() != off {
		g.happens(ctx, judged{})
		g.demand(ctx)
	}
}

// reading is a reading of the gateway's event loop.
type reading struct {
	conn session.Conn
	loop openclaw.EventLoop
	err  error
}

// health asks how late the gateway's main thread runs, one question at a time.
func (g *gateway) health(ctx actor.Context, now time.Time) {
	if g.link == nil || !g.open || g.asking || now.Sub(g.read) < g.cfg.Timing.Health {
		return
	}
	g.read, g.asking = now, true
	link, base, limit, out := g.link, g.ctx, g.cfg.Timing.Health, reading{conn: g.conn}
	g.aside(ctx, func() any {
		c, cancel := context.WithTimeout(base, limit)
		defer cancel()
		info, err := link.SystemInfo(c)
		out.loop, out.err = info.EventLoop, err
		return out
	})
}

func (g *gateway) reading(ctx actor.Context, m reading) {
	g.asking = false
	if !g.current(m.conn) {
		return
	}
	now := time.Now()
	before := g.size()
	switch {
	case m.err == nil:
		g.window.LoopDelay(m.loop.DelayP99, m.loop.Degraded, now)
	case late(m.err):
		// No answer inside the period is itself a reading.
		g.window.LoopDelay(g.cfg.Timing.Health, true, now)
	}
	if g.size() != before {
		g.happens(ctx, judged{})
		g.demand(ctx)
	}
}

// late reports whether a call found no answer in time.
func late(err error) bool {
	var lost *openclaw.LostError
	return errors.As(err, &lost) && lost.Timeout() || errors.Is(err, context.DeadlineExceeded)
}
