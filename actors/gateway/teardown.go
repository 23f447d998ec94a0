package gateway

import (
	"context"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/session"
)

// tornDown ends a teardown.
type tornDown struct {
	inc    uint64
	key    string
	report openclaw.TeardownReport
}

// tearDown takes away what a run has left in a session of the gateway. Nobody
// waits for it but a removal, and that not for long. Without a connection the
// next one stops what still runs.
func (g *gateway) tearDown(ctx actor.Context, key string, dispose bool) {
	link := g.link
	if link == nil {
		return
	}
	g.tearing++
	root, self, inc, base, limit := ctx.ActorSystem().Root, ctx.Self(), g.inc, g.ctx, g.cfg.Timing.CallTimeout
	go func() {
		c, cancel := context.WithTimeout(base, limit)
		defer cancel()
		report := link.Teardown(c, openclaw.TeardownRequest{SessionKey: key, Dispose: dispose})
		root.Send(self, tornDown{inc: inc, key: key, report: report})
	}()
}

func (g *gateway) tornDown(m tornDown) {
	if m.inc != g.inc {
		return
	}
	g.tearing--
	if err := m.report.Err(); err != nil {
		g.cfg.Logger.Info("not all that a run left at the gateway could be taken away", slog.String("session_key", m.key),
			slog.Bool("stopped", m.report.Stopped), slog.Bool("removed", m.report.Removed), slog.Any("err", err))
	}
}

// leaveLimit bounds the wait for the end of a removed gateway's claims, and of
// what they left: a cancel that is under way may take the session's stop limit
// of 60 s.
const leaveLimit = 75 * time.Second

// remove ends the gateway. The pool's owner is told that it is gone, and
// withdraws its claims; their runs are stopped before the connection ends.
func (g *gateway) remove(ctx actor.Context) {
	if g.removed {
		return
	}
	g.removed, g.leaving = true, time.Now()
	g.demand(ctx)
	if g.loaded && len(g.claims) == 0 && !g.tidying() {
		g.end(ctx)
		return
	}
	g.sweep(ctx)
}

// leave ends a removed gateway when its claims have ended and it is left tidy,
// and two ticks more for claims that were on their way.
func (g *gateway) leave(ctx actor.Context, now time.Time) {
	if !g.removed || g.managed.stopping {
		return
	}
	g.quiet++
	if !g.loaded || g.held() > 0 || g.tidying() {
		g.quiet = 0
	}
	late := now.Sub(g.leaving) >= leaveLimit
	if g.quiet > 2 && g.unwatch(ctx) && !late {
		g.quiet = 0
		return
	}
	if g.quiet > 2 || late {
		g.end(ctx)
	}
}

// tidying reports whether something is still being taken away from the gateway.
func (g *gateway) tidying() bool {
	return g.link != nil && (g.tearing > 0 || g.deletes.busy || len(g.deletes.keys) > 0)
}

// unwatch lets go of the tasks that are HELD: nobody will see a proof any more,
// so that their runs are stopped, and what was said there is kept.
func (g *gateway) unwatch(ctx actor.Context) bool {
	if g.unwatched {
		return false
	}
	g.unwatched = true
	for ref, c := range g.claims {
		ctx.Send(c.pid, session.Withdrawn{Claim: ref.Claim})
	}
	return len(g.claims) > 0
}

func (g *gateway) end(ctx actor.Context) {
	if g.daemon() != nil {
		g.stopProcess(ctx) // also one that is starting or does not answer
		return
	}
	g.gone(ctx)
}
