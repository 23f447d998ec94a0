package postgres

import (
	"context"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence/internal/rows"
)

// Events reads the log from the row that holds since+1 on, as many rows as hold
// limit entries. The oldest entry is read in the same statement, so a sweep in
// between cannot hide a gap.
func (db *DB) Events(ctx context.Context, since int64, limit int) (events []*messages.Event, oldest int64, err error) {
	limit = page(limit)
	err = db.rows(ctx, func(v [][]byte) error {
		if oldest = number(v[2]); v[0] == nil || len(events) >= limit {
			return nil
		}
		events, err = rows.ReadEvents(events, number(v[0]), v[1], since, limit)
		return err
	}, `SELECT e.first_seq, e.entries, o.oldest FROM (SELECT coalesce(min(first_seq), 0) AS oldest FROM events) o
 LEFT JOIN events e ON e.first_seq >= (SELECT coalesce(max(first_seq), 0) FROM events WHERE first_seq <= $1 + 1) AND e.last_seq > $1 AND e.first_seq <= $1 + $2
 ORDER BY e.first_seq`, since, limit)
	return events, oldest, err
}

// LastSeq is the Seq of the newest entry ever written.
func (db *DB) LastSeq(ctx context.Context) (seq int64, err error) {
	err = db.rows(ctx, func(v [][]byte) error { seq = number(v[0]); return nil }, `SELECT seq FROM counters`)
	return seq, err
}
