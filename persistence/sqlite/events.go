package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence/internal/rows"
)

// errEnough ends the reading of the log.
var errEnough = errors.New("enough")

// Events reads the log from the row that holds since+1 on. The oldest entry is
// read in the same statement, so a sweep in between cannot hide a gap.
func (db *DB) Events(ctx context.Context, since int64, limit int) (events []*messages.Event, oldest int64, err error) {
	limit = page(limit)
	err = db.readRows(ctx, func(v []driver.Value) error {
		if oldest = integer(v[2]); v[0] == nil {
			return nil
		}
		events, err = rows.ReadEvents(events, integer(v[0]), blob(v[1]), since, limit)
		if err != nil {
			return err
		}
		if len(events) >= limit {
			return errEnough
		}
		return nil
	}, 3, `SELECT e.first_seq, e.entries, o.oldest FROM (SELECT coalesce(min(first_seq), 0) AS oldest FROM events) o
 LEFT JOIN events e ON e.first_seq >= (SELECT coalesce(max(first_seq), 0) FROM events WHERE first_seq <= ?) AND e.last_seq > ?
 ORDER BY e.first_seq`, since+1, since)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return events, oldest, err
}

// LastSeq is the Seq of the newest entry ever written.
func (db *DB) LastSeq(ctx context.Context) (seq int64, err error) {
	err = db.readRows(ctx, func(v []driver.Value) error { seq = integer(v[0]); return nil }, 1, `SELECT seq FROM counters`)
	return seq, err
}

// WatchEvents has nothing to say: nobody else writes to the store.
func (db *DB) WatchEvents(ctx context.Context, _ func(int64)) error {
	<-ctx.Done()
	return nil
}
