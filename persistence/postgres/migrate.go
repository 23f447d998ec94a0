package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"hash/fnv"
	"path"
	"time"

	"github.com/dash-fleet/dash/persistence/internal/migrations"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// What moves a schema, and what was done; both SQL engines have the same.
type (
	Direction       = migrations.Direction
	Step            = migrations.Step
	MigrationStatus = migrations.Status
)

// Directions.
const (
	Up   = migrations.Up
	Down = migrations.Down
)

// Migrate moves the schema of the database. to is the version to end at; 0
// means the newest for Up, and an empty database for Down. An advisory lock of
// the session makes several callers go one after the other. Down refuses with a
// *NodesRunError while nodes work on the database, unless it is a dry run. The
// steps that were applied are returned also beside an error.
func Migrate(ctx context.Context, cfg Config, d Direction, to int64, dryRun bool) (steps []Step, err error) {
	err = withSchema(ctx, cfg, func(p *goose.Provider, db *sql.DB) error {
		if d == Down && !dryRun {
			if err := nobodyWorks(ctx, db); err != nil {
				return err
			}
		}
		steps, err = migrations.Move(ctx, p, d, to, dryRun)
		return err
	})
	return steps, err
}

// nobodyWorks refuses a database that nodes work on: going down drops tables
// from under them. A node that starts meanwhile waits for the lock of the schema.
func nobodyWorks(ctx context.Context, db *sql.DB) error {
	var there bool
	if err := db.QueryRowContext(ctx, `SELECT to_regclass('nodes') IS NOT NULL`).Scan(&there); err != nil || !there {
		return unavailable("look for running nodes", err)
	}
	var running int
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM nodes WHERE expires > clock_timestamp()`).Scan(&running); err != nil {
		return unavailable("look for running nodes", err)
	}
	if running > 0 {
		return &NodesRunError{Nodes: running}
	}
	return nil
}

// Status lists the migrations of this binary and the version of the database.
func Status(ctx context.Context, cfg Config) (list []MigrationStatus, current int64, err error) {
	err = withSchema(ctx, cfg, func(p *goose.Provider, _ *sql.DB) error {
		all, err := p.Status(ctx)
		if err != nil {
			return fmt.Errorf("read migrations: %w", err)
		}
		for _, s := range all {
			list = append(list, MigrationStatus{Version: s.Source.Version, Name: path.Base(s.Source.Path), AppliedAt: s.AppliedAt})
		}
		current, err = p.GetDBVersion(ctx)
		return err
	})
	return list, current, err
}

// withSchema runs do under the lock of the schema, on connections without
// statement time-out: a migration may take long.
func withSchema(ctx context.Context, cfg Config, do func(*goose.Provider, *sql.DB) error) (err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return err
	}
	cc, err := cfg.connConfig(nil)
	if err != nil {
		return err
	}
	// Two connections and ten questions, on a server that may have just started.
	if err := keepsSessions(ctx, cc, 3*cfg.roundTrip()); err != nil {
		return err
	}
	unlock, err := lockSchema(ctx, cc, cfg.Schema)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	db := stdlib.OpenDB(*cc)
	defer func() { err = errors.Join(err, db.Close()) }()
	p, err := migrations.NewProvider(goose.DialectPostgres, db, migrationFiles)
	if err != nil {
		return err
	}
	return do(p, db)
}

// lockSchema makes the schema if it is missing and holds an advisory lock of
// its own session until the returned function is called. The lock ends with the
// session, so a process that dies leaves nothing behind.
func lockSchema(ctx context.Context, cc *pgx.ConnConfig, schema string) (unlock func() error, err error) {
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return nil, connectError(cc, err)
	}
	closing := func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return conn.Close(ctx)
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte("dash schema " + schema)) // never fails
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(h.Sum64())); err != nil {
		return nil, errors.Join(unavailable("wait for another migration", err), closing())
	}
	if schema == "" {
		return closing, nil
	}
	if _, err := conn.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+pgx.Identifier{schema}.Sanitize()); err != nil {
		return nil, errors.Join(unavailable("make schema "+schema, err), closing())
	}
	return closing, nil
}

// ensureSchema brings the schema to this binary's version.
func ensureSchema(ctx context.Context, cfg Config) error {
	return withSchema(ctx, cfg, func(p *goose.Provider, db *sql.DB) error {
		return migrations.Ensure(ctx, p, db)
	})
}
