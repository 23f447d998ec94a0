package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"path"
	"time"

	"github.com/dash-fleet/dash/persistence"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// knows is the greatest schema_compat.min_binary that this binary can serve.
const knows = 1

// Direction of a migration.
type Direction string

// Directions.
const (
	Up   Direction = "up"
	Down Direction = "down"
)

// Step is one migration that was applied, or would be in a dry run.
type Step struct {
	Version   int64
	Name      string
	Direction Direction
	Took      time.Duration // 0 in a dry run
}

// MigrationStatus is one migration that this binary knows.
type MigrationStatus struct {
	Version   int64
	Name      string
	AppliedAt time.Time // zero: pending
}

// Migrate moves the schema of the database. to is the version to end at; 0
// means the newest for Up, and an empty database for Down. An advisory lock of
// the session makes several callers go one after the other. The steps that
// were applied are returned also beside an error.
func Migrate(ctx context.Context, cfg Config, d Direction, to int64, dryRun bool) (steps []Step, err error) {
	err = withSchema(ctx, cfg, func(p *goose.Provider, _ *sql.DB) error {
		steps, err = migrate(ctx, p, d, to, dryRun)
		return err
	})
	return steps, err
}

// Status lists the migrations of this binary and the version of the database.
func Status(ctx context.Context, cfg Config) (list []MigrationStatus, current int64, err error) {
	err = withSchema(ctx, cfg, func(p *goose.Provider, _ *sql.DB) error {
		all, err := p.Status(ctx)
		if err != nil {
			return fmt.Errorf("read migrations: %w", err)
		}
		for _, s := range all {
			list = append(list, MigrationStatus{s.Source.Version, path.Base(s.Source.Path), s.AppliedAt})
		}
		current, err = p.GetDBVersion(ctx)
		return err
	})
	return list, current, err
}

func migrate(ctx context.Context, p *goose.Provider, d Direction, to int64, dryRun bool) ([]Step, error) {
	if d != Up && d != Down {
		return nil, fmt.Errorf("unknown direction %q: use up or down", d)
	}
	current, newest, err := p.GetVersions(ctx)
	if err != nil {
		return nil, fmt.Errorf("read schema version: %w", err)
	}
	if d == Up && to == 0 {
		to = max(newest, current)
	}
	switch {
	case to < 0 || to > max(newest, current):
		return nil, fmt.Errorf("there is no schema version %d: this binary knows 1 to %d", to, newest)
	case d == Up && to < current, d == Down && to > current:
		return nil, fmt.Errorf("the schema is at version %d, so %s to %d is the wrong direction", current, d, to)
	}
	if dryRun {
		return plan(p, d, current, to), nil
	}
	var done []*goose.MigrationResult
	if d == Up {
		done, err = p.UpTo(ctx, to)
	} else {
		done, err = p.DownTo(ctx, to)
	}
	var partial *goose.PartialError
	if errors.As(err, &partial) {
		done = partial.Applied
	}
	steps := make([]Step, 0, len(done))
	for _, r := range done {
		steps = append(steps, Step{r.Source.Version, path.Base(r.Source.Path), d, r.Duration})
	}
	if err != nil {
		return steps, fmt.Errorf("migrate %s to %d: %w", d, to, err)
	}
	return steps, nil
}

func plan(p *goose.Provider, d Direction, current, to int64) (steps []Step) {
	for _, s := range p.ListSources() {
		step := Step{Version: s.Version, Name: path.Base(s.Path), Direction: d}
		switch {
		case d == Up && s.Version > current && s.Version <= to:
			steps = append(steps, step)
		case d == Down && s.Version <= current && s.Version > to:
			steps = append([]Step{step}, steps...)
		}
	}
	return steps
}

// withSchema runs do under the lock of the schema, on connections without
// statement time-out: a migration may take long.
func withSchema(ctx context.Context, cfg Config, do func(*goose.Provider, *sql.DB) error) (err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return err
	}
	cc, err := cfg.connConfig()
	if err != nil {
		return err
	}
	unlock, err := lockSchema(ctx, cc, cfg.Schema)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	db := stdlib.OpenDB(*cc)
	defer func() { err = errors.Join(err, db.Close()) }()
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithDisableGlobalRegistry(true), goose.WithTableName("schema_migrations"))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
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

// ensureSchema brings the schema to this binary's version. A newer schema is
// served as long as its migrations only added to what this binary knows.
func ensureSchema(ctx context.Context, cfg Config) error {
	return withSchema(ctx, cfg, func(p *goose.Provider, db *sql.DB) error {
		current, newest, err := p.GetVersions(ctx)
		if err != nil {
			return fmt.Errorf("read schema version: %w", err)
		}
		if current < newest {
			if _, err := p.Up(ctx); err != nil {
				return fmt.Errorf("migrate up: %w", err)
			}
		}
		return checkCompat(ctx, db, current)
	})
}

func checkCompat(ctx context.Context, db *sql.DB, current int64) error {
	var need int64
	var shards int
	if err := db.QueryRowContext(ctx, `SELECT min_binary, shards FROM schema_compat`).Scan(&need, &shards); err != nil {
		return fmt.Errorf("read schema compatibility: %w", err)
	}
	if need > knows {
		return fmt.Errorf("the store has schema version %d, which needs a dash that knows compatibility level %d, and this one knows up to %d: start a newer dash on it, or restore a backup made by this one", current, need, knows)
	}
	if shards != persistence.Shards {
		return fmt.Errorf("the store was made with %d shards and this dash has %d: the number never changes in one store; use the dash that made it", shards, persistence.Shards)
	}
	return nil
}
