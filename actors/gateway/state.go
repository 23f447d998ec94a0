package gateway

import (
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// setState records a new state, if it is one, and makes it durable.
func (g *gateway) setState(ctx actor.Context, to messages.GatewayState, reason, next string) {
	from := g.status.State
	if from == to && g.status.Reason == reason {
		return
	}
	if from != to && from != 0 && !messages.Lawful(messages.GatewayTransitions, from, to) {
		g.cfg.Metrics.unlawful.Inc()
		g.cfg.Logger.Error("gateway changed its state against the table",
			slog.String("from", from.String()), slog.String("to", to.String()))
	}
	g.cfg.Metrics.moved(from, to)
	g.status.State, g.status.Reason, g.status.NextStep = to, reason, next
	// SINCE tells how long it has been of no use, over all tries to get it back.
	if from != to && (!seeking(from) || !seeking(to)) {
		g.status.Since = messages.Now()
	}
	level := g.loudness(to)
	attrs := []slog.Attr{slog.String("to", to.String())}
	for _, a := range []slog.Attr{slog.String("from", name(from)), slog.String("reason", reason), slog.String("next_step", next)} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	g.cfg.Logger.LogAttrs(g.ctx, level, "gateway state changed", attrs...)
	g.record(ctx, from, statusTag{inc: g.inc})
}

// seeking reports whether a gateway in this state is of no use and Dash is at
// work to change that.
func seeking(s messages.GatewayState) bool {
	return s == messages.GatewayStarting || s == messages.GatewayConnecting || s == messages.GatewayUnreachable
}

// loudness of a change: a loss is said once, as a warning, and not again for
// each try to get the gateway back.
func (g *gateway) loudness(to messages.GatewayState) slog.Level {
	switch {
	case to == messages.GatewayQuarantined:
		g.missing = false
		return slog.LevelError
	case to == messages.GatewayUnreachable && !g.missing:
		g.missing = true
		return slog.LevelWarn
	case seeking(to) && g.missing:
		return slog.LevelDebug
	case !seeking(to):
		g.missing = false
	}
	return slog.LevelInfo
}

func name(s messages.GatewayState) string {
	if s == 0 {
		return ""
	}
	return s.String()
}

// statusTag marks writes of the gateway's row; conn is set for the write of a
// new connection's boot id.
type statusTag struct {
	inc  uint64
	conn session.Conn
	from messages.GatewayState // the state before, record sets it
}

// record writes the gateway's row and, after a change of state, its event.
func (g *gateway) record(ctx actor.Context, from messages.GatewayState, tag statusTag) {
	now := time.Now()
	g.status.Window, g.status.Running = g.size(), g.held()
	status := g.status
	op := persistence.Op{Fences: []messages.Fence{g.cfg.Fence}, Gateway: &status}
	if from != status.State {
		op.Events = append(op.Events, status.Event(g.cfg.Gateway.Pool, from, now))
	}
	tag.from = from
	ctx.Send(g.cfg.Committer, commit.Request{Op: op, ReplyTo: ctx.Self(), Tag: tag})
}

func (g *gateway) committed(ctx actor.Context, d commit.Done) {
	switch tag := d.Tag.(type) {
	case statusTag:
		if tag.inc != g.inc {
			return
		}
		if d.Err == nil && d.Outcome.Status == persistence.Fenced {
			g.lost(ctx)
			return
		}
		if tag.conn != 0 && tag.conn == g.conn && g.link != nil {
			if d.Err != nil {
				g.drop("the gateway's boot id could not be recorded: " + d.Err.Error())
				return
			}
			g.bootRecorded(ctx)
			return
		}
		if d.Err != nil {
			// The committer was restarted, and nobody knows whether it was written.
			// The row must not be wrong until the state changes the next time.
			g.record(ctx, tag.from, statusTag{inc: g.inc})
		}
	case parkTag:
		g.parked(ctx, tag, d)
	}
}

// Lost says that another owner has the gateway than that of the epoch.
type Lost struct{ Epoch int64 }

// lost: another owner has the gateway; its claims are his.
func (g *gateway) lost(ctx actor.Context) {
	g.cfg.Logger.Warn("gateway has another owner now; this one lets go")
	if g.cfg.Lost != nil {
		g.cfg.Lost(g.cfg.Gateway.ID)
	}
	ctx.Stop(ctx.Self())
}
