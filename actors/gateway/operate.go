package gateway

import (
	"fmt"
	"reflect"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// Commands to a gateway actor.
type (
	// Drain stops new work; DRAINED follows when the last run has ended. A
	// managed process is then stopped.
	Drain struct{}
	// Resume opens a drained gateway.
	Resume struct{}
	// Restart leaves quarantine and connects anew; a managed process is
	// drained and started again.
	Restart struct{}
	// Configure replaces the configuration that can change while it runs.
	Configure struct{ Gateway messages.Gateway }
	// Remove ends the gateway: the pool takes its claims back at once, by their
	// on_unknown, their runs are stopped as well as possible, and a managed
	// process too.
	Remove struct{}
	// Inspect asks for a snapshot.
	Inspect struct{ Reply chan<- Snapshot }
)

// Snapshot is what an operator may want to know.
type Snapshot struct {
	Status  messages.GatewayStatus
	Running []RunInfo
	Reduced string // why the window is smaller than configured, empty otherwise
	Away    time.Time
	Config  ConfigUptake // managed: how the process came to its configuration
}

// RunInfo is one claim that the gateway holds.
type RunInfo struct {
	Ref     messages.ClaimRef
	Session string // the session of its task, empty: none
	Failing string // why its session actor is being restarted, empty: it is not
}

func (g *gateway) drain(ctx actor.Context) {
	g.draining = true
	if !g.loaded {
		return // claimsLoaded goes on with it
	}
	switch g.status.State {
	case messages.GatewayReady, messages.GatewayDegraded, messages.GatewayRecovering:
		g.setDraining(ctx)
	}
	g.demand(ctx)
	g.drainedIfEmpty(ctx)
}

func (g *gateway) setDraining(ctx actor.Context) {
	g.setState(ctx, messages.GatewayDraining, "an operator asked for it", fmt.Sprintf(next.ResumeGateway, g.cfg.Gateway.ID))
}

// drainedIfEmpty ends a drain when the last run has ended, whatever the
// gateway's own state is: a dead one has nothing to wait for. A process is
// stopped whatever is known of it: one that starts, hangs or cannot be used too.
func (g *gateway) drainedIfEmpty(ctx actor.Context) {
	if !g.draining || !g.loaded || g.removed || g.held() > 0 || g.managed.stopping || g.status.State == messages.GatewayDrained {
		return
	}
	if g.daemon() != nil {
		g.stopProcess(ctx)
		return
	}
	g.setDrained(ctx)
}

func (g *gateway) setDrained(ctx actor.Context) {
	if g.link == nil {
		g.conn++ // a dial under way is void
	}
	g.setState(ctx, messages.GatewayDrained, "an operator drained it", fmt.Sprintf(next.ResumeGateway, g.cfg.Gateway.ID))
	g.demand(ctx)
}

func (g *gateway) resume(ctx actor.Context) {
	g.draining = false
	if g.pauses.lift() {
		g.judge(ctx)
		g.demand(ctx)
	}
	switch {
	case !g.loaded, g.managed.stopping: // it is started afterwards
	case g.link != nil && g.open:
		switch g.status.State {
		case messages.GatewayDraining, messages.GatewayDrained:
			g.setReady(ctx)
		}
		g.demand(ctx)
		g.sweep(ctx)
		g.refresh(ctx) // what came during a drain that did not come to its end
	case g.status.State == messages.GatewayDrained:
		g.connect(ctx)
	}
}

// restart begins anew: out of quarantine, on a new connection, and for a
// managed gateway with a new process, once its runs have ended.
func (g *gateway) restart(ctx actor.Context) {
	g.attempts = 0
	g.managed.starts = nil
	switch {
	case g.daemon() != nil && g.loaded && g.status.State != messages.GatewayDrained:
		g.stopProcess(ctx) // also one that does not answer, or is not known to run
	case g.link != nil:
		g.drop("an operator asked for a restart")
	case g.status.State == messages.GatewayQuarantined, g.status.State == messages.GatewayUnreachable,
		g.status.State == messages.GatewayConnecting: // what is being dialled may be the old address
		g.connect(ctx)
	}
}

func (g *gateway) gone(ctx actor.Context) {
	g.setState(ctx, messages.GatewayRemoved, "an operator removed it", "")
	ctx.Stop(ctx.Self())
}

func (g *gateway) configure(ctx actor.Context, gw messages.Gateway) {
	old := g.cfg.Gateway
	g.cfg.Gateway = gw
	g.window.Configure(max(1, gw.MaxConcurrency), g.window.lane)
	if g.cfg.Process != nil && gw.Managed != nil {
		g.cfg.Process.Configure(gw)
	}
	changed := !reflect.DeepEqual(gw.Managed, old.Managed)
	if changed || gw.URL != old.URL {
		g.managed.renewed = g.managed.renewed || changed && (g.managed.up || g.managed.stopping)
		g.pauses.lift() // it may have another key now
	}
	if changed || gw.Managed != nil && gw.MaxConcurrency != old.MaxConcurrency {
		g.outdated()
		g.misfit = ""
	}
	drained := g.draining || g.status.State == messages.GatewayDrained // its next start reads it
	if (gw.Home != old.Home || gw.Node != old.Node) && g.loaded && g.link == nil && !drained && !g.removed {
		g.attempts, g.managed.starts, g.managed.stale = 0, nil, false // its new home starts it as it is wanted now
		g.connect(ctx)
	} else if gw.URL != old.URL || gw.Token != old.Token {
		g.restart(ctx)
	} else {
		g.refresh(ctx)
	}
	g.demand(ctx)
}

func (g *gateway) snapshot() Snapshot {
	g.status.Window, g.status.Running = g.size(), g.held()
	s := Snapshot{Status: g.status, Reduced: g.reduced(), Away: g.since, Config: g.managed.uptake}
	for _, c := range g.claims {
		s.Running = append(s.Running, RunInfo{Ref: c.ref, Session: c.task.Session, Failing: c.failing})
	}
	return s
}
