package app

import (
	"context"
	"fmt"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/postgres"
	"github.com/dash-fleet/dash/persistence/sqlite"
)

// OpenSource opens the configured store for a backup, beside the nodes that
// run on it. The caller closes it.
func OpenSource(ctx context.Context, cfg config.Config) (persistence.Snapshotter, error) {
	switch cfg.Store {
	case config.EngineSQLite:
		return sqlite.OpenSource(ctx, cfg.Data)
	case config.EnginePostgres:
		return postgres.OpenSource(ctx, postgres.Config{URL: cfg.PostgresURL})
	default:
		return nil, fmt.Errorf("there are no backups of the engine %q", cfg.Store)
	}
}

// OpenTarget opens the configured store for a restore; no node may run on it.
// The caller closes it.
func OpenTarget(ctx context.Context, cfg config.Config) (persistence.Restorer, error) {
	switch cfg.Store {
	case config.EngineSQLite:
		return sqlite.OpenTarget(ctx, cfg.Data)
	case config.EnginePostgres:
		return postgres.OpenTarget(ctx, postgres.Config{URL: cfg.PostgresURL})
	default:
		return nil, fmt.Errorf("there is no restore to the engine %q", cfg.Store)
	}
}
