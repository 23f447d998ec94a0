package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/dash-fleet/dash/persistence"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

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

// Migrate moves the schema of the store in dir. to is the version to end at;
// 0 means the newest for Up, and an empty database for Down. It takes the
// folder's lock, so no Dash may be running on it. The steps that were applied
// are returned also beside an error.
func Migrate(ctx context.Context, dir string, d Direction, to int64, dryRun bool) (steps []Step, err error) {
	err = withProvider(ctx, dir, func(p *goose.Provider, _ *sql.DB) error {
		if d == Down && to == 0 && !dryRun {
			if err := removeMark(dir); err != nil {
				return err
			}
		}
		steps, err = migrate(ctx, p, d, to, dryRun)
		return err
	})
	return steps, err
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

// withProvider runs do on the locked folder.
func withProvider(ctx context.Context, dir string, do func(*goose.Provider, *sql.DB) error) (err error) {
	lock, _, err := prepareDir(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	return withSchema(ctx, dir, do)
}

// withSchema runs do on a folder whose lock the caller holds.
func withSchema(_ context.Context, dir string, do func(*goose.Provider, *sql.DB) error) (err error) {
	db, err := sql.Open("sqlite", dsn(dir, writerPragmas))
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true), goose.WithTableName("schema_migrations"))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	return do(p, db)
}

// ensureSchema brings the schema to this binary's version. A newer schema is
// served as long as its migrations only added to what this binary knows.
func ensureSchema(ctx context.Context, dir string) (current int64, err error) {
	err = withSchema(ctx, dir, func(p *goose.Provider, db *sql.DB) error {
		var newest int64
		if current, newest, err = p.GetVersions(ctx); err != nil {
			return fmt.Errorf("read schema version: %w", err)
		}
		if current < newest {
			if _, err := p.Up(ctx); err != nil {
				return fmt.Errorf("migrate up: %w", err)
			}
			current = newest
		}
		return checkCompat(ctx, db, current, newest)
	})
	return current, err
}

func checkCompat(ctx context.Context, db *sql.DB, current, newest int64) error {
	var need int64
	var shards int
	if err := db.QueryRowContext(ctx, `SELECT min_binary, shards FROM schema_compat`).Scan(&need, &shards); err != nil {
		return fmt.Errorf("read schema compatibility: %w", err)
	}
	if need > newest {
		return fmt.Errorf("the store has schema version %d, which needs a dash that knows version %d, and this one knows up to %d: start a newer dash on it, or restore a backup made by this one", current, need, newest)
	}
	if shards != persistence.Shards {
		return fmt.Errorf("the store was made with %d shards and this dash has %d: the number never changes in one store; use the dash that made it", shards, persistence.Shards)
	}
	return nil
}
