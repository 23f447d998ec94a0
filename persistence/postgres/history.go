package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/jackc/pgx/v5"
)

// History returns the task history, which a store in Redis is rebuilt from.
func (db *DB) History() persistence.History { return history{db} }

type history struct{ db *DB }

// historyRow is what the column task holds. The key may be any bytes.
type historyRow struct {
	Task     messages.Task `json:"task"`
	IdemKey  []byte        `json:"idem_key,omitempty"`
	IdemHash []byte        `json:"idem_hash,omitempty"`
}

// saveHistory is one statement and so one transaction; the same task comes
// once in a call.
const saveHistory = `WITH saved AS (
 INSERT INTO task_history AS h (id, tenant, state, rev, finished_at, task)
 SELECT id, tenant, state, rev, finished_at, task::json
 FROM unnest($1::text[], $2::text[], $3::smallint[], $4::bigint[], $5::timestamptz[], $6::text[]) AS n (id, tenant, state, rev, finished_at, task)
 ORDER BY id
 ON CONFLICT (id) DO UPDATE SET state = excluded.state, rev = excluded.rev, finished_at = excluded.finished_at, task = excluded.task
 WHERE h.rev <= excluded.rev
)
INSERT INTO task_history_mark AS m (dataset, batch, seq, at) VALUES ($7, $8, $9, $10)
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
	var ids, tenants, tasks []string
	var states []int16
	var revs []int64
	var finished []*time.Time
	for _, i := range newest {
		r := &records[i]
		doc, err := json.Marshal(historyRow{r.Task, []byte(r.IdemKey), r.IdemHash})
		if err != nil {
			return fmt.Errorf("encode task %s: %w", r.Task.ID, err)
		}
		var at *time.Time
		if r.Task.State.Terminal() {
			at = &r.Task.FinishedAt
		}
		ids, tenants, tasks = append(ids, r.Task.ID), append(tenants, r.Task.Tenant), append(tasks, string(doc))
		states, revs, finished = append(states, int16(r.Task.State)), append(revs, r.Rev), append(finished, at)
	}
	_, err := rowsOf(ctx, h.db, "save the task history", pgx.RowTo[int64], saveHistory, ids, tenants, states, revs, finished, tasks, m.Dataset, m.Batch, m.Seq, m.At)
	return err
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
		`SELECT rev, task FROM task_history WHERE id > $2 AND (rev > $1 OR state < $4) ORDER BY id LIMIT $3`, rev, after, limit, int16(messages.Succeeded))
}

func historyRecord(r pgx.CollectableRow) (persistence.HistoryRecord, error) {
	var rec persistence.HistoryRecord
	var doc []byte
	if err := r.Scan(&rec.Rev, &doc); err != nil {
		return rec, err
	}
	var row historyRow
	if err := json.Unmarshal(doc, &row); err != nil {
		return rec, fmt.Errorf("decode a task of the history: %w", err)
	}
	rec.Task, rec.IdemKey, rec.IdemHash = row.Task, string(row.IdemKey), row.IdemHash
	return rec, nil
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
