package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/dash-fleet/dash/persistence"
)

// Commit makes a batch durable. A ctx that ends while the batch waits for the
// writer ends the call; once the writer has begun, the batch runs to its end.
func (db *DB) Commit(ctx context.Context, ops []persistence.Op) ([]persistence.Outcome, error) {
	start := time.Now()
	if err := persistence.CheckOps(ops); err != nil {
		return nil, err
	}
	w := db.w
	if err := w.acquire(ctx); err != nil {
		return nil, err
	}
	defer w.release()
	if err := w.ensure(ctx); err != nil {
		return nil, err
	}
	b := newBatch(w, ops)
	err := w.transactHeld(ctx, b.write, b.counters)
	if errors.Is(err, errTaken) {
		b = newBatch(w, ops)
		b.careful = true
		err = w.transactHeld(ctx, b.write, b.counters)
	}
	if err != nil {
		return nil, err
	}
	b.committed()
	db.metrics.Committed(start, len(ops))
	return b.outcomes, nil
}
