package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

var sessionTests = map[string]func(*testing.T, Engine){
	"generation is compared": sessionGeneration,
	"in one batch":           sessionInBatch,
	"with a task":            sessionWithTask,
	"pages by id":            sessionPages,
	"tenants are apart":      sessionTenants,
	"order over all tenants": sessionOrder,
	"transcript":             transcript,
	"long transcript":        longTranscript,
	"removal":                sessionRemoval,
	"removal in one batch":   sessionRemovalInBatch,
	"removal or use":         removalRace,
}

func session(id string, generation int64) messages.Session {
	return messages.Session{Tenant: "default", ID: id, Pool: "default", Generation: generation, State: messages.SessionIdle, CreatedAt: messages.Now(), UpdatedAt: messages.Now()}
}

func write(s messages.Session, from int64) persistence.Op {
	return persistence.Op{Session: &persistence.SessionWrite{Session: s, FromGeneration: from}}
}

func sessionGeneration(t *testing.T, e Engine) {
	one(t, e, write(session("s", 0), 0), persistence.Conflict) // no row yet
	must(t, e, write(session("s", 0), -1))
	one(t, e, write(session("s", 1), -1), persistence.Conflict) // there is one
	must(t, e, write(session("s", 1), 0))
	one(t, e, write(session("s", 2), 0), persistence.Conflict)
	same1 := session("s", 1)
	same1.Gateway = "gw"
	must(t, e, write(same1, 1))
	if got, err := e.Store().Session(t.Context(), "default", "s"); err != nil || got.Generation != 1 || got.Gateway != "gw" {
		t.Errorf("%+v, %v", got, err)
	}
	anyGen := persistence.Op{Session: &persistence.SessionWrite{Session: session("s", 7), FromGeneration: 99, AnyGeneration: true}}
	must(t, e, anyGen)
	if got, err := e.Store().Session(t.Context(), "default", "s"); err != nil || got.Generation != 7 || got.Gateway != "" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := e.Store().Session(t.Context(), "acme", "s"); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("session of another tenant: %v", err)
	}
}

func sessionInBatch(t *testing.T, e Engine) {
	out := commit(t, e, write(session("s", 0), -1), write(session("s", 1), 0), write(session("s", 9), 0), write(session("s", 2), 1))
	for i, want := range []persistence.Status{persistence.OK, persistence.OK, persistence.Conflict, persistence.OK} {
		if out[i].Status != want {
			t.Errorf("op %d: %v, want %v", i, out[i].Status, want)
		}
	}
	if got, err := e.Store().Session(t.Context(), "default", "s"); err != nil || got.Generation != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

func sessionWithTask(t *testing.T, e Engine) {
	a := newTask()
	a.Session = "s"
	must(t, e, insert(a))
	b := claimed(a, "gw")
	op := update(b, messages.Queued, 0)
	op.Session = &persistence.SessionWrite{Session: session("s", 0), FromGeneration: -1}
	must(t, e, op)
	// A task that lost its claim takes the session's write with it.
	late := update(ended(b, messages.Succeeded), messages.Claimed, 7)
	late.Session = &persistence.SessionWrite{Session: session("s", 5), FromGeneration: 0}
	one(t, e, late, persistence.Conflict)
	if got, err := e.Store().Session(t.Context(), "default", "s"); err != nil || got.Generation != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func sessionPages(t *testing.T, e Engine) {
	var want []string
	for i := range 25 {
		s := session(fmt.Sprintf("s-%02d", i), 0)
		if i%5 == 4 {
			s.Pool = "p2"
		} else {
			want = append(want, s.ID)
		}
		must(t, e, write(s, -1))
	}
	var got []string
	for after := ""; ; {
		page, err := e.Store().Sessions(t.Context(), "default", "default", after, 7)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, s := range page {
			got = append(got, s.ID)
		}
		after = persistence.SessionPlace(page[len(page)-1])
	}
	same(t, got, want)
	if all, err := e.Store().Sessions(t.Context(), "", "", "", 100); err != nil || len(all) != 25 {
		t.Errorf("%d sessions, %v", len(all), err)
	}
	if none, err := e.Store().Sessions(t.Context(), "acme", "", "", 100); err != nil || len(none) != 0 {
		t.Errorf("%d sessions of another tenant, %v", len(none), err)
	}
}

func sessionTenants(t *testing.T, e Engine) {
	a, b := session("s", 1), session("s", 2)
	b.Tenant = "acme"
	must(t, e, write(a, -1), write(b, -1))
	for _, want := range []messages.Session{a, b} {
		got, err := e.Store().Session(t.Context(), want.Tenant, "s")
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, want)
	}
}

// sessionOrder pages through ids of every shape, of several tenants, while
// others come and go: each that was there all the time comes once, in order.
func sessionOrder(t *testing.T, e Engine) {
	shapes := []string{"-", ".a", "0", "1", "10", "2", ":", "A", "AA", "Z", "_", "a", "a-", "a.", "a:", "aA", "a_", "aa", "b", "z", "zz"}
	var want []string
	for _, id := range shapes {
		for _, tenant := range []string{"acme", "default", "Z-1"} {
			s := session(id, 0)
			s.Tenant = tenant
			must(t, e, write(s, -1))
			want = append(want, persistence.SessionPlace(s))
		}
	}
	slices.SortFunc(want, func(a, b string) int {
		x, xt := persistence.SplitSessionPlace(a)
		y, yt := persistence.SplitSessionPlace(b)
		return cmp.Or(cmp.Compare(x, y), cmp.Compare(xt, yt))
	})
	for _, limit := range []int{1, 2, 7, len(want), 100} {
		var got []string
		coming := 0
		for after := ""; ; {
			page, err := e.Store().Sessions(t.Context(), "", "", after, limit)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) > limit {
				t.Fatalf("%d sessions on a page of %d", len(page), limit)
			}
			if len(page) == 0 {
				break
			}
			for _, s := range page {
				if !strings.HasPrefix(s.ID, "come") {
					got = append(got, persistence.SessionPlace(s))
				}
			}
			after = persistence.SessionPlace(page[len(page)-1])
			coming++
			must(t, e, write(session(fmt.Sprintf("come-%d-%d", limit, coming), 0), -1))
			if len(got) > len(want) {
				t.Fatalf("pages of %d do not end", limit)
			}
		}
		same(t, got, want)
	}
}

func transcript(t *testing.T, e Engine) {
	var want []messages.Task
	finish := func(a messages.Task, s messages.TaskState) messages.Task {
		b := ended(claimed(a, "gw"), s)
		op := update(b, messages.Queued, 0)
		op.Events = []*messages.Event{b.Event(messages.Queued, messages.Now(), "")}
		must(t, e, op)
		return b
	}
	var tasks []messages.Task
	for range 6 {
		a := newTask()
		a.Session = "s"
		tasks = append(tasks, a)
		must(t, e, insert(a))
	}
	other := newTask()
	other.Session, other.Tenant = "s", "acme"
	must(t, e, insert(other))
	finish(other, messages.Succeeded)
	for _, i := range []int{4, 0, 5, 2} { // not the order of submit
		want = append(want, finish(tasks[i], messages.Succeeded))
	}
	finish(tasks[1], messages.DeadLetter)
	got, older, err := e.Store().Transcript(t.Context(), "default", "s", "", 10)
	if err != nil {
		t.Fatal(err)
	}
	same(t, ids(got), ids(want))
	if older {
		t.Error("a transcript that was told in full has older turns")
	}
	got, older, err = e.Store().Transcript(t.Context(), "default", "s", "", 2) // the newest two
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, want[2:])
	if !older {
		t.Error("half a transcript has no older turns")
	}
	got, older, err = e.Store().Transcript(t.Context(), "default", "s", got[0].ID, 2) // and the two before
	if err != nil || older {
		t.Fatal(older, err)
	}
	same(t, got, want[:2])
	if none, _, err := e.Store().Transcript(t.Context(), "default", "", "", 10); err != nil || len(none) != 0 {
		t.Errorf("transcript without a session: %v, %v", ids(none), err)
	}
}
