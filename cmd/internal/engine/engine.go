// Package engine opens the storage engine that is configured: for a node, for a
// backup beside the nodes, for a restore, and for a change of the accounts alone.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/postgres"
	"github.com/dash-fleet/dash/persistence/redis"
	"github.com/dash-fleet/dash/persistence/sqlite"
)

// Engine is an open storage engine.
type Engine struct {
	Store persistence.Store
	Repos persistence.Repositories
	// Shared: other processes may work on the same store, so ownership is real.
	Shared bool
	// CommitTimeout bounds one batch; 0: the committer's default. A server that
	// went silent is to be noticed within 8 s.
	CommitTimeout time.Duration
	// History keeps finished tasks beside the store; nil: the store does.
	History persistence.History
	Loss    Loss // nil: the engine cannot lose what it has acknowledged
	// Settings is what a server's settings mean for accepted work; nil: there is no server.
	Settings func() postgres.Durability
	// Room is what is left for new tasks.
	Room  func() persistence.Room
	Close func() error
}

// Loss is what an engine knows of data that its server has lost.
type Loss interface {
	// Lost tells what is missing; nil: nothing. While it is not nil the engine
	// refuses every write, so nothing is claimed or accepted.
	Lost() error
	// Recover rebuilds what this process and the task history know.
	Recover(ctx context.Context) error
	// Window is how much accepted work a crash of the server may cost with the
	// settings that were accepted; 0: none.
	Window() time.Duration
}

// serverTimeout leaves an engine its own deadlines (1.5 s for the statement and
// 4 s for the connection) before the outcome of a batch counts as unknown.
const serverTimeout = 6 * time.Second

// Open opens the engine for a node. The caller closes it.
func Open(ctx context.Context, cfg config.Config, logger *slog.Logger, r prometheus.Registerer) (*Engine, error) {
	switch cfg.Store {
	case config.EngineSQLite:
		db, err := sqlite.Open(ctx, sqlite.Config{Dir: cfg.Data, Logger: logger, Registerer: r})
		if err != nil {
			return nil, err
		}
		return &Engine{Store: db.Store(), Repos: db.Repositories(), Room: db.Room, Close: db.Close}, nil
	case config.EnginePostgres:
		db, err := postgres.Open(ctx, postgres.Config{URL: cfg.PostgresURL, AcceptLoss: cfg.PostgresAcceptLoss, Logger: logger, Registerer: r})
		if err != nil {
			return nil, err
		}
		return &Engine{
			Store: db.Store(), Repos: db.Repositories(), Shared: true, CommitTimeout: serverTimeout,
			Settings: db.Durability, Room: db.Room, Close: db.Close,
		}, nil
	case config.EngineRedis:
		return openRedis(ctx, cfg, logger, r)
	default:
		return nil, fmt.Errorf("there is no storage engine %q", cfg.Store)
	}
}

// openRedis opens the queue in Redis beside accounts, configuration and task
// history in PostgreSQL.
func openRedis(ctx context.Context, cfg config.Config, logger *slog.Logger, r prometheus.Registerer) (*Engine, error) {
	accounts, err := postgres.Open(ctx, postgres.Config{URL: cfg.PostgresURL, AcceptLoss: cfg.PostgresAcceptLoss, Logger: logger})
	if err != nil {
		return nil, err
	}
	queue, err := redis.Open(ctx, redis.Config{
		URL: cfg.RedisURL.Reveal(), AcceptLoss: cfg.RedisAcceptLoss, History: accounts.History(), Logger: logger, Registerer: r,
	})
	if err != nil {
		return nil, errors.Join(err, accounts.Close())
	}
	return &Engine{
		Store: queue.Store(), Repos: accounts.Repositories(), History: accounts.History(), Shared: true, Loss: redisLoss{queue},
		CommitTimeout: serverTimeout, Settings: accounts.Durability, Room: queue.Room,
		Close: func() error { return errors.Join(queue.Close(), accounts.Close()) },
	}, nil
}

// Accounts opens the part of the configured store that holds the keys. The caller
// closes it.
func Accounts(ctx context.Context, cfg config.Config) (persistence.Repositories, func() error, error) {
	if cfg.Store == config.EngineSQLite {
		db, err := sqlite.Open(ctx, sqlite.Config{Dir: cfg.Data})
		if err != nil {
			return persistence.Repositories{}, nil, err
		}
		return db.Repositories(), db.Close, nil
	}
	// What the server may lose was decided when its nodes were started: a key is
	// no accepted work, and there is no other way back to it.
	db, err := postgres.Open(ctx, postgres.Config{URL: cfg.PostgresURL, AcceptLoss: true})
	if err != nil {
		return persistence.Repositories{}, nil, err
	}
	return db.Repositories(), db.Close, nil
}

// redisLoss implements Loss.
type redisLoss struct{ db *redis.DB }

func (r redisLoss) Lost() error {
	if e := r.db.Lost(); e != nil {
		return e
	}
	return nil
}

func (r redisLoss) Recover(ctx context.Context) error {
	_, err := r.db.Recover(ctx) // which logs its report, task by task
	return err
}

func (r redisLoss) Window() time.Duration { return r.db.Loss().Window }
