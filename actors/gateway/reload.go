package gateway

import (
	"context"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// ConfigUptake is how the process of a managed gateway came to the
// configuration that is wanted of it. Empty: not known, it was started by an
// earlier life of Dash.
type ConfigUptake string

// How a process came to its configuration.
const (
	ConfigStarted    ConfigUptake = "started"    // it was started with it
	ConfigApplying   ConfigUptake = "applying"   // it was given it and has not said yet
	ConfigHot        ConfigUptake = "hot"        // it took it while it ran
	ConfigRestarting ConfigUptake = "restarting" // it is started again for it, after its runs
	ConfigRestarted  ConfigUptake = "restarted"  // it was started again for it
	ConfigRefused    ConfigUptake = "refused"    // it goes on with the one before
	ConfigSame       ConfigUptake = "same"       // it has it already; never shown
)

// reloaded is the end of a try to change the configuration of a living process.
type reloaded struct {
	inc    uint64
	conn   session.Conn
	uptake ConfigUptake // same, hot, restarting or refused; empty: the connection was lost
	why    string
	given  given
	lane   int
	warm   *warmth
	err    error // what could not be written down
}

// refresh brings the process to the configuration that is wanted now: by itself
// while it runs, where it can, else by a start after its runs.
func (g *gateway) refresh(ctx actor.Context) {
	m := &g.managed
	switch {
	case !m.stale || g.removed || m.stopping || g.daemon() == nil:
		return
	case g.draining || g.status.State == messages.GatewayDrained:
		return // the next start reads it
	case m.reloading:
		m.again = true
		return
	case g.link == nil:
		g.restartForConfig(ctx, "it is not connected")
		return
	case !g.open:
		return // once the connection is settled
	}
	if m.uptake != ConfigApplying && m.uptake != ConfigRefused {
		m.prior = m.uptake
	}
	m.reloading, m.uptake = true, ConfigApplying
	root, self, base, p, link, timing := ctx.ActorSystem().Root, ctx.Self(), g.ctx, g.cfg.Process, g.link, g.cfg.Timing
	out := reloaded{inc: g.inc, conn: g.conn}
	// A first turn that failed is tried again with the new configuration.
	warm, tenant, last := g.unwell != "", g.cfg.Gateway.Tenant, m.given
	go func() {
		out.uptake, out.why, out.given = giveConfig(base, p, link, timing, last)
		if out.uptake == ConfigHot || out.uptake == ConfigRefused {
			out.err = p.Rewritten(base, out.uptake == ConfigHot)
		}
		if out.uptake == ConfigHot {
			if lane, err := laneLimit(base, link, timing.CallTimeout); err == nil {
				out.lane = lane
			}
			if warm {
				out.warm = warmUp(base, link, tenant, timing.WarmUp, timing.CallTimeout)
			}
		}
		root.Send(self, out)
	}()
}

// given is a configuration file as the process got it. It outlives connections:
// the gateway may restart by itself for the change.
type given struct {
	boot string // the life that it was written in, empty: none was
	hash string // of the file before, in the words of that life
}

// giveConfig writes the configuration file and watches what the gateway, which
// watches it too, makes of it.
func giveConfig(base context.Context, p Process, link Link, t Timing, last given) (ConfigUptake, string, given) {
	limit, cancel := context.WithTimeout(base, t.Reload)
	defer cancel()
	before, err := link.ConfigState(limit)
	switch {
	case err != nil:
		u, why := unlessLost(link, "it does not tell of its configuration: "+err.Error())
		return u, why, last
	case before.Applied == "":
		return ConfigRestarting, "this version does not tell what it runs with", last
	}
	did, err := p.Rewrite(base)
	boot := link.Hello().BootID
	switch {
	case err != nil: // a start would fail as well: what works goes on
		return ConfigRefused, "it cannot be given to it: " + err.Error(), last
	case did == NeedsStart:
		return ConfigRestarting, "command, environment and port are read at a start alone", last
	case did == FileUnneeded:
		return ConfigSame, "", given{}
	case did == FileWritten:
		last = given{boot: boot, hash: before.Hash}
	case last.boot == "":
		return ConfigRestarting, "nobody noted whether it took its file", last
	case last.boot != boot: // it has started with the file
		last = given{boot: boot}
	}
	u, why := takes(limit, link, t, last)
	return u, why, last
}

// takes watches what becomes of a file that was given.
func takes(limit context.Context, link Link, t Timing, file given) (ConfigUptake, string) {
	for {
		// An error may be a gateway that is busy with the change.
		now, err := link.ConfigState(limit)
		switch {
		case err != nil || now.Hash == file.hash:
		case now.Problem != "":
			return ConfigRefused, now.Problem
		case now.Current():
			return ConfigHot, ""
		}
		select {
		case <-link.Done():
			return "", ""
		case <-limit.Done():
			return unlessLost(link, "the gateway did not take it while it ran")
		case <-time.After(t.ReloadLook):
		}
	}
}

// unlessLost: the next connection tries again.
func unlessLost(link Link, why string) (ConfigUptake, string) {
	select {
	case <-link.Done():
		return "", ""
	default:
		return ConfigRestarting, why
	}
}

func (g *gateway) reloaded(ctx actor.Context, m reloaded) {
	if m.inc != g.inc {
		return
	}
	again := g.managed.again
	g.managed.reloading, g.managed.again, g.managed.given = false, false, m.given
	if m.err != nil {
		g.cfg.Logger.Warn("what became of the new configuration could not be written down; it is given again at the next connection", slog.Any("err", m.err))
	}
	switch {
	case g.removed || g.managed.stopping: // the next start reads it
		return
	case g.link == nil:
		return // the next connection goes on with it
	case again:
		g.refresh(ctx)
		return
	case m.conn != g.conn || m.uptake == "":
		return
	}
	switch m.uptake {
	case ConfigSame:
		g.managed.stale, g.managed.renewed, g.managed.uptake = false, false, g.managed.prior
	case ConfigHot:
		g.tookHot(ctx, m)
	case ConfigRefused:
		g.managed.stale = false
		g.misfit = "it goes on with its configuration before, the new one is refused: " + m.why
		g.managed.uptake = ConfigRefused
		g.cfg.Logger.Warn("gateway refuses its new configuration", slog.String("reason", m.why))
		g.judge(ctx)
	case ConfigRestarting:
		g.restartForConfig(ctx, m.why)
	}
	g.demand(ctx)
}

func (g *gateway) tookHot(ctx actor.Context, m reloaded) {
	g.managed.stale, g.managed.renewed, g.misfit = false, false, ""
	how, words := ConfigHot, "took its new configuration while it ran"
	if b := g.managed.before; b != "" && b != g.status.BootID { // it knew that it had to
		how, words = ConfigRestarted, "took its new configuration by a restart of its own"
	}
	g.managed.uptake = how
	g.cfg.Logger.Info("gateway " + words)
	g.announce(ctx, words)
	g.pauses.lift() // those that runs with the old one met, too
	if m.lane > 0 {
		g.window.Configure(max(1, g.cfg.Gateway.MaxConcurrency), m.lane)
	}
	if m.warm != nil {
		g.warmed(m.warm)
	}
	g.judge(ctx)
}

// restartForConfig starts the process again for its configuration.
func (g *gateway) restartForConfig(ctx actor.Context, why string) {
	g.managed.uptake = ConfigRestarting
	g.cfg.Logger.Info("gateway is started again for its new configuration, after its runs", slog.String("reason", why))
	g.restart(ctx)
}

// outdated notes that the process runs with something else than is wanted.
func (g *gateway) outdated() {
	if !g.managed.stale {
		g.managed.stale, g.managed.before = true, g.status.BootID
	}
}

// announce writes an event about a gateway whose state stays as it is.
func (g *gateway) announce(ctx actor.Context, words string) {
	status := g.status
	status.Reason = words
	ev := status.Event(g.cfg.Gateway.Pool, status.State, time.Now())
	op := persistence.Op{Fences: []messages.Fence{g.cfg.Fence}, Events: []*messages.Event{ev}}
	ctx.Send(g.cfg.Committer, commit.Request{Op: op, ReplyTo: ctx.Self()})
}
