package gateway

import (
	"context"
	"log/slog"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/openclaw"
)

// tornDown ends a teardown.
type tornDown struct {
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
	base, limit := g.ctx, g.cfg.Timing.CallTimeout
	g.aside(ctx, func() any {
		c, cancel := context.WithTimeout(base, limit)
		defer cancel()
		return tornDown{key: key, report: link.Teardown(c, openclaw.TeardownRequest{SessionKey: key, Dispose: dispose})}
	})
}

func (g *gateway) tornDown(m tornDown) {
	g.tearing--
	if err := m.report.Err(); err != nil {
		g.cfg.Logger.Info("not all that a run left at the gateway could be taken away", slog.String("session_key", m.key),
			slog.Bool("stopped", m.report.Stopped), slog.Bool("removed", m.report.Removed), slog.Any("err", err))
	}
}
