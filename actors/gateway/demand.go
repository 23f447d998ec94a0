package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
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
	switch g.status.State {
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
	gw := g.cfg.Gateway
	d := messages.Demand{
		Gateway: gw.ID, Tenant: gw.Tenant, Pool: gw.Pool, Region: gw.Region, Capabilities: gw.Capabilities,
		Labels: gw.Labels, Weight: gw.Weight, Owner: g.cfg.Fence.Owner, Epoch: g.cfg.Fence.Epoch,
		BootID: g.status.BootID, Window: g.size(), AwaySince: g.since, Gone: g.removed, Draining: g.draining, Paused: g.pauses.list(),
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
	if g.link != nil && now.Sub(g.linked) >= g.cfg.Timing.StableAfter {
		g.attempts = 0
	}
	g.judge(ctx)
	if back || g.size() != before || now.Sub(g.demanded) >= messages.DemandInterval {
		g.demand(ctx)
	}
	g.leave(ctx, now)
}

// judge moves the gateway between READY and DEGRADED, and says why anew when
// another trouble followed the first.
func (g *gateway) judge(ctx actor.Context) {
	reduced, off := g.reduced(), g.pauses.reason()
	switch {
	case off != "" && (g.status.State == messages.GatewayReady || g.status.State == messages.GatewayDegraded):
		g.setState(ctx, messages.GatewayDegraded, off, fmt.Sprintf(next.MendProvider, g.cfg.Gateway.ID))
	case g.misfit != "" && (g.status.State == messages.GatewayReady || g.status.State == messages.GatewayDegraded):
		g.setState(ctx, messages.GatewayDegraded, g.misfit, fmt.Sprintf(next.SetManagedConfig, g.cfg.Gateway.ID))
	case g.unwell != "" && (g.status.State == messages.GatewayReady || g.status.State == messages.GatewayDegraded):
		g.setState(ctx, messages.GatewayDegraded, g.unwell, fmt.Sprintf(next.SetManagedConfig, g.cfg.Gateway.ID))
	case reduced != "" && (g.status.State == messages.GatewayReady || g.status.State == messages.GatewayDegraded):
		g.setState(ctx, messages.GatewayDegraded, reduced, next.NothingToDoRecovers)
	case g.status.State == messages.GatewayDegraded && reduced == "":
		g.setReady(ctx)
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

// setReady also says when the gateway itself takes less than is configured.
func (g *gateway) setReady(ctx actor.Context) {
	g.setState(ctx, messages.GatewayReady, g.window.Limited(), "")
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
		g.judge(ctx)
		g.demand(ctx)
	}
}

// reading is a reading of the gateway's event loop.
type reading struct {
	inc  uint64
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
	root, self, link, base, limit := ctx.ActorSystem().Root, ctx.Self(), g.link, g.ctx, g.cfg.Timing.Health
	out := reading{inc: g.inc, conn: g.conn}
	go func() {
		c, cancel := context.WithTimeout(base, limit)
		defer cancel()
		info, err := link.SystemInfo(c)
		out.loop, out.err = info.EventLoop, err
		root.Send(self, out)
	}()
}

func (g *gateway) reading(ctx actor.Context, m reading) {
	if m.inc != g.inc {
		return
	}
	g.asking = false
	if m.conn != g.conn || g.link == nil {
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
		g.judge(ctx)
		g.demand(ctx)
	}
}

// late reports whether a call found no answer in time.
func late(err error) bool {
	var lost *openclaw.LostError
	return errors.As(err, &lost) && lost.Timeout() || errors.Is(err, context.DeadlineExceeded)
}
