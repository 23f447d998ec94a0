package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// writer is the only one who writes. All fields below sem belong to whoever
// holds it. The fields that mirror the database are changed only after a
// commit, so a rolled-back batch leaves them as they were.
type writer struct {
	cfg Config
	m   *metrics

	// needRestart is set by the checkpointer when the log has outgrown its bound.
	needRestart atomic.Bool
	// written counts rows since the last checkpoint; wake tells of enough of them.
	written atomic.Int64
	wake    chan struct{}
	mark    *mark

	sem     chan struct{}
	conn    *conn // nil after a failure: reopened by the next use
	closed  bool
	batch   int64 // counters.batch
	seq     int64 // counters.seq
	drift   int64 // counters.drift
	lastNo  int64 // newest tasks.no
	poolSeq map[string]int64
	owners  map[ownerKey]owner
	hot     map[string]hot // by task id; tasks in no terminal state, bounded
}

type ownerKey struct {
	scope messages.Scope
	key   string
}

type owner struct {
	node  string
	epoch int64
}

// hot is what the compares of a task need.
type hot struct {
	no      int64
	claim   int64
	gateway string
	state   messages.TaskState
	cancel  bool // flag set
	outcome bool // the row has an error code or a time of finish
}

var errClosed = errors.New("the store is closed")

func newWriter(ctx context.Context, cfg Config, m *metrics) (*writer, error) {
	w := &writer{cfg: cfg, m: m, sem: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
	if err := w.reopen(ctx); err != nil {
		return nil, err
	}
	if err := w.openMark(); err != nil {
		return nil, errors.Join(err, w.close())
	}
	// The lock says that every earlier owner is gone. Epochs stay, so the next
	// Take of a row fences whatever an earlier process might still hold.
	err := w.transact(ctx, func(c *conn) error { return c.text(`UPDATE ownership SET owner = ''`) })
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	for k, o := range w.owners {
		w.owners[k] = owner{epoch: o.epoch}
	}
	return w, nil
}

// openMark compares what the store has with what it has acknowledged.
func (w *writer) openMark() error {
	m, last, err := openMark(w.cfg.Dir)
	if err != nil {
		return err
	}
	w.mark = m
	if last > w.batch {
		return &LostError{Dir: w.cfg.Dir, Has: w.batch, Marked: last}
	}
	return nil
}

func (w *writer) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case w.sem <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if w.closed {
		w.release()
		return errClosed
	}
	return nil
}

func (w *writer) release() { <-w.sem }

func (w *writer) close() error {
	w.sem <- struct{}{}
	defer w.release()
	if w.closed {
		return nil
	}
	w.closed = true
	var err error
	if w.mark != nil {
		err = w.mark.f.Close()
	}
	if w.conn != nil {
		err = errors.Join(err, w.conn.close())
		w.conn = nil
	}
	return err
}

// reopen connects and reads back everything that mirrors the database.
func (w *writer) reopen(ctx context.Context) error {
	c, err := openConn(ctx, w.cfg.Dir)
	if err != nil {
		return err
	}
	if err := w.load(c); err != nil {
		return errors.Join(fmt.Errorf("read store: %w", err), c.close())
	}
	w.conn = c
	return nil
}

func (w *writer) load(c *conn) error {
	w.hot, w.poolSeq, w.owners = map[string]hot{}, map[string]int64{}, map[ownerKey]owner{}
	err := c.rows(stCounters, func(v []driver.Value) error {
		w.batch, w.seq, w.drift = integer(v[0]), integer(v[1]), integer(v[2])
		return nil
	})
	if err != nil {
		return err
	}
	err = c.query(`SELECT coalesce(max(no), 0) FROM tasks`, func(v []driver.Value) error {
		w.lastNo = integer(v[0])
		return nil
	})
	if err != nil {
		return err
	}
	err = c.query(`SELECT pool, seq FROM pool_seqs`, func(v []driver.Value) error {
		w.poolSeq[text(v[0])] = integer(v[1])
		return nil
	})
	if err != nil {
		return err
	}
	return c.query(`SELECT scope, key, owner, epoch FROM ownership`, func(v []driver.Value) error {
		k := ownerKey{messages.Scope(integer(v[0])), text(v[1])}
		w.owners[k] = owner{text(v[2]), integer(v[3])}
		return nil
	})
}

// ensure has a connection and memory that mirrors it. Whoever reads that
// memory to decide what to write calls it first.
func (w *writer) ensure(ctx context.Context) error {
	if w.conn != nil {
		return nil
	}
	return unavailable("reopen store", w.reopen(ctx))
}

// transact runs do inside one durable transaction and, if it fails, leaves
// nothing of it. The caller must not hold the writer.
// A row of the audit log that ctx brings goes into it, too.
func (w *writer) transact(ctx context.Context, do func(*conn) error) error {
	if err := w.acquire(ctx); err != nil {
		return err
	}
	defer w.release()
	e, done, audited := persistence.AuditOf(ctx)
	if !audited {
		return w.transactHeld(ctx, do, w.counters)
	}
	err := w.transactHeld(ctx, func(c *conn) error {
		if err := do(c); err != nil {
			return err
		}
		_, err := appendAudit(c, e)
		return err
	}, w.counters)
	if err == nil {
		done()
	}
	return err
}

func (w *writer) counters() (seq, drift int64) { return w.seq, w.drift }

// transactHeld is transact for the holder of sem. after gives the counters as
// they are to be once do has run.
func (w *writer) transactHeld(ctx context.Context, do func(*conn) error, after func() (seq, drift int64)) error {
	if err := w.ensure(ctx); err != nil {
		return err
	}
	w.restartLog()
	c := w.conn
	if _, err := c.run(stBegin); err != nil {
		return w.fail("begin", err, 0)
	}
	if err := do(c); err != nil {
		return w.fail("write", err, 0)
	}
	batch := w.batch + 1
	seq, drift := after()
	if _, err := c.run(stCount, batch, seq, drift); err != nil {
		return w.fail("count", err, 0)
	}
	if _, err := c.run(stCommit); err != nil {
		if err := w.fail("commit", err, batch); err != nil {
			return err
		}
	}
	w.batch, w.seq, w.drift = batch, seq, drift
	if err := w.mark.write(batch); err != nil {
		// The batch is durable all the same; only a loss of it would go unnoticed.
		w.cfg.Logger.Warn("mark of the last commit not written", slog.Any("err", err))
	}
	w.note(4)
	return nil
}

// fail rolls back. When a COMMIT itself failed, batch is its number, and the
// counter read back decides: nil means that it took place after all.
func (w *writer) fail(step string, cause error, batch int64) error {
	var op *opError
	if !errors.As(cause, &op) {
		w.m.Failed.Inc()
	}
	c := w.conn
	_, rerr := c.run(stRollback)
	now := int64(-1)
	err := c.rows(stCounters, func(v []driver.Value) error { now = integer(v[0]); return nil })
	switch {
	case err != nil || now < 0:
		// The connection is of no use; a fresh one finds out by itself.
		w.conn = nil
		if cerr := c.close(); cerr != nil {
			w.cfg.Logger.Warn("writer connection did not close", slog.Any("err", cerr))
		}
		if batch != 0 && w.resolve(batch) {
			return nil
		}
	case batch != 0 && now == batch:
		return nil
	case rerr != nil && batch == 0 && !isNoTransaction(rerr):
		w.cfg.Logger.Warn("rollback reported an error", slog.Any("err", rerr))
	}
	if op != nil {
		return op
	}
	return unavailable(step, cause)
}

// resolve reopens at once to learn whether batch was kept.
func (w *writer) resolve(batch int64) bool {
	if err := w.reopen(noCancel); err != nil {
		w.cfg.Logger.Error("store is lost for now; it is reopened by the next write", slog.Any("err", err))
		return false
	}
	return w.batch == batch
}

// opError is a caller's mistake, not the store's.
type opError struct{ err error }

func (e *opError) Error() string { return e.err.Error() }
func (e *opError) Unwrap() error { return e.err }

// remember keeps the compare fields of an open task; past the bound any other
// entry makes room.
func (w *writer) remember(id string, h hot) {
	if _, known := w.hot[id]; !known && len(w.hot) >= w.cfg.CacheTasks {
		for victim := range w.hot {
			delete(w.hot, victim)
			break
		}
	}
	w.hot[id] = h
}

// note counts written rows and wakes the checkpointer when there are enough.
func (w *writer) note(rows int) {
	if w.written.Add(int64(rows)) < checkpointRows {
		return
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
