package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/postgres"
	"github.com/dash-fleet/dash/persistence/redis"
	"github.com/dash-fleet/dash/persistence/sqlite"
)

// engine is an open storage engine.
type engine struct {
	store persistence.Store
	repos persistence.Repositories
	// shared: other processes may work on the same store, so ownership is real.
	shared bool
	// commitTimeout bounds one batch; 0: the committer's default. A server that
	// went silent is to be noticed within 8 s.
	commitTimeout time.Duration
	// history keeps finished tasks beside the store; nil: the store does.
	history persistence.History
	loss    loss // nil: the engine cannot lose what it has acknowledged
	// settings is what a server's settings mean for accepted work; nil: there is no server.
	settings func() postgres.Durability
	// room is what is left for new tasks.
	room  func() persistence.Room
	close func() error
}

// serverTimeout leaves an engine its own deadlines (1.5 s for the statement and
// 4 s for the connection) before the outcome of a batch counts as unknown.
const serverTimeout = 6 * time.Second

// openEngine opens the engine that is configured.
func (a *App) openEngine(ctx context.Context) (*engine, error) {
	switch a.cfg.Store {
	case config.EngineSQLite:
		db, err := sqlite.Open(ctx, sqlite.Config{Dir: a.cfg.Data, Logger: a.logger, Registerer: a.deps.Registry})
		if err != nil {
			return nil, err
		}
		return &engine{store: db.Store(), repos: db.Repositories(), room: db.Room, close: db.Close}, nil
	case config.EnginePostgres:
		db, err := postgres.Open(ctx, postgres.Config{URL: a.cfg.PostgresURL, AcceptLoss: a.cfg.PostgresAcceptLoss, Logger: a.logger, Registerer: a.deps.Registry})
		if err != nil {
			return nil, err
		}
		return &engine{store: db.Store(), repos: db.Repositories(), shared: true, commitTimeout: serverTimeout, settings: db.Durability, room: db.Room, close: db.Close}, nil
	case config.EngineRedis:
		return a.openRedis(ctx)
	default:
		return nil, fmt.Errorf("there is no storage engine %q", a.cfg.Store)
	}
}

// openRedis opens the queue in Redis beside accounts, configuration and task
// history in PostgreSQL.
func (a *App) openRedis(ctx context.Context) (*engine, error) {
	accounts, err := postgres.Open(ctx, postgres.Config{URL: a.cfg.PostgresURL, AcceptLoss: a.cfg.PostgresAcceptLoss, Logger: a.logger})
	if err != nil {
		return nil, err
	}
	queue, err := redis.Open(ctx, redis.Config{
		URL: a.cfg.RedisURL.Reveal(), AcceptLoss: a.cfg.RedisAcceptLoss, History: accounts.History(),
		Logger: a.logger, Registerer: a.deps.Registry,
	})
	if err != nil {
		return nil, errors.Join(err, accounts.Close())
	}
	return &engine{
		store: queue.Store(), repos: accounts.Repositories(), history: accounts.History(), shared: true, loss: redisLoss{queue}, commitTimeout: serverTimeout, settings: accounts.Durability, room: queue.Room,
		close: func() error { return errors.Join(queue.Close(), accounts.Close()) },
	}, nil
}

// redisLoss implements loss.
type redisLoss struct{ db *redis.DB }

func (r redisLoss) lost() error {
	if e := r.db.Lost(); e != nil {
		return e
	}
	return nil
}

func (r redisLoss) recover(ctx context.Context) error {
	_, err := r.db.Recover(ctx) // which logs its report, task by task
	return err
}

func (r redisLoss) window() time.Duration { return r.db.Loss().Window }
