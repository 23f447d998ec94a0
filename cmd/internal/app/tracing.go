package app

import (
	"context"
	"log/slog"

	"github.com/dash-fleet/dash/cmd/internal/tracing"
)

// startTracing begins to tell a collector of tasks, where there is one. It ends
// after the tree, whose last events it still tells.
func (a *App) startTracing(ctx context.Context) (err error) {
	endpoint, err := a.cfg.Traces()
	if err != nil || endpoint == "" {
		return err
	}
	a.tracer, err = tracing.Start(ctx, tracing.Config{
		Endpoint: endpoint, Node: a.nodeID, Version: a.deps.Version, Logger: a.logger, Registerer: a.deps.Registry,
	})
	if err != nil {
		return err
	}
	a.cleanup.add("traces", a.tracer.Stop)
	a.logger.Info("tasks are traced", slog.String("endpoint", endpoint))
	return nil
}
