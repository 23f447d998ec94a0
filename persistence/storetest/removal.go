package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// removal removes the session's row if it is of the given generation.
func removal(id string, generation int64) persistence.Op {
	s := session(id, generation)
	s.State = messages.SessionRemoved
	return write(s, generation)
}

func gone(t testing.TB, e Engine, id string) {
	t.Helper()
	if s, err := e.Store().Session(t.Context(), "default", id); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("a removed session is there: %+v, %v", s, err)
	}
	all, err := e.Store().Sessions(t.Context(), "default", "", "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.ID == id {
			t.Errorf("a removed session is in the list: %+v", s)
		}
	}
}

// sessionRemoval: only the generation that is meant goes, and its id is free.
func sessionRemoval(t *testing.T, e Engine) {
	other := session("s", 3)
	other.Tenant = "acme"
	must(t, e, write(session("s", 3), -1), write(other, -1), write(session("t", 0), -1))
	one(t, e, removal("s", 2), persistence.Conflict)
	one(t, e, removal("none", 0), persistence.Conflict)
	if got, err := e.Store().Session(t.Context(), "default", "s"); err != nil || got.Generation != 3 {
		t.Errorf("a removal of another generation left %+v, %v", got, err)
	}
	op := removal("s", 3)
	op.Events = events(1, "gone")
	must(t, e, op)
	gone(t, e, "s")
	if op.Events[0].Seq == 0 {
		t.Error("its event is not in the log")
	}
	one(t, e, removal("s", 3), persistence.Conflict)           // twice
	one(t, e, write(session("s", 4), 3), persistence.Conflict) // who does not know of it
	for _, id := range []struct{ tenant, id string }{{"acme", "s"}, {"default", "t"}} {
		if _, err := e.Store().Session(t.Context(), id.tenant, id.id); err != nil {
			t.Errorf("session %s of %s went too: %v", id.id, id.tenant, err)
		}
	}
	must(t, e, write(session("s", 9), -1))
	e.Restart(t)
	if got, err := e.Store().Session(t.Context(), "default", "s"); err != nil || got.Generation != 9 {
		t.Errorf("opened again: %+v, %v", got, err)
	}
	if all, err := e.Store().Sessions(t.Context(), "", "", "", 100); err != nil || len(all) != 3 {
		t.Errorf("%d sessions, %v, want 3", len(all), err)
	}
}

func sessionRemovalInBatch(t *testing.T, e Engine) {
	must(t, e, write(session("a", 0), -1), write(session("b", 0), -1), write(session("c", 0), -1))
	lost := removal("c", 0)
	lost.Fences = []messages.Fence{{Scope: messages.ShardScope, Key: "63", Owner: "nobody", Epoch: 1}}
	ops := []persistence.Op{
		removal("a", 0), write(session("a", 1), 0), write(session("a", 5), -1), // again in the same batch
		write(session("b", 1), 0), removal("b", 0), removal("b", 1), // the last of them goes
		write(session("d", 0), -1), removal("d", 0), // never seen from outside
		lost,
	}
	want := []persistence.Status{
		persistence.OK, persistence.Conflict, persistence.OK, persistence.OK, persistence.Conflict, persistence.OK,
		persistence.OK, persistence.OK, persistence.Fenced,
	}
	for i, o := range commit(t, e, ops...) {
		if o.Status != want[i] {
			t.Errorf("op %d: %v, want %v", i, o.Status, want[i])
		}
	}
	gone(t, e, "b")
	gone(t, e, "d")
	if got, err := e.Store().Session(t.Context(), "default", "a"); err != nil || got.Generation != 5 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := e.Store().Session(t.Context(), "default", "c"); err != nil {
		t.Errorf("removed under a fence that does not hold: %v", err)
	}
}

// removalRace removes sessions while others write them: of each, exactly one
// comes true.
func removalRace(t *testing.T, e Engine) {
	const n = 40
	var ops []persistence.Op
	for i := range n {
		ops = append(ops, write(session(fmt.Sprint("s-", i), 0), -1))
	}
	must(t, e, ops...)
	var removed, used [n]persistence.Status
	var wg sync.WaitGroup
	race := func(into *[n]persistence.Status, op func(id string) persistence.Op, order func(int) int) {
		wg.Go(func() {
			for i := range n {
				out, err := e.Store().Commit(t.Context(), []persistence.Op{op(fmt.Sprint("s-", order(i)))})
				if err != nil {
					t.Errorf("commit: %v", err)
					return
				}
				into[order(i)] = out[0].Status
			}
		})
	}
	race(&removed, func(id string) persistence.Op { return removal(id, 0) }, func(i int) int { return i })
	race(&used, func(id string) persistence.Op { return write(session(id, 1), 0) }, func(i int) int { return (i + n/2) % n })
	wg.Wait()
	for i := range n {
		if (removed[i] == persistence.OK) == (used[i] == persistence.OK) {
			t.Errorf("session %d: removed %v, used %v", i, removed[i], used[i])
		}
		_, err := e.Store().Session(t.Context(), "default", fmt.Sprint("s-", i))
		if there := err == nil; there != (used[i] == persistence.OK) {
			t.Errorf("session %d: used %v, and its row: %v", i, used[i], err)
		}
	}
}
