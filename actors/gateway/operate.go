package gateway

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/messages"
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

// configure makes the new configuration that of the window and of the next
// process, before it is decided what else follows.
func (g *gateway) configure(ctx actor.Context, m Configure) {
	g.window.Configure(max(1, m.Gateway.MaxConcurrency), g.window.lane)
	if g.cfg.Process != nil && m.Gateway.Managed != nil {
		g.cfg.Process.Configure(m.Gateway)
	}
	g.happens(ctx, m)
}

func (g *gateway) snapshot() Snapshot {
	s := Snapshot{Status: g.row(), Reduced: g.reduced(), Away: g.since, Config: g.managed.uptake}
	for _, c := range g.claims {
		s.Running = append(s.Running, RunInfo{Ref: c.ref, Session: c.task.Session, Failing: c.failing})
	}
	return s
}
