package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/internal/migrations"
)

// EngineName is the engine as archives name it.
const EngineName = "sqlite"

// Source is a store that may be in use by a node: it is read beside it.
type Source struct {
	db  *sql.DB
	dir string
}

var _ persistence.Snapshotter = (*Source)(nil)

// OpenSource opens the store in dir for reading. It does not take the folder's
// lock, so it works while a node runs on it. While a snapshot is open the
// node's write-ahead log cannot start over and grows; commits go on.
func OpenSource(ctx context.Context, dir string) (*Source, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if _, err := os.Stat(filepath.Join(abs, FileName)); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	db, err := sql.Open("sqlite", dsn(abs, readerPragmas))
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	db.SetMaxOpenConns(1)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open store in %s: %w", abs, err), db.Close())
	}
	return &Source{db: db, dir: abs}, nil
}

// Close releases the connection.
func (s *Source) Close() error { return s.db.Close() }

// snapshot is one read transaction.
type snapshot struct {
	tx     *sql.Tx
	source persistence.Source
}

// Snapshot begins a read transaction, which sees the store as it is now
// however long it lasts.
func (s *Source) Snapshot(ctx context.Context) (persistence.Snapshot, error) {
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, unavailable("begin snapshot", err)
	}
	src := persistence.Source{Engine: EngineName}
	// Before the first read pins the snapshot: whatever is answered until now is in it.
	src.Mark.Time = messages.Now()
	if src.Schema, err = schemaVersion(ctx, tx); err == nil {
		err = checkReadable(src.Schema)
	}
	if err == nil {
		err = tx.QueryRowContext(ctx, `SELECT seq FROM counters`).Scan(&src.Mark.Seq)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("snapshot of %s: %w", s.dir, err), tx.Rollback())
	}
	return &snapshot{tx, src}, nil
}

// schemaVersion is the newest migration that is applied.
func schemaVersion(ctx context.Context, q interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}) (version int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM schema_migrations WHERE is_applied = 1`).Scan(&version)
	if err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	return version, nil
}

// checkReadable refuses a schema that this binary does not know whole: a copy
// must leave nothing out.
func checkReadable(version int64) error {
	newest, err := migrations.Newest(migrationFiles)
	switch {
	case err != nil:
		return err
	case version > newest:
		return fmt.Errorf("the store has schema version %d and this dash knows up to %d, so its backup would be incomplete: use the newer dash", version, newest)
	case version < newest:
		return fmt.Errorf("the store has schema version %d and this dash reads %d: %s", version, newest, next.MigrateFirst)
	}
	return nil
}

func (s *snapshot) Source() persistence.Source { return s.source }

// Close ends the read transaction.
func (s *snapshot) Close() error {
	if err := s.tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		return fmt.Errorf("end snapshot: %w", err)
	}
	return nil
}

// Rows walks the tables.
func (s *snapshot) Rows(ctx context.Context, emit func(row any) error) error {
	for _, t := range backupTables {
		err := readRows(ctx, s.tx, func(v []driver.Value) error { return t.read(v, emit) }, t.n, `SELECT `+t.columns+` FROM `+t.table+` ORDER BY `+t.order)
		if err != nil {
			return fmt.Errorf("read %s: %w", t.section, err)
		}
	}
	return nil
}
