package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/wire"
	"github.com/dash-fleet/dash/persistence"
	"github.com/jackc/pgx/v5"
)

// History returns the task history, which a store in Redis is rebuilt from.
func (db *DB) History() persistence.History { return history{db} }

type history struct{ db *DB }

// saveHistory is one statement and so one transaction; the same task comes
// once in a call.
const saveHistory = `WITH saved AS (
 INSERT INTO task_history AS h (id, tenant, state, rev, finished_at, idem_key, idem_hash, task)
 SELECT id, tenant, state, rev, finished_at, idem_key, idem_hash, task
 FROM unnest($1::text[], $2::text[], $3::smallint[], $4::bigint[], $5::timestamptz[], $6::bytea[], $7::bytea[], $8::bytea[])
  AS n (id, tenant, state, rev, finished_at, idem_key, idem_hash, task)
 ORDER BY id
 ON CONFLICT (id) DO UPDATE SET state = excluded.state, rev = excluded.rev, finished_at = excluded.finished_at,
  idem_key = excluded.idem_key, idem_hash = excluded.idem_hash, task = excluded.task
 WHERE h.rev <= excluded.rev
)
INSERT INTO task_history_mark AS m (dataset, batch, seq, at) VALUES ($9, $10, $11, $12)
ON CONFLICT (one) DO UPDATE SET dataset = excluded.dataset, batch = excluded.batch, seq = excluded.seq, at = excluded.at
WHERE m.batch <= excluded.batch`

// Save upserts the records and the mark.
func (h history) Save(ctx context.Context, m persistence.HistoryMark, records []persistence.HistoryRecord) error {
	newest := make(map[string]int, len(records))
	for i := range records {
		id := records[i].Task.ID
		if old, ok := newest[id]; !ok || records[old].Rev <= records[i].Rev {
			newest[id] = i
		}
	}
	var c historyColumns
	for _, i := range newest {
		if err := c.add(&records[i]); err != nil {
			return fmt.Errorf("encode task %s: %w", records[i].Task.ID, err)
		}
	}
	_, err := rowsOf(ctx, h.db, "save the task history", pgx.RowTo[int64], saveHistory, c.ids, c.tenants, c.states, c.revs, c.finished, c.keys, c.hashes, c.tasks, m.Dataset, m.Batch, m.Seq, m.At)
	return err
}

type historyColumns struct {
	ids, tenants        []string
	states              []int16
	revs                []int64
	finished            []*time.Time
	keys, hashes, tasks [][]byte
}

func (c *historyColumns) add(r *persistence.HistoryRecord) error {
	task, err := wire.EncodeTask(&r.Task)
	if err != nil {
		return err
	}
	var at *time.Time
	if r.Task.State.Terminal() {
		at = &r.Task.FinishedAt
	}
	var key []byte
	if r.IdemKey != "" {
		key = []byte(r.IdemKey)
	}
	c.ids, c.tenants, c.states, c.revs = append(c.ids, r.Task.ID), append(c.tenants, r.Task.Tenant), append(c.states, int16(r.Task.State)), append(c.revs, r.Rev)
	c.finished, c.keys, c.hashes, c.tasks = append(c.finished, at), append(c.keys, key), append(c.hashes, r.IdemHash), append(c.tasks, task)
	return nil
}

// Mark returns how far the history has come.
func (h history) Mark(ctx context.Context) (persistence.HistoryMark, error) {
	list, err := rowsOf(ctx, h.db, "read the mark of the task history", pgx.RowToStructByPos[persistence.HistoryMark], `SELECT dataset, batch, seq, at FROM task_history_mark`)
	if err != nil || len(list) == 0 {
		return persistence.HistoryMark{}, err
	}
	list[0].At = list[0].At.UTC()
	return list[0], nil
}

// Since pages through what is open or newer than rev.
func (h history) Since(ctx context.Context, rev int64, after string, limit int) ([]persistence.HistoryRecord, error) {
	return rowsOf(ctx, h.db, "read the task history", historyRecord,
		`SELECT rev, idem_key, idem_hash, task FROM task_history WHERE id > $2 AND (rev > $1 OR state < $4) ORDER BY id LIMIT $3`, rev, after, limit, int16(messages.Succeeded))
}

func historyRecord(r pgx.CollectableRow) (persistence.HistoryRecord, error) {
	var rec persistence.HistoryRecord
	var key, task []byte
	if err := r.Scan(&rec.Rev, &key, &rec.IdemHash, &task); err != nil {
		return rec, err
	}
	rec.IdemKey = string(key)
	var err error
	rec.Task, err = wire.DecodeTask(task)
	return rec, err
}

// Sweep removes what ended before the given time.
func (h history) Sweep(ctx context.Context, before time.Time, limit int) (int, error) {
	if limit <= 0 {
		return 0, errors.New("sweep the task history: the limit must be positive")
	}
	list, err := rowsOf(ctx, h.db, "sweep the task history", pgx.RowTo[string],
		`DELETE FROM task_history WHERE id IN (SELECT id FROM task_history WHERE finished_at < $1 ORDER BY finished_at LIMIT $2) RETURNING id`, before, limit)
	return len(list), err
}
