package storetest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// SharedLeases is what an Engine has whose leases outlive its process, because
// several processes may use one store.
type SharedLeases interface{ SharedLeases() }

// TakeOverStress has writers take one shard from each other all the time while
// they write under it. A taker notes the end of the log once its Take has
// returned; whatever an older epoch wrote behind that is late. It returns how
// many events were late and how many were written.
func TakeOverStress(t testing.TB, s persistence.Store, writers, rounds int) (late, written int) {
	t.Helper()
	var mu sync.Mutex
	ends := map[int64]int64{} // epoch -> end of the log at its beginning
	var wg sync.WaitGroup
	for n := range writers {
		wg.Go(func() {
			for range rounds {
				// A node without a lease owns nothing that others must respect.
				f, err := s.Take(t.Context(), messages.ShardScope, "1", fmt.Sprint("n-", n))
				if err != nil {
					t.Errorf("take: %v", err)
					return
				}
				end, err := s.LastSeq(t.Context())
				if err != nil {
					t.Errorf("last seq: %v", err)
					return
				}
				mu.Lock()
				if _, ok := ends[f.Epoch]; !ok {
					ends[f.Epoch] = end
				}
				mu.Unlock()
				for range 3 {
					op := persistence.Op{Fences: []messages.Fence{f}}
					op.Events = append(op.Events, event(strconv.FormatInt(f.Epoch, 10)))
					if _, err := s.Commit(t.Context(), []persistence.Op{op}); err != nil {
						t.Errorf("commit: %v", err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	return countLate(t, s, ends)
}

func countLate(t testing.TB, s persistence.Store, ends map[int64]int64) (late, written int) {
	t.Helper()
	newest := int64(0)
	for epoch := range ends {
		newest = max(newest, epoch)
	}
	// bound[e] is where the log ended when the first epoch after e had begun.
	bound := make([]int64, newest+1)
	least := int64(1<<63 - 1)
	for e := newest; e >= 0; e-- {
		bound[e] = least
		if end, ok := ends[e]; ok {
			least = min(least, end)
		}
	}
	for since := int64(0); ; {
		list, _, err := s.Events(t.Context(), since, 1000)
		if err != nil {
			t.Fatalf("events: %v", err)
		}
		if len(list) == 0 {
			return late, written
		}
		for _, ev := range list {
			since = ev.Seq
			epoch, err := strconv.ParseInt(ev.Subject, 10, 64)
			if err != nil || epoch > newest {
				t.Fatalf("event %v", ev)
			}
			written++
			if ev.Seq > bound[epoch] {
				late++
			}
		}
	}
}

func takeOverStress(t *testing.T, e Engine) {
	late, written := TakeOverStress(t, e.Store(), 16, 12)
	if late != 0 || written == 0 {
		t.Errorf("%d of %d events are late", late, written)
	}
}

// leaseRevived: a lease that is over costs nothing as long as nobody has taken
// what its node owns.
func leaseRevived(t *testing.T, e Engine) {
	renew(t, e, "n-2", time.Hour)
	renew(t, e, "n-1", 20*time.Millisecond)
	f := take(t, e, messages.ShardScope, "1", "n-1")
	eventually(t, "n-1 over", func() bool { return len(renew(t, e, "n-2", time.Hour)) == 1 })
	op := insert(newTask())
	op.Fences = []messages.Fence{f}
	must(t, e, op) // expiry only allows the take-over
	renew(t, e, "n-1", time.Hour)
	if _, err := e.Store().Take(t.Context(), messages.ShardScope, "1", "n-2"); !errors.Is(err, persistence.ErrOwned) {
		t.Errorf("taken from an owner whose lease is valid again: %v", err)
	}
	if again := take(t, e, messages.ShardScope, "1", "n-1"); again != f {
		t.Errorf("epoch %d, want %d", again.Epoch, f.Epoch)
	}
}

// leaseShared: leases and owners outlive the process that wrote them.
func leaseShared(t *testing.T, e Engine) {
	if _, ok := e.(SharedLeases); !ok {
		return // the engine serves one process: its leases end with it
	}
	renew(t, e, "n-1", time.Hour)
	f := take(t, e, messages.ShardScope, "1", "n-1")
	e.Restart(t)
	if list := renew(t, e, "n-2", time.Hour); len(list) != 2 {
		t.Errorf("nodes %v", list)
	}
	if _, err := e.Store().Take(t.Context(), messages.ShardScope, "1", "n-2"); !errors.Is(err, persistence.ErrOwned) {
		t.Errorf("taken from a valid owner: %v", err)
	}
	op := insert(newTask())
	op.Fences = []messages.Fence{f}
	must(t, e, op)
}
