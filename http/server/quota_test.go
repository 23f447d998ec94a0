package server

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestQuota: a holder gets half at most, whoever waits gets what is given back,
// and nothing is left behind.
func TestQuota(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newQuota(4)
		var leaves []func()
		take := func(holder string, want bool) {
			t.Helper()
			leave, err := q.take(t.Context(), []string{holder}, 0)
			if (err == nil) != want {
				t.Errorf("%s with %d of 4 taken: %v", holder, q.taken(), err)
			}
			if err == nil {
				leaves = append(leaves, leave)
			}
		}
		take("a", true)
		take("a", true)
		take("a", false) // half
		take("b", true)
		take("b", true)
		take("c", false) // all
		began := time.Now()
		if _, err := q.take(t.Context(), []string{"c"}, time.Second); err == nil || time.Since(began) != time.Second {
			t.Errorf("%v after %v, want a refusal after 1 s", err, time.Since(began))
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := q.take(gone, []string{"c"}, time.Hour); err == nil {
			t.Error("a caller that is gone got a place")
		}
		var waiting sync.WaitGroup
		waiting.Go(func() {
			leave, err := q.take(t.Context(), []string{"a"}, time.Second)
			if err != nil {
				t.Errorf("a place was given back: %v", err)
				return
			}
			leave()
		})
		synctest.Wait()
		for _, leave := range leaves {
			leave()
		}
		waiting.Wait()
		if len(q.by) != 0 || q.taken() != 0 {
			t.Errorf("%d places and %d holders are left", q.taken(), len(q.by))
		}
	})
}

// TestGroupsHaveShares: neither two keys of a tenant nor a key and its address take all.
func TestGroupsHaveShares(t *testing.T) {
	t.Parallel()
	q := newQuota(8)
	var leaves []func()
	take := func(want int, who ...string) {
		t.Helper()
		got := 0
		for leave, err := q.take(t.Context(), who, 0); err == nil; leave, err = q.take(t.Context(), who, 0) {
			leaves = append(leaves, leave)
			got++
		}
		if got != want {
			t.Errorf("%v got %d of 8 places, want %d", who, got, want)
		}
	}
	take(4, "a", "tenant:t")
	take(2, "b", "tenant:t")
	take(2, "c", "tenant:u")
	for _, leave := range leaves {
		leave()
	}
	if len(q.by) != 0 || q.taken() != 0 {
		t.Errorf("%d places and %d holders are left", q.taken(), len(q.by))
	}
}
