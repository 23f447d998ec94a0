package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/persistence"
)

// sweepChunk is how many rows one transaction of a sweep removes, so that a
// commit waits for it a few milliseconds at most.
const sweepChunk = 200

// Sweep removes what is older than before. Tasks are found along no, which is
// the order of creation up to the drift; rows that are still open are passed.
// A task's idempotency key goes with its row.
func (db *DB) Sweep(ctx context.Context, before time.Time, limit int) (removed int, err error) {
	limit = page(limit)
	tasks, err := db.sweep(ctx, limit, `DELETE FROM tasks WHERE no IN (SELECT no FROM tasks NOT INDEXED
 WHERE no < ?1 + (SELECT drift FROM counters) AND open IS NULL AND finished_at < ?1 LIMIT ?2)`, before.UnixMicro())
	if err != nil {
		return tasks, fmt.Errorf("sweep tasks: %w", err)
	}
	log, err := db.sweep(ctx, limit, `DELETE FROM events WHERE first_seq IN (SELECT first_seq FROM events
 WHERE first_seq < coalesce((SELECT first_seq FROM events WHERE time >= ?1 ORDER BY first_seq LIMIT 1), 9223372036854775807) ORDER BY first_seq LIMIT ?2)`, before.UnixMicro())
	if err != nil {
		return tasks + log, fmt.Errorf("sweep events: %w", err)
	}
	return tasks + log, nil
}

func (db *DB) sweep(ctx context.Context, limit int, query string, before int64) (removed int, err error) {
	for removed < limit {
		chunk := min(sweepChunk, limit-removed)
		var n int64
		err := db.w.transact(ctx, func(c *conn) (err error) {
			n, err = c.exec(query, before, int64(chunk))
			return err
		})
		if err != nil {
			return removed, err
		}
		removed += int(n)
		if int(n) < chunk {
			break
		}
	}
	return removed, nil
}

// one reads a single integer on the writer.
func (c *conn) one(query string, args ...driver.Value) (n int64, err error) {
	err = c.query(query, func(v []driver.Value) error { n = integer(v[0]); return nil }, args...)
	return n, err
}

var _ persistence.Leases = (*DB)(nil)
