package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/internal/migrations"
	"github.com/dash-fleet/dash/persistence/internal/rows"
	"github.com/jackc/pgx/v5"
)

// EngineName is the engine as archives name it.
const EngineName = "postgres"

// Bounds of backups and restores, which a node's time-outs would cut short:
// silence of the server for so long ends them.
const backupStatement = time.Hour

// Source reads a database beside the nodes that work on it, on one connection
// of its own.
type Source struct {
	cfg  Config
	conn *pgx.Conn
}

var _ persistence.Snapshotter = (*Source)(nil)

// OpenSource connects for reading.
func OpenSource(ctx context.Context, cfg Config) (*Source, error) {
	cfg, conn, err := connectAlone(ctx, cfg, "dash backup")
	if err != nil {
		return nil, err
	}
	return &Source{cfg: cfg, conn: conn}, nil
}

// connectAlone opens a connection without the time-outs of a node's.
func connectAlone(ctx context.Context, cfg Config, name string) (Config, *pgx.Conn, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return cfg, nil, err
	}
	cc, err := cfg.connConfig(map[string]string{"application_name": name, "statement_timeout": millis(backupStatement), "jit": "off"})
	if err != nil {
		return cfg, nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return cfg, nil, connectError(cc, err)
	}
	return cfg, conn, nil
}

// hangUp closes a connection, also after ctx has ended.
func hangUp(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return conn.Close(ctx)
}

// Close ends the connection.
func (s *Source) Close() error { return hangUp(s.conn) }

type snapshot struct {
	tx     pgx.Tx
	source persistence.Source
}

// Snapshot begins a transaction that sees the database as it is now, however
// long it lasts. The mark is the server's clock.
func (s *Source) Snapshot(ctx context.Context) (persistence.Snapshot, error) {
	src := persistence.Source{Engine: EngineName}
	// Before the snapshot is taken: whatever is answered until now is in it.
	if err := s.conn.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&src.Mark.Time); err != nil {
		return nil, readError(ctx, "read the clock", err)
	}
	src.Mark.Time = src.Mark.Time.UTC()
	tx, err := s.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, readError(ctx, "begin snapshot", err)
	}
	if src.Schema, err = schemaVersion(ctx, tx); err == nil {
		err = tx.QueryRow(ctx, `SELECT seq FROM counters`).Scan(&src.Mark.Seq)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("snapshot: %w", err), tx.Rollback(context.WithoutCancel(ctx)))
	}
	return &snapshot{tx, src}, nil
}

// schemaVersion is the newest migration that is applied. One that this binary
// does not know whole is refused: a copy must leave nothing out.
func schemaVersion(ctx context.Context, tx pgx.Tx) (version int64, err error) {
	var made bool
	if err := tx.QueryRow(ctx, `SELECT to_regclass('schema_migrations') IS NOT NULL`).Scan(&made); err != nil {
		return 0, readError(ctx, "read schema version", err)
	}
	if !made {
		return 0, errors.New("there is no store of dash in this database: look at --postgres-url")
	}
	if err := tx.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM schema_migrations WHERE is_applied`).Scan(&version); err != nil {
		return 0, readError(ctx, "read schema version", err)
	}
	newest, err := migrations.Newest(migrationFiles)
	switch {
	case err != nil:
		return 0, err
	case version > newest:
		return 0, fmt.Errorf("the store has schema version %d and this dash knows up to %d, so its backup would be incomplete: use the newer dash", version, newest)
	case version < newest:
		return 0, fmt.Errorf("the store has schema version %d and this dash reads %d: %s", version, newest, next.MigrateFirst)
	}
	return version, nil
}

func (s *snapshot) Source() persistence.Source { return s.source }

// Close ends the transaction.
func (s *snapshot) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.tx.Rollback(ctx); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
		return fmt.Errorf("end snapshot: %w", err)
	}
	return nil
}

// Rows walks the tables. The server sends rows as they are read.
func (s *snapshot) Rows(ctx context.Context, emit func(row any) error) error {
	for _, t := range backupTables {
		rows, err := s.tx.Query(ctx, `SELECT `+t.columns+` FROM `+t.table+` ORDER BY `+t.order)
		if err == nil {
			err = t.read(rows, emit)
			rows.Close()
		}
		if err == nil {
			err = rows.Err()
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", t.section, backupError(ctx, err))
		}
	}
	return nil
}

// backupError leaves the errors of whoever takes the rows as they are.
func backupError(ctx context.Context, err error) error {
	if sqlState(err) != "" {
		return readError(ctx, "read", err)
	}
	return err
}

// backupTable is one section of a snapshot.
type backupTable struct {
	section persistence.Section
	table   string
	order   string
	columns string
	read    func(rows pgx.Rows, emit func(any) error) error
	count   string // how the rows are counted; empty: those of the table
}

// backupTables has every table that holds something of its own. The others
// follow from these, or are of processes that have gone: see the test.
var backupTables = []backupTable{
	{section: persistence.SectionTenants, table: "tenants", order: "id", columns: tenantColumns, read: scanned(readTenant)},
	{section: persistence.SectionUsers, table: "users", order: "id", columns: userColumns, read: scanned(readUser)},
	{section: persistence.SectionLogins, table: "sessions", order: "id", columns: loginColumns, read: scanned(readLogin)},
	{section: persistence.SectionKeys, table: "api_keys", order: "id",
		columns: keyColumns, read: scanned(readKey)},
	{section: persistence.SectionAudit, table: "audit", order: "seq", columns: auditColumns, read: scanned(readAudit)},
	{section: persistence.SectionGateways, table: "gateways", order: "id", columns: gatewayColumns, read: scanned(readGateway)},
	{section: persistence.SectionPools, table: "pools", order: "id", columns: poolColumns, read: scanned(readPool)},
	{section: persistence.SectionOwnership, table: "ownership", order: "scope, key", columns: `scope, key, owner, epoch`,
		read: raw(func(v [][]byte, emit func(any) error) error {
			return emit(&messages.Ownership{Scope: messages.Scope(number(v[0])), Key: string(v[1]), Owner: string(v[2]), Epoch: number(v[3])})
		})},
	{section: persistence.SectionPoolSeqs, table: "pool_seqs", order: "pool", columns: `pool, seq`,
		read: raw(func(v [][]byte, emit func(any) error) error {
			return emit(&persistence.PoolSeq{Pool: string(v[0]), Seq: number(v[1])})
		})},
	{section: persistence.SectionStatuses, table: "gateway_status", order: "id", columns: `data`, read: raw(readJSON[messages.GatewayStatus])},
	{section: persistence.SectionSessions, table: "agent_sessions", order: "id, tenant", columns: `data`, read: raw(readJSON[messages.Session])},
	{section: persistence.SectionTasks, table: "tasks", order: "no", columns: taskColumns + `, idem_key, idem_hash, ended`,
		read: raw(func(v [][]byte, emit func(any) error) error {
			t, err := decodeTask(v)
			if err != nil {
				return err
			}
			row := &persistence.TaskRow{Task: t, IdemKey: string(v[numTaskColumns]), IdemHash: v[numTaskColumns+1]}
			if v[numTaskColumns+2] != nil {
				row.Ended = number(v[numTaskColumns+2])
			}
			return emit(row)
		})},
	{section: persistence.SectionEvents, table: "events", order: "first_seq", columns: `first_seq, entries`,
		count: `SELECT coalesce(sum(last_seq - first_seq + 1), 0)::bigint FROM events`,
		read: raw(func(v [][]byte, emit func(any) error) error {
			events, err := rows.ReadEvents(nil, number(v[0]), v[1], 0, math.MaxInt)
			if err != nil {
				return err
			}
			for _, e := range events {
				if err := emit(e); err != nil {
					return err
				}
			}
			return nil
		})},
}

// scanned reads rows as the repositories do.
func scanned[T any](read pgx.RowToFunc[T]) func(pgx.Rows, func(any) error) error {
	return func(rows pgx.Rows, emit func(any) error) error {
		for rows.Next() {
			v, err := read(rows)
			if err != nil {
				return err
			}
			if err := emit(&v); err != nil {
				return err
			}
		}
		return nil
	}
}

// raw reads columns in binary form.
func raw(read func(v [][]byte, emit func(any) error) error) func(pgx.Rows, func(any) error) error {
	return func(rows pgx.Rows, emit func(any) error) error {
		for rows.Next() {
			if err := read(rows.RawValues(), emit); err != nil {
				return err
			}
		}
		return nil
	}
}

func readJSON[T any](v [][]byte, emit func(any) error) error {
	row := new(T)
	if err := json.Unmarshal(v[0], row); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	return emit(row)
}
