package postgres

import (
	"context"
	"fmt"
	"time"
)

// sweepChunk is how many rows one transaction of a sweep removes.
const sweepChunk = 500

// Sweep removes what is older than before. Tasks are found along no, which is
// the order of creation up to the drift; rows that are still open are passed.
// A task's idempotency key goes with its row. Rows of writers that have not
// written for a week go too: no batch of theirs can still be under way.
func (db *DB) Sweep(ctx context.Context, before time.Time, limit int) (removed int, err error) {
	limit = page(limit)
	tasks, err := db.sweep(ctx, limit, `WITH gone AS (DELETE FROM tasks WHERE no = ANY (ARRAY (SELECT no FROM tasks
 WHERE no < $1 + (SELECT drift FROM counters) AND NOT open AND finished_at < $1 ORDER BY no LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING no),
 labels AS (DELETE FROM task_labels WHERE no = ANY (ARRAY (SELECT no FROM gone)))
 SELECT count(*) FROM gone`, before.UnixMicro())
	if err != nil {
		return tasks, fmt.Errorf("sweep tasks: %w", err)
	}
	log, err := db.sweep(ctx, limit, `WITH gone AS (DELETE FROM events WHERE first_seq = ANY (ARRAY (SELECT first_seq FROM events
 WHERE first_seq < coalesce((SELECT first_seq FROM events WHERE time >= $1 ORDER BY first_seq LIMIT 1), 9223372036854775807) ORDER BY first_seq LIMIT $2)) RETURNING 1)
 SELECT count(*) FROM gone`, before.UnixMicro())
	if err != nil {
		return tasks + log, fmt.Errorf("sweep events: %w", err)
	}
	if _, err := db.pool.Exec(ctx, `DELETE FROM writers WHERE at < now() - interval '7 days'`); err != nil {
		return tasks + log, readError(ctx, "sweep writers", err)
	}
	return tasks + log, nil
}

func (db *DB) sweep(ctx context.Context, limit int, query string, before int64) (removed int, err error) {
	for removed < limit {
		chunk := min(sweepChunk, limit-removed)
		n := 0
		err := db.rows(ctx, func(v [][]byte) error { n = int(number(v[0])); return nil }, query, before, chunk)
		if err != nil {
			return removed, err
		}
		removed += n
		if n < chunk {
			break
		}
	}
	return removed, nil
}
