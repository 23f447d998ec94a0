package sqlite

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// Target is a store that no node runs on and that a restore may fill.
type Target struct {
	dir  string
	lock *os.File
	conn *conn
}

var _ persistence.Restorer = (*Target)(nil)

// OpenTarget takes the folder, makes the store in it if there is none, and
// brings its schema up to date. A folder in use gives a *LockedError.
func OpenTarget(ctx context.Context, dir string) (*Target, error) {
	cfg, err := Config{Dir: dir}.withDefaults()
	if err != nil {
		return nil, err
	}
	lock, _, err := prepareDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	t := &Target{dir: cfg.Dir, lock: lock}
	if err := ensureSchema(ctx, cfg.Dir); err != nil {
		return nil, errors.Join(fmt.Errorf("open store in %s: %w", cfg.Dir, err), t.Close())
	}
	if t.conn, err = openConn(ctx, cfg.Dir); err != nil {
		return nil, errors.Join(fmt.Errorf("open store in %s: %w", cfg.Dir, err), t.Close())
	}
	return t, nil
}

// Close gives the folder back.
func (t *Target) Close() error {
	var err error
	if t.conn != nil {
		err = t.conn.close()
		t.conn = nil
	}
	return errors.Join(err, unlock(t.lock))
}

// Restore writes everything in one transaction.
func (t *Target) Restore(ctx context.Context, mark persistence.Mark, rows iter.Seq2[any, error]) (map[persistence.Section]int64, error) {
	if err := t.empty(); err != nil {
		return nil, err
	}
	if err := removeMark(t.dir); err != nil { // of an earlier store in this folder
		return nil, err
	}
	c := t.conn
	if _, err := c.run(stBegin); err != nil {
		return nil, unavailable("begin restore", err)
	}
	counts, err := t.fill(ctx, mark, rows)
	if err == nil {
		_, err = c.run(stCommit)
		err = unavailable("commit restore", err)
	}
	if err != nil {
		if _, rerr := c.run(stRollback); rerr != nil && !isNoTransaction(rerr) {
			err = errors.Join(err, rerr)
		}
		return nil, err
	}
	return counts, nil
}

// empty refuses a store that holds something. A new store holds the default
// tenant.
func (t *Target) empty() error {
	counts, err := countRows(t.conn)
	if err != nil {
		return unavailable("look into the store", err)
	}
	if n, err := t.conn.one(`SELECT count(*) FROM tenants WHERE id <> ?`, messages.DefaultTenant); err != nil {
		return unavailable("look into the store", err)
	} else if n == 0 {
		delete(counts, persistence.SectionTenants)
	}
	if len(counts) > 0 {
		return &persistence.NotEmptyError{Store: "the store in " + t.dir, Holds: counts}
	}
	return nil
}

func (t *Target) fill(ctx context.Context, mark persistence.Mark, rows iter.Seq2[any, error]) (map[persistence.Section]int64, error) {
	if err := t.conn.text(`DELETE FROM tenants`); err != nil {
		return nil, unavailable("write", err)
	}
	f := &filling{c: t.conn, first: 1}
	for row, err := range rows {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if err := f.put(row); err != nil {
			return nil, writeError(fmt.Sprintf("write %T", row), err)
		}
	}
	if err := f.finish(mark); err != nil {
		return nil, unavailable("write", err)
	}
	counts, err := countRows(t.conn)
	return counts, unavailable("count", err)
}

// filling is a restore under way.
type filling struct {
	c        *conn
	lastNo   int64
	drift    int64
	maxEnded int64
	audit    persistence.AuditHead

	// The row of the event log that is being gathered, as flushEvents has it.
	first, last, at int64
	entries         []byte
}

func (f *filling) put(row any) error {
	c := f.c
	switch r := row.(type) {
	case *persistence.TaskRow:
		return f.task(r)
	case *messages.Event:
		return f.event(r)
	case *messages.Session:
		return c.putSession(r)
	case *messages.GatewayStatus:
		return c.putStatus(r)
	case *persistence.PoolSeq:
		_, err := c.run(stPutPoolSeq, r.Pool, r.Seq)
		return err
	case *messages.Ownership:
		_, err := c.run(stPutOwner, int64(r.Scope), r.Key, r.Owner, r.Epoch)
		return err
	case *messages.Gateway:
		args, err := gatewayArgs(r)
		if err != nil {
			return err
		}
		return c.text(`INSERT INTO gateways (`+gatewayColumns+`) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)`, args...)
	case *messages.Pool:
		return f.pool(r)
	case *persistence.Key:
		args, err := keyArgs(r)
		if err != nil {
			return err
		}
		return c.text(insertKey+` VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)`, args...)
	}
	return f.account(row)
}

func (f *filling) account(row any) error {
	c := f.c
	switch r := row.(type) {
	case *messages.Tenant:
		return c.text(`INSERT INTO tenants (id, name, created_at, version) VALUES (?1, ?2, ?3, ?4)`, r.ID, r.Name, micros(r.CreatedAt), r.Version)
	case *persistence.User:
		return c.text(`INSERT INTO users (id, email, password_hash, role, tenant, created_at, version) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)`,
			r.ID, r.Email, string(r.PasswordHash), r.Role, r.Tenant, micros(r.CreatedAt), r.Version)
	case *persistence.LoginSession:
		return c.text(`INSERT INTO sessions (id, user_id, token_hash, expires_at, created_at) VALUES (?1, ?2, ?3, ?4, ?5)`,
			r.ID, r.UserID, r.TokenHash[:], micros(r.ExpiresAt), micros(r.CreatedAt))
	case *persistence.AuditEntry:
		f.audit = persistence.AuditHead{Seq: r.Seq, Hash: r.Hash}
		return c.text(`INSERT INTO audit (`+auditColumns+`) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)`,
			r.Seq, micros(r.Time), r.Tenant, r.Actor, r.Action, r.Target, r.RequestID, r.Detail, r.Hash[:])
	}
	return &opError{fmt.Errorf("this engine has no place for rows of type %T", row)}
}

// task keeps the order in which tasks were committed; see tasks.no.
func (f *filling) task(r *persistence.TaskRow) error {
	created := micros(r.Task.CreatedAt)
	no := max(f.lastNo+1, created)
	n, err := f.c.insertTask(no, &persistence.TaskInsert{Task: r.Task, IdemKey: r.IdemKey, IdemHash: r.IdemHash}, &r.Task, r.Ended)
	if err == nil && n == 0 {
		err = &opError{fmt.Errorf("the id or the idempotency key of task %s comes twice", r.Task.ID)}
	}
	f.lastNo, f.drift, f.maxEnded = no, max(f.drift, no-created), max(f.maxEnded, r.Ended)
	return err
}

func (f *filling) pool(p *messages.Pool) error {
	limits, err := encodeJSON(p.Limits, len(p.Limits) == 0)
	if err != nil {
		return err
	}
	reserved, err := encodeJSON(p.Reserved, len(p.Reserved) == 0)
	if err != nil {
		return err
	}
	return f.c.text(`INSERT INTO pools (id, tenant, max_concurrency, limits, reserved, aging_seconds, away_seconds, version, created_at)
 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)`,
		p.ID, p.Tenant, int64(p.MaxConcurrency), limits, reserved, int64(p.AgingSeconds), int64(p.AwaySeconds), p.Version, micros(p.CreatedAt))
}

// event gathers entries without a hole into one row.
func (f *filling) event(e *messages.Event) (err error) {
	seq := e.GetSeq()
	if len(f.entries) > 0 && (seq != f.last+1 || len(f.entries) >= eventBytesPerRow || f.last-f.first+1 >= eventsPerRow) {
		if err := f.flush(); err != nil {
			return err
		}
	}
	if len(f.entries) == 0 {
		f.first = seq
	}
	f.last, f.at = seq, e.GetTimeMicros()
	f.entries, err = appendEvent(f.entries, e)
	return err
}

func (f *filling) flush() error {
	if len(f.entries) == 0 {
		return nil
	}
	_, err := f.c.run(stPutEvents, f.first, f.last, f.at, f.entries)
	f.entries = f.entries[:0]
	return err
}

// finish writes what follows from the rows.
func (f *filling) finish(mark persistence.Mark) error {
	if err := f.flush(); err != nil {
		return err
	}
	if err := f.c.text(`UPDATE audit_head SET seq = ?1, hash = ?2`, f.audit.Seq, f.audit.Hash[:]); err != nil {
		return err
	}
	// An engine may have added events that are newer than its mark.
	seq := max(mark.Seq, f.last)
	if f.maxEnded > seq {
		// Another engine counted differently. Here an end is ordered by the event
		// log, so the restored ones go before the ones to come, in their order.
		err := f.c.text(`UPDATE tasks SET ended = r.n - r.everything - 1 FROM (
 SELECT no, row_number() OVER (ORDER BY ended, finished_at, no) AS n, count(*) OVER () AS everything FROM tasks WHERE ended <> 0) AS r WHERE r.no = tasks.no`)
		if err != nil {
			return err
		}
	}
	_, err := f.c.run(stCount, int64(1), seq, f.drift)
	return err
}

// writeError is unavailable, except for what is wrong with the row itself.
func writeError(step string, err error) error {
	var op *opError
	if errors.As(err, &op) {
		return op
	}
	return unavailable(step, err)
}
