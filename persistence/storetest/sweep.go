package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

var sweepTests = map[string]func(*testing.T, Engine){
	"removes the old and finished": sweepOld,
	"is bounded":                   sweepBounded,
}

func sweepOld(t *testing.T, e Engine) {
	old, open, young := newTask(), newTask(), newTask()
	long := time.Now().Add(-48 * time.Hour).UTC().Truncate(time.Microsecond)
	old.CreatedAt, open.CreatedAt, young.CreatedAt = long, long, long
	old.Spec.Labels = map[string]string{"a": "b"}
	must(t, e, keyed(old, "old", "b"), keyed(open, "open", "b"), keyed(young, "young", "b"), persistence.Op{Events: events(3, "x")})
	o := ended(old, messages.Succeeded)
	o.FinishedAt = long.Add(time.Hour)
	must(t, e, update(o, messages.Queued, 0), update(ended(young, messages.Succeeded), messages.Queued, 0))
	n, err := e.Store().Sweep(t.Context(), time.Now().Add(-24*time.Hour), 100)
	if err != nil || n != 1 {
		t.Fatalf("swept %d, %v, want 1", n, err)
	}
	if _, err := e.Store().Task(t.Context(), "", old.ID); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("old task: %v", err)
	}
	if n, err := Count(t.Context(), e.Store(), persistence.TaskFilter{LabelKey: "a"}); err != nil || n != 0 {
		t.Errorf("%d tasks by label, %v", n, err)
	}
	stored(t, e, open)
	must(t, e, keyed(newTask(), "old", "b")) // its key went with it
	one(t, e, keyed(newTask(), "open", "b"), persistence.Duplicate)
	one(t, e, keyed(newTask(), "young", "b"), persistence.Duplicate)
	if got := log(t, e, 0, 10); len(got) != 3 {
		t.Errorf("%d young events left", len(got))
	}
	// The log goes too, its numbers stay used.
	if _, err := e.Store().Sweep(t.Context(), time.Now().Add(time.Hour), 100); err != nil {
		t.Fatal(err)
	}
	list, oldest, err := e.Store().Events(t.Context(), 0, 10)
	if err != nil || (len(list) > 0 && list[0].Seq != oldest) || (len(list) == 0 && oldest != 0) {
		t.Errorf("%d events, oldest %d, %v", len(list), oldest, err)
	}
	e.Restart(t)
	op := persistence.Op{Events: events(1, "y")}
	must(t, e, op)
	if op.Events[0].Seq != 4 {
		t.Errorf("seq %d after the log was swept", op.Events[0].Seq)
	}
	stored(t, e, open)
}

func sweepBounded(t *testing.T, e Engine) {
	var ops []persistence.Op
	for range 450 {
		ops = append(ops, insert(ended(newTask(), messages.Succeeded)))
	}
	must(t, e, ops...)
	left := 450
	for _, limit := range []int{10, 300, 1000} {
		n, err := e.Store().Sweep(t.Context(), time.Now().Add(time.Hour), limit)
		if err != nil || n > limit {
			t.Fatalf("swept %d of at most %d, %v", n, limit, err)
		}
		left -= n
		if got, err := Count(t.Context(), e.Store(), persistence.TaskFilter{}); err != nil || got != left {
			t.Fatalf("%d left, %v, want %d", got, err, left)
		}
	}
	if left != 0 {
		t.Errorf("%d left at the end", left)
	}
}
