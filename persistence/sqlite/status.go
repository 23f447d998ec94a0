package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dash-fleet/dash/persistence/internal/migrations"
)

// Status lists the migrations of this binary and the version of the store in
// dir. It only reads and takes no lock, so a node may run on the store. A
// folder without a store has version 0.
func Status(ctx context.Context, dir string) (list []MigrationStatus, current int64, err error) {
	if list, err = migrations.Known(migrationFiles); err != nil {
		return nil, 0, err
	}
	if _, err := os.Stat(filepath.Join(dir, FileName)); errors.Is(err, fs.ErrNotExist) {
		return list, 0, nil
	}
	s, err := OpenSource(ctx, dir)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	applied, err := appliedMigrations(ctx, s.db)
	if err != nil {
		return nil, 0, fmt.Errorf("read schema version: %w", err)
	}
	for v := range applied {
		current = max(current, v)
	}
	for i := range list {
		list[i].AppliedAt = applied[list[i].Version]
	}
	return list, current, nil
}

// appliedMigrations is what the store's own record says. An empty database,
// which `migrate up --dry-run` leaves, has none.
func appliedMigrations(ctx context.Context, db *sql.DB) (at map[int64]time.Time, err error) {
	at = map[int64]time.Time{}
	var tables int
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'schema_migrations'`).Scan(&tables); err != nil || tables == 0 {
		return at, err
	}
	rows, err := db.QueryContext(ctx, `SELECT version_id, tstamp FROM schema_migrations WHERE is_applied = 1 AND version_id > 0`)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var v int64
		var t time.Time
		if err := rows.Scan(&v, &t); err != nil {
			return nil, err
		}
		at[v] = t
	}
	return at, rows.Err()
}
