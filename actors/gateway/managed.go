package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// managed is what is known of a managed gateway's process.
type managed struct {
	up       bool // Ensure said so and no exit was seen since
	starting bool
	stopping bool
	stale    bool // it runs with another configuration than the present one
	renewed  bool // what was stopped, or is, has another configuration than what starts next
	hung     bool // at the last look its process lived and did not answer
	cold     bool // it was started by us and has had no turn yet
	endpoint Endpoint
	failed   *StartError // why the last start failed; nil: it did not
	starts   []time.Time // inside the retry window; adoptions do not count

	uptake    ConfigUptake
	prior     ConfigUptake // how it came to the one that it runs with, while it is given another or refuses it
	before    string       // its boot id when it became stale
	given     given
	reloading bool // it was given its configuration while it runs
	again     bool // that changed meanwhile
}

type (
	started struct {
		inc      uint64
		endpoint Endpoint
		err      error
	}
	exited struct {
		inc uint64
		pid int
	}
	stopped struct {
		inc uint64
		err error
	}
)

// startProcess adopts or starts the daemon; too many starts inside the retry
// window end in quarantine.
func (g *gateway) startProcess(ctx actor.Context) {
	if g.managed.starting || g.managed.stopping {
		return
	}
	if n := g.recentStarts(time.Now()); n >= g.cfg.Timing.RetryLimit {
		g.giveUp(ctx, n)
		return
	}
	g.sayStarting(ctx)
	g.managed.starting = true
	root, self, inc, p, base := ctx.ActorSystem().Root, ctx.Self(), g.inc, g.cfg.Process, g.ctx
	go func() {
		e, err := p.Ensure(base)
		root.Send(self, started{inc: inc, endpoint: e, err: err})
	}()
}

// giveUp tells of the last failure where that is known: a start that failed
// before there was a process has written no log.
func (g *gateway) giveUp(ctx actor.Context, n int) {
	within := g.cfg.Timing.RetryWindow
	if e := g.managed.failed; e != nil {
		g.quarantine(ctx, fmt.Sprintf("the gateway process was started %d times within %s in vain; the last time: %s", n, within, e.Reason), e.NextStep)
		return
	}
	file := "gateways/" + g.cfg.Gateway.ID + "/gateway.log in the data folder"
	if m := g.cfg.Gateway.Managed; m != nil && m.StateDir != "" {
		file = m.StateDir + "/gateway.log"
	}
	g.quarantine(ctx, fmt.Sprintf("the gateway process ended %d times within %s", n, within), fmt.Sprintf(next.ReadGatewayLog, file))
}

// sayStarting: a process that is known to live is looked for, not started. One
// that does not answer stays UNREACHABLE for as long as that takes.
func (g *gateway) sayStarting(ctx actor.Context) {
	pid := g.managed.endpoint.PID
	switch {
	case g.status.State != messages.GatewayUnreachable || pid == 0 && !g.managed.hung:
		g.setState(ctx, messages.GatewayStarting, "", "")
	case pid == 0:
		g.setState(ctx, messages.GatewayUnreachable, "its process runs but does not answer", next.WaitOrRestartGateway)
	default:
		g.setState(ctx, messages.GatewayUnreachable, fmt.Sprintf("its process (pid %d) runs but does not answer", pid), next.WaitOrRestartGateway)
	}
}

func (g *gateway) recentStarts(now time.Time) int {
	kept := g.managed.starts[:0]
	for _, t := range g.managed.starts {
		if now.Sub(t) < g.cfg.Timing.RetryWindow {
			kept = append(kept, t)
		}
	}
	g.managed.starts = kept
	return len(kept)
}

func (g *gateway) processStarted(ctx actor.Context, m started) {
	if m.inc != g.inc {
		return
	}
	g.managed.starting = false
	var e *StartError
	known := errors.As(m.err, &e)
	g.managed.hung, g.managed.failed = known && e.Alive, e
	if m.err != nil && (g.removed || g.managed.stopping) {
		return // its stop interrupted the start and goes on by itself
	}
	if m.err != nil {
		g.managed.starts = append(g.managed.starts, time.Now())
		switch {
		case known && e.Permanent:
			g.quarantine(ctx, e.Reason, e.NextStep)
		case known && e.Alive:
			g.away(ctx, "its process does not answer: "+e.Reason, e.NextStep, 0)
		case known && e.NextStep != "":
			g.away(ctx, "the gateway process did not start: "+e.Reason, e.NextStep, 0)
		default:
			g.unreachable(ctx, "the gateway process did not start: "+m.err.Error(), 0)
		}
		return
	}
	// A process that only the connection was lost to comes back with its pid.
	if m.endpoint.PID != g.managed.endpoint.PID {
		g.managed.cold = !m.endpoint.Adopted
		if !m.endpoint.Adopted {
			g.newProcess()
		}
		g.awaitExit(ctx, m.endpoint.PID)
	}
	g.managed.up, g.managed.endpoint = true, m.endpoint
	if m.endpoint.Adopted && m.endpoint.Stale {
		g.outdated()
	}
	g.status.PID = m.endpoint.PID
	g.cfg.Logger.Info("gateway process is up", slog.Int("pid", m.endpoint.PID), slog.Bool("adopted", m.endpoint.Adopted))
	if g.managed.stopping {
		return
	}
	g.dial(ctx)
}

// newProcess: it was started with what is wanted now.
func (g *gateway) newProcess() {
	g.managed.starts = append(g.managed.starts, time.Now())
	g.managed.stale, g.misfit, g.managed.given = false, "", given{}
	how := ConfigStarted
	if g.managed.uptake == ConfigRestarting {
		how = ConfigRestarted
	}
	g.managed.uptake = how
}

// awaitExit waits for the end of a process on a goroutine that ends with it or
// with the incarnation.
func (g *gateway) awaitExit(ctx actor.Context, pid int) {
	root, self, inc, p, base := ctx.ActorSystem().Root, ctx.Self(), g.inc, g.cfg.Process, g.ctx
	go func() {
		if p.AwaitExit(base) {
			root.Send(self, exited{inc: inc, pid: pid})
		}
	}()
}

// processExited: the process is gone, expected or not.
func (g *gateway) processExited(ctx actor.Context, m exited) {
	if m.inc != g.inc || m.pid != g.managed.endpoint.PID {
		return
	}
	g.managed.up, g.managed.endpoint, g.status.PID = false, Endpoint{}, 0
	g.managed.hung = false
	if g.managed.starting { // what was looked for is gone, so that another is started
		g.sayStarting(ctx)
	}
	if g.link == nil && !g.managed.stopping && g.status.State == messages.GatewayConnecting {
		g.conn++ // the dial under way is void
		g.unreachable(ctx, "the gateway process ended", 0)
	}
}

// killTimeout bounds the end of a process that did not drain.
const killTimeout = 30 * time.Second

// stopProcess drains and ends the process; it waits for the runs by itself. A
// process that is still there when its own budget is over hangs and is killed.
func (g *gateway) stopProcess(ctx actor.Context) {
	if g.managed.stopping {
		return
	}
	g.managed.stopping, g.managed.stale = true, false
	g.ended = g.status.BootID
	g.demand(ctx)
	root, self, inc, p, limit := ctx.ActorSystem().Root, ctx.Self(), g.inc, g.cfg.Process, g.cfg.Timing.StopTimeout
	go func() {
		err := within(limit, p.Stop)
		if errors.Is(err, context.DeadlineExceeded) {
			if killed := within(killTimeout, p.Kill); killed != nil {
				err = errors.Join(err, killed)
			}
		}
		root.Send(self, stopped{inc: inc, err: err})
	}()
}

func within(limit time.Duration, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return call(ctx)
}

func (g *gateway) processStopped(ctx actor.Context, m stopped) {
	if m.inc != g.inc {
		return
	}
	g.managed.stopping = false
	if m.err != nil {
		g.cfg.Logger.Error("gateway process did not stop as asked", slog.Any("err", m.err))
	}
	g.managed.up, g.managed.endpoint, g.status.PID, g.managed.hung = false, Endpoint{}, 0, false
	g.managed.starts = nil // an end that was asked for is no crash
	if g.managed.renewed {
		g.managed.renewed = false
		g.pauses.lift() // those that its last runs met, too
	}
	if g.removed {
		g.gone(ctx)
		return
	}
	if g.link != nil {
		g.drop("the gateway process was stopped")
		g.unlink(ctx)
	}
	g.conn++ // a dial under way is void
	g.afterStop(ctx)
}

// afterStop goes on as is wanted now, which may be something else than when
// the stop began.
func (g *gateway) afterStop(ctx actor.Context) {
	state := g.status.State
	switch {
	case g.draining && g.held() == 0:
		g.setDrained(ctx)
	case state == messages.GatewayQuarantined, state == messages.GatewayRegistered:
		g.connect(ctx)
	default: // one that is to drain does so once it is known to be well
		words := "the gateway process is being restarted"
		if g.managed.uptake == ConfigRestarting {
			words += " for its new configuration"
		}
		g.unreachable(ctx, words, 0)
	}
}
