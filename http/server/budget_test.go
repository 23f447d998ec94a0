package server

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// TestBudget: nobody holds more than the share of one key or the total, who
// comes first is let in first, and what is given back is whole.
func TestBudget(t *testing.T) {
	t.Parallel()
	w := newBudget(100, time.Hour)
	take := func(who string, n int64) *held {
		h, err := w.take(t.Context(), []string{who}, n)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	a, b := take("a", 80), take("b", 40) // a gets its share of 50
	waits := make(chan *held)
	go func() {
		h, err := w.take(t.Context(), []string{"a"}, 10)
		if err != nil {
			t.Error(err)
		}
		waits <- h
	}()
	for queued := 0; queued == 0; {
		w.mu.Lock()
		queued = len(w.queue)
		w.mu.Unlock()
	}
	c := take("c", 10) // passes a, who waits for its own share
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.take(gone, []string{"d"}, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("without room: %v", err)
	}
	a.keep(30)
	again := <-waits
	for _, h := range []*held{a, b, c, again} {
		h.release()
		h.release()
	}
	if w.sum != 0 || len(w.by) != 0 || len(w.queue) != 0 || w.refused != 0 {
		t.Errorf("held %d, %v, %d wait, %d refused", w.sum, w.by, len(w.queue), w.refused)
	}
	w.wait = 0
	full := take("a", 50)
	defer full.release()
	if _, err := w.take(t.Context(), []string{"a"}, 1); messages.CodeOf(err) != codeTooManyCalls || w.refused != 1 {
		t.Errorf("beyond the wait: %v, %d refused", err, w.refused)
	}
}
