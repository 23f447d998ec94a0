package dispatch

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// refusing is a store that can never take a task's way back into the order.
type refusing struct {
	*memory
	asked atomic.Int64
}

func (r *refusing) Commit(ctx context.Context, ops []persistence.Op) ([]persistence.Outcome, error) {
	if slices.ContainsFunc(ops, func(op persistence.Op) bool { return op.Update != nil && op.Update.Task.State == messages.Queued }) {
		r.asked.Add(1)
		return nil, &messages.Error{Code: messages.CodeInvalid, Message: "it is too large for this store"}
	}
	return r.memory.Commit(ctx, ops)
}

// TestAStepThatIsRefusedForGood is made again, but not twice a second for ever.
func TestAStepThatIsRefusedForGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &refusing{memory: newMemory()}
		b := openBench(t, store.memory, nil, store)
		g := b.gateway("gw-1")
		task := b.submit(newTask(messages.Low, ""))
		g.demand(1)
		g.end(g.assign(), messages.RetryWait, func(t *messages.Task) { t.DueAt = time.Now().Add(time.Second) })
		time.Sleep(30 * time.Minute)
		// 0.5 s, doubled up to 5 min: 10 tries in 8.5 minutes, then 4 more.
		if n := store.asked.Load(); n < 10 || n > 20 {
			t.Errorf("the store was asked %d times in 30 minutes, want 14", n)
		}
		if row := b.row(task.ID); row.State != messages.RetryWait {
			t.Errorf("the task is %v", row.State)
		}
	})
}
