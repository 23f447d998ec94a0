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

// moved makes a new state, or new words for the present one, durable.
func (g *gateway) moved(ctx actor.Context, m moved) {
	g.cfg.Metrics.moved(m.from, m.to)
	g.status.State, g.status.Reason, g.status.NextStep = m.to, m.reason, m.next
	// SINCE tells how long it has been of no use, over all tries to get it back.
	if m.from != m.to && (!seeking(m.from) || !seeking(m.to)) {
		g.status.Since = messages.Now()
	}
	attrs := []slog.Attr{slog.String("to", m.to.String())}
	for _, a := range []slog.Attr{slog.String("from", name(m.from)), slog.String("reason", m.reason), slog.String("next_step", m.next)} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	g.cfg.Logger.LogAttrs(g.ctx, g.loudness(m.to), "gateway state changed", attrs...)
	g.record(ctx, m.from, statusTag{conn: m.conn})
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
	status := g.row()
	op := persistence.Op{Fences: []messages.Fence{g.cfg.Fence}, Gateway: &status}
	if from != status.State {
		op.Events = append(op.Events, status.Event(g.gw.Pool, from, time.Now()))
	}
	tag.inc, tag.from = g.inc, from
	ctx.Send(g.cfg.Committer, commit.Request{Op: op, ReplyTo: ctx.Self(), Tag: tag})
}

// row is what is recorded of the gateway now.
func (g *gateway) row() messages.GatewayStatus {
	s := g.status
	s.BootID, s.PID, s.Restarts, s.Window, s.Running = g.boot, g.managed.endpoint.PID, g.deaths, g.size(), g.held()
	return s
}

// announce writes an event about a gateway whose state stays as it is.
func (g *gateway) announce(ctx actor.Context, words string) {
	status := g.row()
	status.Reason = words
	ev := status.Event(g.gw.Pool, status.State, time.Now())
	op := persistence.Op{Fences: []messages.Fence{g.cfg.Fence}, Events: []*messages.Event{ev}}
	ctx.Send(g.cfg.Committer, commit.Request{Op: op, ReplyTo: ctx.Self()})
}

func (g *gateway) committed(ctx actor.Context, d commit.Done) {
	switch tag := d.Tag.(type) {
	case statusTag:
		switch {
		case tag.inc != g.inc:
		case d.Err == nil && d.Outcome.Status == persistence.Fenced:
			g.lost(ctx)
		case tag.conn != 0 && g.current(tag.conn):
			g.happens(ctx, recorded{conn: tag.conn, err: d.Err})
		case d.Err != nil:
			// The committer was restarted, and nobody knows whether it was written.
			// The row must not be wrong until the state changes the next time.
			g.record(ctx, tag.from, statusTag{})
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
		g.cfg.Lost(g.gw.ID)
	}
	ctx.Stop(ctx.Self())
}
