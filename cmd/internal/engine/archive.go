package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/backup"
	"github.com/dash-fleet/dash/persistence/postgres"
	"github.com/dash-fleet/dash/persistence/redis"
	"github.com/dash-fleet/dash/persistence/sqlite"
)

// OpenSource opens the configured store for a backup, beside the nodes that
// run on it. The caller closes it.
func OpenSource(ctx context.Context, cfg config.Config) (persistence.Snapshotter, error) {
	switch cfg.Store {
	case config.EngineSQLite:
		return sqlite.OpenSource(ctx, cfg.Data)
	case config.EnginePostgres:
		return postgres.OpenSource(ctx, postgres.Config{URL: cfg.PostgresURL, AcceptLoss: true})
	case config.EngineRedis:
		queue, err := redis.OpenSource(ctx, redis.Config{URL: cfg.RedisURL.Reveal()})
		if err != nil {
			return nil, err
		}
		accounts, err := postgres.OpenSource(ctx, postgres.Config{URL: cfg.PostgresURL, AcceptLoss: true})
		if err != nil {
			return nil, errors.Join(err, queue.Close())
		}
		return backup.Join(queue, accounts), nil
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
		return postgres.OpenTarget(ctx, postgres.Config{URL: cfg.PostgresURL, AcceptLoss: cfg.PostgresAcceptLoss})
	case config.EngineRedis:
		// A history, which is not called here, makes the restored tasks go to the
		// outbox, from where the next node brings them into the task history.
		queue, err := redis.OpenTarget(ctx, redis.Config{
			URL: cfg.RedisURL.Reveal(), AcceptLoss: cfg.RedisAcceptLoss, History: struct{ persistence.History }{},
		})
		if err != nil {
			return nil, err
		}
		accounts, err := postgres.OpenTarget(ctx, postgres.Config{URL: cfg.PostgresURL, AcceptLoss: cfg.PostgresAcceptLoss})
		if err != nil {
			return nil, errors.Join(err, queue.Close())
		}
		return backup.JoinTargets(queue, accounts), nil
	default:
		return nil, fmt.Errorf("there is no restore to the engine %q", cfg.Store)
	}
}

// Pair has the two servers of a restored store remember each other, as the first
// start of a node does: from then on neither is taken up beside a stranger.
func Pair(ctx context.Context, cfg config.Config) (err error) {
	if cfg.Store != config.EngineRedis {
		return nil
	}
	accounts, err := postgres.Open(ctx, postgres.Config{URL: cfg.PostgresURL, AcceptLoss: cfg.PostgresAcceptLoss})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, accounts.Close()) }()
	queue, err := redis.Open(ctx, redis.Config{URL: cfg.RedisURL.Reveal(), AcceptLoss: cfg.RedisAcceptLoss, History: accounts.History()})
	if err != nil {
		return err
	}
	return queue.Close()
}
