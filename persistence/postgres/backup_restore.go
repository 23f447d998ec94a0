package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/wire"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/internal/rows"
	"github.com/jackc/pgx/v5"
)

// copyRows is how many rows go to the server in one COPY, copyBytes about how
// many bytes: it bounds the memory of a restore.
const (
	copyRows  = 1000
	copyBytes = 8 << 20
)

// Target is a database that a restore may fill.
type Target struct {
	cfg  Config
	conn *pgx.Conn
}

var _ persistence.Restorer = (*Target)(nil)

// OpenTarget connects and brings the schema up to date.
func OpenTarget(ctx context.Context, cfg Config) (*Target, error) {
	cfg, conn, err := connectAlone(ctx, cfg, "dash restore")
	if err != nil {
		return nil, err
	}
	if err := ensureSchema(ctx, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), hangUp(conn))
	}
	return &Target{cfg: cfg, conn: conn}, nil
}

// Close ends the connection.
func (t *Target) Close() error { return hangUp(t.conn) }

// Restore writes everything in one transaction. Meanwhile it holds the lock
// that a node takes when it starts, and the row that every commit locks.
func (t *Target) Restore(ctx context.Context, mark persistence.Mark, rows iter.Seq2[any, error]) (counts map[persistence.Section]int64, err error) {
	cc, err := t.cfg.connConfig(nil)
	if err != nil {
		return nil, err
	}
	unlock, err := lockSchema(ctx, cc, t.cfg.Schema)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	tx, err := t.conn.Begin(ctx)
	if err != nil {
		return nil, readError(ctx, "begin restore", err)
	}
	if counts, err = t.fill(ctx, tx, mark, rows); err != nil {
		// A connection that is broken has rolled back by itself.
		if rerr := rollback(tx); rerr != nil && !t.conn.IsClosed() {
			err = errors.Join(err, rerr)
		}
		return nil, err
	}
	if err := tx.Commit(ctx); err != nil {
		return nil, readError(ctx, "commit restore (nobody knows whether it took place; if it did, a second one is refused)", err)
	}
	return counts, nil
}

func rollback(tx pgx.Tx) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := tx.Rollback(ctx); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
		return err
	}
	return nil
}

func (t *Target) fill(ctx context.Context, tx pgx.Tx, mark persistence.Mark, rows iter.Seq2[any, error]) (map[persistence.Section]int64, error) {
	if err := t.empty(ctx, tx); err != nil {
		return nil, err
	}
	// Neither is anybody's work: the default tenant, and the mark of a node that never got to work.
	if _, err := tx.Exec(ctx, `DELETE FROM tenants; DELETE FROM task_history_mark`); err != nil {
		return nil, readError(ctx, "write", err)
	}
	f := &filling{ctx: ctx, tx: tx, copies: map[string]*copying{}}
	for row, err := range rows {
		if err != nil {
			return nil, err
		}
		if err := f.put(row); err != nil {
			return nil, err
		}
	}
	if err := f.finish(mark); err != nil {
		return nil, err
	}
	return countRows(ctx, tx)
}

// empty refuses a database that holds something or that a node works on.
func (t *Target) empty(ctx context.Context, tx pgx.Tx) error {
	var running int
	err := tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM nodes WHERE expires > clock_timestamp()) FROM counters FOR UPDATE`).Scan(&running)
	if err != nil {
		return readError(ctx, "look into the store", err)
	}
	if running > 0 {
		return &NodesRunError{Nodes: running}
	}
	counts, err := countRows(ctx, tx)
	if err != nil {
		return err
	}
	var tenants int
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM tenants WHERE id <> $1`, messages.DefaultTenant).Scan(&tenants); err != nil {
		return readError(ctx, "look into the store", err)
	}
	if tenants == 0 {
		delete(counts, persistence.SectionTenants)
	}
	if len(counts) > 0 {
		return &persistence.NotEmptyError{Store: "the database", Holds: counts}
	}
	return nil
}

// countRows counts the rows of every section that has some.
func countRows(ctx context.Context, tx pgx.Tx) (map[persistence.Section]int64, error) {
	counts := map[persistence.Section]int64{}
	for _, t := range backupTables {
		query := t.count
		if query == "" {
			query = `SELECT count(*) FROM ` + t.table
		}
		var n int64
		if err := tx.QueryRow(ctx, query).Scan(&n); err != nil {
			return nil, readError(ctx, "count "+string(t.section), err)
		}
		if n > 0 {
			counts[t.section] = n
		}
	}
	return counts, nil
}

// copying gathers rows of one table.
type copying struct {
	columns []string
	rows    [][]any
	bytes   int
}

// filling is a restore under way. It lives for one call, so it may hold ctx.
type filling struct {
	ctx    context.Context //nolint:containedctx // of the call that it lives for
	tx     pgx.Tx
	copies map[string]*copying
	order  []string // of the tables in copies

	lastNo, drift, maxEnded int64
	audit                   persistence.AuditHead

	// The row of the event log that is being gathered.
	first, last, at int64
	entries         []byte
}

// add gathers a row and sends what was gathered when it is enough.
func (f *filling) add(table, columns string, bytes int, values ...any) error {
	c := f.copies[table]
	if c == nil {
		c = &copying{columns: strings.Split(columns, ", ")}
		f.copies[table] = c
		f.order = append(f.order, table)
	}
	c.rows = append(c.rows, values)
	c.bytes += bytes
	if len(c.rows) < copyRows && c.bytes < copyBytes {
		return nil
	}
	return f.send()
}

// send copies everything gathered, tables in the order in which they came: so
// rows are behind those that they refer to.
func (f *filling) send() error {
	for _, table := range f.order {
		c := f.copies[table]
		if _, err := f.tx.CopyFrom(f.ctx, pgx.Identifier{table}, c.columns, pgx.CopyFromRows(c.rows)); err != nil {
			return readError(f.ctx, "write "+table, err)
		}
	}
	clear(f.copies)
	f.order = f.order[:0]
	return nil
}

func (f *filling) put(row any) error {
	switch r := row.(type) {
	case *persistence.TaskRow:
		return f.task(r)
	case *messages.Event:
		return f.event(r)
	case *messages.Session:
		data, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode session: %w", err)
		}
		return f.add("agent_sessions", "id, tenant, pool, generation, data", len(data), r.ID, r.Tenant, r.Pool, r.Generation, data)
	case *messages.GatewayStatus:
		data, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode gateway status: %w", err)
		}
		return f.add("gateway_status", "id, tenant, data", len(data), r.ID, r.Tenant, data)
	case *persistence.PoolSeq:
		return f.add("pool_seqs", "pool, seq", 0, r.Pool, r.Seq)
	case *messages.Ownership:
		return f.add("ownership", "scope, key, owner, epoch", 0, int16(r.Scope), r.Key, r.Owner, r.Epoch)
	}
	return f.account(row)
}

func (f *filling) account(row any) error {
	switch r := row.(type) {
	case *messages.Gateway:
		args, err := gatewayArgs(r)
		if err != nil {
			return err
		}
		return f.add("gateways", strings.ReplaceAll(gatewayColumns, "::text", ""), 0, jsonBytes(args)...)
	case *messages.Pool:
		limits, err1 := encoded(r.Limits, len(r.Limits) == 0)
		reserved, err2 := encoded(r.Reserved, len(r.Reserved) == 0)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("pool %s: %w", r.ID, err)
		}
		return f.add("pools", strings.ReplaceAll(poolColumns, "::text", ""), 0,
			jsonBytes([]any{r.ID, r.Tenant, r.MaxConcurrency, limits, reserved, r.AgingSeconds, r.AwaySeconds, r.Version, r.CreatedAt})...)
	case *persistence.Key:
		args, err := keyArgs(r)
		if err != nil {
			return err
		}
		args[4] = []byte(args[4].(string)) // permissions, JSON
		return f.add("api_keys", strings.ReplaceAll(keyColumns, "::text", ""), 0, args...)
	case *messages.Tenant:
		return f.add("tenants", tenantColumns, 0, r.ID, r.Name, r.CreatedAt, r.Version)
	case *persistence.User:
		return f.add("users", userColumns, 0, r.ID, r.Email, string(r.PasswordHash), r.Role, r.Tenant, r.CreatedAt, r.Version)
	case *persistence.LoginSession:
		return f.add("sessions", loginColumns, 0, r.ID, r.UserID, r.TokenHash[:], r.ExpiresAt, r.CreatedAt)
	case *persistence.AuditEntry:
		f.audit = persistence.AuditHead{Seq: r.Seq, Hash: r.Hash}
		return f.add("audit", auditColumns, len(r.Detail), r.Seq, r.Time, r.Tenant, r.Actor, r.Action, r.Target, r.RequestID, r.Detail, r.Hash[:])
	}
	return fmt.Errorf("this engine has no place for rows of type %T", row)
}

// jsonBytes makes encoded JSON what COPY takes for it.
func jsonBytes(args []any) []any {
	for i, a := range args {
		if s, ok := a.(*string); ok {
			args[i] = nil
			if s != nil {
				args[i] = []byte(*s)
			}
		}
	}
	return args
}

const restoredTask = "no, created_at, class, id, tenant, pool, session, idem_key, idem_hash, spec, seq, claim, cancel_at, finished_at, ended, state, failed, open, gateway, code, cancel_reason, run"

// task keeps the order in which tasks were committed; see tasks.no.
func (f *filling) task(r *persistence.TaskRow) error {
	t := &r.Task
	created := micros(t.CreatedAt)
	no := max(f.lastNo+1, created)
	f.lastNo, f.drift = no, max(f.drift, no-created)
	var spec, key, hash, ended, failed, code, reason any
	if t.Spec != nil {
		enc, err := wire.Marshal(t.Spec)
		if err != nil {
			return err
		}
		spec = enc
	}
	if r.IdemKey != "" {
		key, hash = []byte(r.IdemKey), append([]byte{}, r.IdemHash...)
	}
	switch {
	case t.State == messages.Succeeded:
		ended = r.Ended
		f.maxEnded = max(f.maxEnded, r.Ended)
	case t.State > messages.Succeeded:
		failed = int16(t.State)
	}
	if c := t.Error.GetCode(); c != "" {
		code = c
	}
	if t.Cancel.Reason != "" {
		reason = []byte(t.Cancel.Reason)
	}
	run, err := wire.EncodeRun(t)
	if err != nil {
		return err
	}
	size, _ := spec.([]byte)
	err = f.add("tasks", restoredTask, len(size)+len(run)+200, no, created, int16(t.Class), t.ID, t.Tenant, t.Pool, t.Session, key, hash, spec, t.Seq, t.Claim,
		micros(t.Cancel.RequestedAt), micros(t.FinishedAt), ended, int16(t.State), failed, !t.State.Terminal(), t.Gateway, code, reason, run)
	if err != nil {
		return err
	}
	for k, v := range t.Spec.GetLabels() {
		if err := f.add("task_labels", "key, no, value", len(v), []byte(k), no, []byte(v)); err != nil {
			return err
		}
	}
	return nil
}

// event gathers entries without a hole into one row.
func (f *filling) event(e *messages.Event) (err error) {
	seq := e.GetSeq()
	if len(f.entries) > 0 && (seq != f.last+1 || len(f.entries) >= eventBytesPerRow || f.last-f.first+1 >= eventsPerRow) {
		if err := f.flushEvents(); err != nil {
			return err
		}
	}
	if len(f.entries) == 0 {
		f.first = seq
	}
	f.last, f.at = seq, e.GetTimeMicros()
	e.Seq = 0
	f.entries, err = rows.AppendEvent(f.entries, e)
	e.Seq = seq
	return err
}

func (f *filling) flushEvents() error {
	if len(f.entries) == 0 {
		return nil
	}
	err := f.add("events", "first_seq, last_seq, time, entries", len(f.entries), f.first, f.last, f.at, f.entries)
	f.entries = nil
	return err
}

// finish writes what follows from the rows. The counter of lists goes past
// every end of a task too, so that later ends come after them.
func (f *filling) finish(mark persistence.Mark) error {
	if err := f.flushEvents(); err != nil {
		return err
	}
	if err := f.send(); err != nil {
		return err
	}
	if f.audit.Seq > 0 {
		if _, err := f.tx.Exec(f.ctx, `UPDATE audit_head SET seq = $1, hash = $2`, f.audit.Seq, f.audit.Hash[:]); err != nil {
			return readError(f.ctx, "write", err)
		}
	}
	_, err := f.tx.Exec(f.ctx, `UPDATE counters SET seq = $1, no = $2, drift = $3`, max(mark.Seq, f.last), max(f.lastNo, f.maxEnded), f.drift)
	return readError(f.ctx, "write", err)
}
