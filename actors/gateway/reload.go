package gateway

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/session"
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
	conn   session.Conn
	uptake ConfigUptake // same, hot, restarting or refused; empty: the connection was lost
	why    string
	given  given
	lane   int
	warm   *warmth
	err    error // what could not be written down
}

func (g *gateway) give(ctx actor.Context, warm bool) {
	base, p, link, timing, tenant, last, out := g.ctx, g.cfg.Process, g.link, g.cfg.Timing, g.gw.Tenant, g.managed.given, reloaded{conn: g.conn}
	g.aside(ctx, func() any {
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
		return out
	})
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
