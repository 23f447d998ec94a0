package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence/postgres"
	"github.com/dash-fleet/dash/persistence/redis"
	"github.com/dash-fleet/dash/persistence/sqlite"
)

// storeFlags are the settings that say where the store is.
func storeFlags(c *cobra.Command) {
	c.Flags().String("data", "", "folder of the embedded store (default ~/.local/share/dash, as for dash serve)")
	c.Flags().String("store", config.EngineSQLite, "storage engine: sqlite, postgres or redis")
	c.Flags().String("postgres-url", "", "database of --store postgres and redis")
	c.Flags().String("redis-url", "", "server of --store redis")
	c.Flags().String("secret-key-file", "", "file of the keys that seal secrets and sign archives (default <data>/secret.key with --store sqlite)")
	c.Flags().String(config.FileFlag, "", "YAML file with settings, as for dash serve")
}

// storeConfig reads the store's settings as `dash serve` does. there says that
// an embedded store must exist already.
func storeConfig(t *terminal, cmd *cobra.Command, there bool) (*config.Loaded, error) {
	l, err := config.Load(config.Sources{Flags: cmd.Flags(), Environ: t.environ})
	if err != nil {
		return nil, err
	}
	if l.Store != config.EngineSQLite {
		return l, nil
	}
	if l.Data == "" {
		return nil, usage(next.GiveData, "a node with --dev has no store that stays")
	}
	if _, err := os.Stat(l.Data); there && errors.Is(err, os.ErrNotExist) {
		return nil, &failure{code: exitNotFound, what: "there is no store in " + l.Data, next: next.GiveNodeFolder}
	}
	return l, nil
}

// direction of a migration.
type direction string

const (
	up   direction = "up"
	down direction = "down"
)

// migrator moves the schema of one store.
type migrator struct {
	where   string // for texts: "the store in /var/lib/dash"
	migrate move
	status  func(ctx context.Context) (all []step, current int64, err error)
}

func openMigrator(t *terminal, cmd *cobra.Command) (migrator, error) {
	l, err := storeConfig(t, cmd, true)
	if err != nil {
		return migrator{}, err
	}
	if l.Store == config.EngineSQLite {
		return sqliteMigrator(l.Data), nil
	}
	m := postgresMigrator(postgres.Config{URL: l.PostgresURL, AcceptLoss: true})
	if l.Store == config.EngineRedis {
		// It is PostgreSQL that has a schema, but Redis that knows the nodes.
		m.migrate = besideRedis(m.migrate, redis.Config{URL: l.RedisURL.Reveal()})
	}
	return m, nil
}

// move takes the schema to a version.
type move func(ctx context.Context, d direction, to int64, dryRun bool) ([]step, error)

// besideRedis refuses to take tables away from under nodes whose leases are in
// Redis; the engine does it for those whose leases are in PostgreSQL.
func besideRedis(migrate move, cfg redis.Config) move {
	return func(ctx context.Context, d direction, to int64, dryRun bool) ([]step, error) {
		if d == down && !dryRun {
			if err := redis.NobodyWorks(ctx, cfg); err != nil {
				return nil, err
			}
		}
		return migrate(ctx, d, to, dryRun)
	}
}

func sqliteMigrator(dir string) migrator {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	return migrator{
		where: "the store in " + dir,
		migrate: func(ctx context.Context, d direction, to int64, dryRun bool) ([]step, error) {
			steps, err := sqlite.Migrate(ctx, dir, sqlite.Direction(d), to, dryRun)
			out := make([]step, len(steps))
			for i, s := range steps {
				out[i] = step{Version: s.Version, Name: s.Name, Direction: string(s.Direction), Seconds: s.Took.Seconds()}
			}
			return out, err
		},
		status: func(ctx context.Context) ([]step, int64, error) {
			all, current, err := sqlite.Status(ctx, dir)
			out := make([]step, len(all))
			for i, m := range all {
				out[i] = step{Version: m.Version, Name: m.Name, AppliedAt: applied(m.AppliedAt)}
			}
			return out, current, err
		},
	}
}

func postgresMigrator(cfg postgres.Config) migrator {
	return migrator{
		where: "the database",
		migrate: func(ctx context.Context, d direction, to int64, dryRun bool) ([]step, error) {
			steps, err := postgres.Migrate(ctx, cfg, postgres.Direction(d), to, dryRun)
			out := make([]step, len(steps))
			for i, s := range steps {
				out[i] = step{Version: s.Version, Name: s.Name, Direction: string(s.Direction), Seconds: s.Took.Seconds()}
			}
			return out, err
		},
		status: func(ctx context.Context) ([]step, int64, error) {
			all, current, err := postgres.Status(ctx, cfg)
			out := make([]step, len(all))
			for i, m := range all {
				out[i] = step{Version: m.Version, Name: m.Name, AppliedAt: applied(m.AppliedAt)}
			}
			return out, current, err
		},
	}
}

func applied(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}
