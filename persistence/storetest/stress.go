package storetest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

var stressTests = map[string]func(*testing.T, Engine){
	"no late row under changing epochs": fenceStress,
	"no late row at a take-over":        takeOverStress,
	"one winner of many claims":         claimRace,
	"one task of many submits":          submitRace,
	"one owner of many takers":          takeRace,
}

// fenceStress has owners take a shard from each other while they write under
// it. After a Take returned epoch n, no row under an older epoch may appear.
func fenceStress(t *testing.T, e Engine) {
	const nodes, rounds = 4, 30
	var epoch atomic.Int64 // greatest epoch whose Take has returned
	var late, written atomic.Int64
	var wg sync.WaitGroup
	for n := range nodes {
		wg.Go(func() {
			node := fmt.Sprint("n-", n)
			for range rounds {
				// A node without a lease owns nothing that others must respect.
				f, err := e.Store().Take(t.Context(), messages.ShardScope, "1", node)
				if err != nil {
					t.Errorf("take: %v", err)
					return
				}
				raise(&epoch, f.Epoch)
				for range 3 {
					newest := epoch.Load()
					op := insert(newTask())
					op.Fences = []messages.Fence{f}
					out, err := e.Store().Commit(t.Context(), []persistence.Op{op})
					switch {
					case err != nil:
						t.Errorf("commit: %v", err)
						return
					case out[0].Status == persistence.OK && f.Epoch < newest:
						late.Add(1)
					case out[0].Status == persistence.OK:
						written.Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	if late.Load() != 0 || written.Load() == 0 {
		t.Errorf("%d late rows, %d in time", late.Load(), written.Load())
	}
	if n, err := Count(t.Context(), e.Store(), persistence.TaskFilter{}); err != nil || int64(n) != written.Load() {
		t.Errorf("%d rows, %v, want %d", n, err, written.Load())
	}
}

func raise(v *atomic.Int64, n int64) {
	for old := v.Load(); old < n && !v.CompareAndSwap(old, n); old = v.Load() {
	}
}

func claimRace(t *testing.T, e Engine) {
	tasks := make([]messages.Task, 20)
	for i := range tasks {
		tasks[i] = newTask()
		must(t, e, insert(tasks[i]))
	}
	var won [20]atomic.Int64
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			ops := make([]persistence.Op, len(tasks))
			for i, a := range tasks {
				ops[i] = update(claimed(a, fmt.Sprint("gw-", n)), messages.Queued, 0)
			}
			out, err := e.Store().Commit(t.Context(), ops)
			if err != nil {
				t.Errorf("commit: %v", err)
				return
			}
			for i, o := range out {
				if o.Status == persistence.OK {
					won[i].Add(1)
				} else if o.Current.State != messages.Claimed {
					t.Errorf("conflict shows %v", o.Current.State)
				}
			}
		})
	}
	wg.Wait()
	for i := range won {
		if n := won[i].Load(); n != 1 {
			t.Errorf("task %d was claimed %d times", i, n)
		}
	}
}

func submitRace(t *testing.T, e Engine) {
	var ok, dup atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			out, err := e.Store().Commit(t.Context(), []persistence.Op{keyed(newTask(), "k", "b")})
			switch {
			case err != nil:
				t.Errorf("commit: %v", err)
			case out[0].Status == persistence.OK:
				ok.Add(1)
			case out[0].Status == persistence.Duplicate && out[0].SameBody && out[0].Current != nil:
				dup.Add(1)
			}
		})
	}
	wg.Wait()
	if ok.Load() != 1 || dup.Load() != 31 {
		t.Errorf("%d ok, %d duplicates", ok.Load(), dup.Load())
	}
}

func takeRace(t *testing.T, e Engine) {
	var ok atomic.Int64
	var wg sync.WaitGroup
	for n := range 16 {
		renew(t, e, fmt.Sprint("n-", n), time.Hour)
	}
	for n := range 16 {
		wg.Go(func() {
			if _, err := e.Store().Take(t.Context(), messages.ShardScope, "1", fmt.Sprint("n-", n)); err == nil {
				ok.Add(1)
			}
		})
	}
	wg.Wait()
	if ok.Load() != 1 {
		t.Errorf("%d owners", ok.Load())
	}
}
