package app

import (
	"context"
	"fmt"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/postgres"
	"github.com/dash-fleet/dash/persistence/sqlite"
)

// engine is an open storage engine.
type engine struct {
	store persistence.Store
	repos persistence.Repositories
	// shared: other processes may work on the same store, so ownership is real.
	shared bool
	loss   loss // nil: the engine cannot lose what it has acknowledged
	close  func() error
}

// openEngine opens the engine that is configured.
func (a *App) openEngine(ctx context.Context) (*engine, error) {
	switch a.cfg.Store {
	case config.EngineSQLite:
		db, err := sqlite.Open(ctx, sqlite.Config{Dir: a.cfg.Data, Logger: a.logger, Registerer: a.deps.Registry})
		if err != nil {
			return nil, err
		}
		return &engine{store: db.Store(), repos: db.Repositories(), close: db.Close}, nil
	case config.EnginePostgres:
		db, err := postgres.Open(ctx, postgres.Config{URL: a.cfg.PostgresURL, Logger: a.logger, Registerer: a.deps.Registry})
		if err != nil {
			return nil, err
		}
		return &engine{store: db.Store(), repos: db.Repositories(), shared: true, close: db.Close}, nil
	default:
		return nil, fmt.Errorf("there is no storage engine %q", a.cfg.Store)
	}
}
