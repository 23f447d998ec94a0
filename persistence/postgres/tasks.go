package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/internal/rows"
	"google.golang.org/protobuf/proto"
)

// taskColumns are the columns decodeTask reads, in its order.
const taskColumns = `no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run`

const numTaskColumns = 16

// maxPage bounds one page of any list.
const maxPage = 10_000

// decodeTask takes the columns in binary form; it keeps none of the bytes.
func decodeTask(v [][]byte) (messages.Task, error) {
	t := messages.Task{
		ID: string(v[1]), Tenant: string(v[2]), Pool: string(v[3]), Class: messages.Class(number(v[4])), Session: string(v[5]), CreatedAt: fromMicros(number(v[6])),
		State: messages.TaskState(number(v[8])), Seq: number(v[9]), Claim: number(v[10]), Gateway: string(v[11]),
		Cancel: messages.Cancel{RequestedAt: fromMicros(number(v[12])), Reason: string(v[13])}, FinishedAt: fromMicros(number(v[14])),
	}
	if v[7] != nil {
		t.Spec = &messages.TaskSpec{}
		if err := proto.Unmarshal(v[7], t.Spec); err != nil {
			return t, fmt.Errorf("task %s: decode spec: %w", t.ID, err)
		}
	}
	if err := rows.DecodeRun(&t, bytes.Clone(v[15])); err != nil {
		return t, fmt.Errorf("task %s: %w", t.ID, err)
	}
	return t, nil
}

// Task returns one task.
func (db *DB) Task(ctx context.Context, tenant, id string) (messages.Task, error) {
	found, err := db.readTasks(ctx, `SELECT `+taskColumns+` FROM tasks WHERE id = $1`, id)
	if err != nil {
		return messages.Task{}, err
	}
	if len(found) == 0 || (tenant != "" && found[0].Tenant != tenant) {
		return messages.Task{}, fmt.Errorf("task %s: %w", id, persistence.ErrNotFound)
	}
	return found[0], nil
}

// CountTasks counts the matching tasks.
func (db *DB) CountTasks(ctx context.Context, f persistence.TaskFilter) (n int, err error) {
	q := filter(&f)
	err = db.rows(ctx, func(v [][]byte) error { n = int(number(v[0])); return nil }, `SELECT count(*)`+q.from(), q.args...)
	return n, err
}

// OpenTasks pages by id through the open tasks of a pool.
func (db *DB) OpenTasks(ctx context.Context, pool, after string, limit int) ([]messages.Task, error) {
	return db.readTasks(ctx, `SELECT `+taskColumns+` FROM tasks WHERE open AND pool = $1 AND id > $2 ORDER BY id LIMIT $3`, pool, after, page(limit))
}

// OpenPools lists the pools with an open task by one index seek for each.
func (db *DB) OpenPools(ctx context.Context) (list []string, err error) {
	err = db.rows(ctx, func(v [][]byte) error { list = append(list, string(v[0])); return nil }, `WITH RECURSIVE p (pool) AS (
 SELECT min(pool) FROM tasks WHERE open
 UNION ALL
 SELECT (SELECT min(t.pool) FROM tasks t WHERE t.open AND t.pool > p.pool) FROM p WHERE p.pool IS NOT NULL
) SELECT pool FROM p WHERE pool IS NOT NULL`)
	return list, err
}

// MaxSeq is the greatest queue sequence number that a pool ever used.
func (db *DB) MaxSeq(ctx context.Context, pool string) (seq int64, err error) {
	err = db.rows(ctx, func(v [][]byte) error { seq = number(v[0]); return nil }, `SELECT seq FROM pool_seqs WHERE pool = $1`, pool)
	return seq, err
}

// Transcript returns the succeeded tasks of a session in the order of their ends.
func (db *DB) Transcript(ctx context.Context, tenant, session string, limit int) ([]messages.Task, error) {
	if session == "" {
		return nil, nil
	}
	tasks, err := db.readTasks(ctx, `SELECT `+taskColumns+` FROM tasks
 WHERE session <> '' AND ended IS NOT NULL AND session = $1 AND ($2::text = '' OR tenant = $2) ORDER BY ended DESC LIMIT $3`, session, tenant, page(limit))
	slices.Reverse(tasks)
	return tasks, err
}

func (db *DB) readTasks(ctx context.Context, query string, args ...any) (tasks []messages.Task, err error) {
	err = db.rows(ctx, func(v [][]byte) error {
		t, err := decodeTask(v)
		tasks = append(tasks, t)
		return err
	}, query, args...)
	return tasks, err
}

// rows runs a query on a read connection and hands over the columns of each row
// in binary form; they are valid only during the call.
func (db *DB) rows(ctx context.Context, read func(v [][]byte) error, query string, args ...any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	rows, err := db.pool.Query(ctx, query, args...)
	if err != nil {
		return readError(ctx, "read", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := read(rows.RawValues()); err != nil {
			return err
		}
	}
	return readError(ctx, "read", rows.Err())
}

func page(limit int) int {
	if limit <= 0 || limit > maxPage {
		return maxPage
	}
	return limit
}

// micros is how times are stored: microseconds since 1970, 0 for "not set".
func micros(t time.Time) int64 { return rows.Micros(t) }

func fromMicros(n int64) time.Time { return rows.FromMicros(n) }
