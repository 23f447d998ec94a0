package redis

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/testserver"
)

// TestTakeOverStress has 16 writers, each with connections of its own, take a
// shard from each other while they write. With the fence no row is late; with
// the fence removed the same test finds late rows.
func TestTakeOverStress(t *testing.T) {
	t.Parallel()
	t.Run("fenced", func(t *testing.T) {
		t.Parallel()
		for range rounds(t) {
			if late, written := takeOverStress(t, true); late != 0 || written == 0 {
				t.Fatalf("%d late rows, %d in time", late, written)
			}
		}
	})
	t.Run("without the fence", func(t *testing.T) {
		t.Parallel()
		if late, written := takeOverStress(t, false); late == 0 {
			t.Fatalf("the test cannot fail: no late row among %d", written)
		}
	})
}

func takeOverStress(t *testing.T, fenced bool) (late, written int64) {
	const writers, turns = 16, 12
	address := testserver.Redis(t).Database(t)
	var epoch, lateRows, rows atomic.Int64 // epoch: the greatest whose Take has returned
	var wg sync.WaitGroup
	for n := range writers {
		db := openTest(t, Config{URL: address})
		defer closeDB(t, db)
		wg.Go(func() {
			for range turns {
				// Without a lease everybody may take it at once.
				f, err := db.Take(t.Context(), messages.ShardScope, "1", fmt.Sprint("n-", n))
				if err != nil {
					t.Errorf("take: %v", err)
					return
				}
				raise(&epoch, f.Epoch)
				for range 3 {
					newest := epoch.Load()
					task := messages.Task{ID: messages.NewID(), Tenant: "default", Pool: "default", State: messages.Queued, CreatedAt: messages.Now()}
					op := persistence.Op{Insert: &persistence.TaskInsert{Task: task}}
					if fenced {
						op.Fences = []messages.Fence{f}
					}
					out, err := db.Commit(t.Context(), []persistence.Op{op})
					switch {
					case err != nil:
						t.Errorf("commit: %v", err)
						return
					case out[0].Status == persistence.OK && f.Epoch < newest:
						lateRows.Add(1)
					case out[0].Status == persistence.OK:
						rows.Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	return lateRows.Load(), rows.Load()
}
