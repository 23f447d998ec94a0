// Package migrations moves the schemas of the SQL engines: up and down by the
// numbered files that an engine embeds, never past what the files know, and
// only onto stores that this binary can serve. It takes no lock: the engine
// holds its own around each call.
package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/pressly/goose/v3"
)

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

// Status is one migration that this binary knows.
type Status struct {
	Version   int64
	Name      string
	AppliedAt time.Time // zero: pending
}

// Known lists the migrations in the folder "migrations" of files, oldest first.
func Known(files fs.FS) (list []Status, err error) {
	entries, err := fs.ReadDir(files, "migrations")
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	for _, f := range entries { // in the order of their names, which begin with the padded version
		v, err := goose.NumericComponent(f.Name())
		if err != nil {
			return nil, fmt.Errorf("read migrations: %w", err)
		}
		list = append(list, Status{Version: v, Name: f.Name()})
	}
	return list, nil
}

// Newest is the version of the newest migration in files.
func Newest(files fs.FS) (int64, error) {
	list, err := Known(files)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return list[len(list)-1].Version, nil
}

// NewProvider readies the migrations in the folder "migrations" of files for db,
// which stays the caller's.
func NewProvider(d goose.Dialect, db *sql.DB, files fs.FS) (*goose.Provider, error) {
	dir, err := fs.Sub(files, "migrations")
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	p, err := goose.NewProvider(d, db, dir, goose.WithDisableGlobalRegistry(true), goose.WithTableName("schema_migrations"))
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return p, nil
}

// Move takes the schema to the version to; 0 means the newest for Up, and an
// empty database for Down. The steps that were applied are returned also
// beside an error.
func Move(ctx context.Context, p *goose.Provider, d Direction, to int64, dryRun bool) ([]Step, error) {
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
	case d == Down && current > newest:
		return nil, fmt.Errorf("the schema is at version %d and this dash knows up to %d: only a dash that knows it can take it back", current, newest)
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

// Ensure brings the schema to this binary's version. A newer schema is served
// as long as its migrations only added to what this binary knows: those that did
// not raise schema_compat.min_binary to their own version.
func Ensure(ctx context.Context, p *goose.Provider, db *sql.DB) error {
	current, newest, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if current < newest {
		if _, err := p.Up(ctx); err != nil {
			return fmt.Errorf("migrate up: %w", err)
		}
		current = newest
	}
	var need int64
	var shards int
	if err := db.QueryRowContext(ctx, `SELECT min_binary, shards FROM schema_compat`).Scan(&need, &shards); err != nil {
		return fmt.Errorf("read schema compatibility: %w", err)
	}
	if need > newest {
		return fmt.Errorf("the store has schema version %d, which needs a dash that knows version %d, and this one knows up to %d: start a newer dash on it, or restore a backup made by this one", current, need, newest)
	}
	if shards != messages.Shards {
		return fmt.Errorf("the store was made with %d shards and this dash has %d: the number never changes in one store; use the dash that made it", shards, messages.Shards)
	}
	return nil
}
