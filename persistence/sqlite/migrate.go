package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"

	"github.com/dash-fleet/dash/persistence/internal/migrations"
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
		steps, err = migrations.Move(ctx, p, d, to, dryRun)
		return err
	})
	return steps, err
}

// withProvider runs do on the locked folder.
func withProvider(ctx context.Context, dir string, do func(*goose.Provider, *sql.DB) error) (err error) {
	lock, _, err := prepareDir(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	return withSchema(dir, do)
}

// withSchema runs do on a folder whose lock the caller holds.
func withSchema(dir string, do func(*goose.Provider, *sql.DB) error) (err error) {
	db, err := sql.Open("sqlite", dsn(dir, writerPragmas))
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()
	p, err := migrations.NewProvider(goose.DialectSQLite3, db, migrationFiles)
	if err != nil {
		return err
	}
	return do(p, db)
}

// ensureSchema brings the schema to this binary's version, on a folder whose
// lock the caller holds.
func ensureSchema(ctx context.Context, dir string) error {
	return withSchema(dir, func(p *goose.Provider, db *sql.DB) error { return migrations.Ensure(ctx, p, db) })
}
