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
	for i := range ops {
		if err := checkOp(&ops[i]); err != nil {
			return nil, err
		}
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
	if err := w.transactHeld(ctx, b.write, func() (int64, int64) { return b.seq, b.drift }); err != nil {
		return nil, err
	}
	b.committed()
	db.metrics.commit.Observe(time.Since(start).Seconds())
	db.metrics.batch.Observe(float64(len(ops)))
	return b.outcomes, nil
}

// checkOp refuses what no engine can give a meaning to.
func checkOp(op *persistence.Op) error {
	n := 0
	for _, set := range [...]bool{op.Insert != nil, op.Update != nil, op.Cancel != nil} {
		if set {
			n++
		}
	}
	if n > 1 {
		return errors.New("an op holds at most one of Insert, Update and Cancel: put the others into ops of their own")
	}
	if op.Insert != nil && (op.Insert.Task.ID == "" || op.Insert.Task.Tenant == "") {
		return errors.New("a task to insert needs an id and a tenant")
	}
	return nil
}
