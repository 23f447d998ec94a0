package sqlite

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// inlineSpec is the largest spec kept in the task's own row. A larger one would
// be copied by every change of state.
const inlineSpec = 512

// One row of the event log holds at most so many entries and bytes, so that a
// reader never loads a huge batch for one entry.
const (
	eventsPerRow     = 512
	eventBytesPerRow = 256 << 10
)

// flush writes what the ops have left in memory.
func (b *batch) flush() error {
	for _, e := range b.order {
		if err := b.flushTask(e); err != nil {
			return err
		}
	}
	for _, e := range b.sessions {
		if e.write == nil {
			continue
		}
		if err := b.c.putSession(e.write); err != nil {
			return fmt.Errorf("write session: %w", err)
		}
		b.rows++
	}
	for _, g := range b.statuses {
		if err := b.c.putStatus(g); err != nil {
			return fmt.Errorf("write gateway status: %w", err)
		}
		b.rows++
	}
	for pool, seq := range b.poolSeq {
		if _, err := b.c.run(stPutPoolSeq, pool, seq); err != nil {
			return fmt.Errorf("write pool sequence: %w", err)
		}
	}
	return b.flushEvents()
}

// errTaken: the id of an insert whose turn is over was not new. The batch has to
// be made again, carefully, to answer for it.
var errTaken = &opError{errors.New("the task of an insert exists")}

// flushTask writes what the batch has of a task: a new row with the values that
// it has by now, else the narrowest update that carries them. It returns
// errTaken and leaves the entry as it was if the row is not new.
func (b *batch) flushTask(e *entry) error {
	if e.insert != nil {
		return b.flushInsert(e)
	}
	t := e.task
	if t == nil {
		return nil
	}
	run, err := encodeRun(t)
	if err != nil {
		return err
	}
	var n int64
	switch {
	case t.State.Terminal() || e.stored.state.Terminal() || e.outcome || e.stored.outcome:
		n, err = b.c.run(stSetTask, int64(t.State), t.Seq, t.Claim, run, t.Gateway, openColumn(t.State), micros(t.FinishedAt),
			endedColumn(t.State, e.ended), t.Error.GetCode(), e.no)
	case e.gateway != e.stored.gateway:
		n, err = b.c.run(stClaimTask, int64(t.State), t.Seq, t.Claim, run, t.Gateway, e.no)
	default:
		n, err = b.c.run(stMoveTask, int64(t.State), t.Seq, t.Claim, run, e.no)
	}
	if err != nil {
		return fmt.Errorf("update task: %w", err)
	}
	if n != 1 {
		return fmt.Errorf("update task %s: row %d is gone", e.id, e.no)
	}
	b.rows++
	e.task, e.stored = nil, e.hot
	return nil
}

func (b *batch) flushInsert(e *entry) error {
	t := e.task
	if t == nil {
		t = &e.insert.Task
	}
	n, err := b.c.insertTask(e.no, e.insert, t, e.ended)
	if err != nil {
		return fmt.Errorf("insert task: %w", err)
	}
	if n == 0 {
		return errTaken
	}
	b.rows += 3
	e.insert, e.task, e.stored = nil, nil, e.hot
	return nil
}

// openColumn is 1 for a task in no terminal state, else NULL.
func openColumn(s messages.TaskState) driver.Value {
	if s.Terminal() {
		return nil
	}
	return int64(1)
}

// endedColumn orders ends: the log position at which the task ended.
func endedColumn(s messages.TaskState, pos int64) driver.Value {
	if s.Terminal() {
		return pos
	}
	return int64(0)
}

// insertTask writes what never changes of a task from in, and the rest from t,
// which may be later. It returns 0 if the id or the idempotency key is taken.
func (c *conn) insertTask(no int64, in *persistence.TaskInsert, t *messages.Task, ended int64) (int64, error) {
	first := &in.Task
	var spec, key, hash driver.Value
	var large []byte
	if first.Spec != nil {
		enc, err := marshal(first.Spec)
		if err != nil {
			return 0, err
		}
		if len(enc) <= inlineSpec {
			spec = enc
		} else {
			large = enc
		}
	}
	if in.IdemKey != "" {
		key, hash = in.IdemKey, append([]byte{}, in.IdemHash...)
	}
	run, err := encodeRun(t)
	if err != nil {
		return 0, err
	}
	n, err := c.run(stInsertTask, no, first.ID, first.Tenant, first.Pool, int64(first.Class), first.Session, micros(first.CreatedAt), key, hash, spec,
		openColumn(t.State), int64(t.State), t.Seq, t.Claim, t.Gateway, micros(first.Cancel.RequestedAt), first.Cancel.Reason, micros(t.FinishedAt),
		endedColumn(t.State, ended), t.Error.GetCode(), run)
	if err != nil || n == 0 {
		return n, err
	}
	if large != nil {
		if _, err := c.run(stInsertSpec, no, large); err != nil {
			return 0, err
		}
	}
	for k, v := range first.Spec.GetLabels() {
		if _, err := c.run(stInsertLabel, no, first.Tenant, k, v); err != nil {
			return 0, err
		}
	}
	return 1, nil
}

func (c *conn) putSession(s *messages.Session) error {
	if s.State == messages.SessionRemoved {
		_, err := c.run(stRemoveSession, s.ID, s.Tenant)
		return err
	}
	labels, err := encodeJSON(s.Labels, len(s.Labels) == 0)
	if err != nil {
		return err
	}
	replay := int64(0)
	if s.Replay {
		replay = 1
	}
	_, err = c.run(stPutSession, s.ID, s.Tenant, s.Pool, s.Gateway, s.Generation, replay, int64(s.State), s.Reason, s.NextStep,
		int64(s.Restarts), labels, micros(s.CreatedAt), micros(s.UpdatedAt))
	return err
}

func (c *conn) putStatus(g *messages.GatewayStatus) error {
	_, err := c.run(stPutStatus, g.ID, g.Tenant, g.Owner, g.Epoch, int64(g.State), g.Reason, g.NextStep, g.BootID, g.Version,
		int64(g.Window), int64(g.Running), int64(g.Restarts), int64(g.PID), micros(g.Since))
	return err
}

// encodeJSON gives "" for an empty value.
func encodeJSON(v any, empty bool) (string, error) {
	if empty {
		return "", nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "", &opError{fmt.Errorf("encode: %w", err)}
	}
	return string(b), nil
}

// flushEvents appends the entries in commit order.
func (b *batch) flushEvents() error {
	at, first := now(), b.first
	var buf []byte
	write := func(last int64) error {
		if _, err := b.c.run(stPutEvents, first, last, at, buf); err != nil {
			return fmt.Errorf("write events: %w", err)
		}
		first, buf = last+1, buf[:0]
		b.rows++
		return nil
	}
	var err error
	for i, e := range b.events {
		seq := b.first + int64(i)
		if buf, err = appendEvent(buf, e); err != nil {
			return err
		}
		if len(buf) >= eventBytesPerRow || seq-first+1 >= eventsPerRow {
			if err := write(seq); err != nil {
				return err
			}
		}
	}
	if len(buf) == 0 {
		return nil
	}
	return write(b.seq)
}
