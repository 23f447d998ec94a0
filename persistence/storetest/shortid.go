package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

var shortIDTests = map[string]func(*testing.T, Engine){
	"ids by their begin and end":       shortIDs,
	"a short id among many":            shortIDAmongMany,
	"a search ends early, and goes on": searchEndsEarly,
}

// named commits tasks with these ids, oldest first; the state of each is what do makes of it.
func named(t testing.TB, e Engine, list []string, do func(i int, a messages.Task) messages.Task) {
	t.Helper()
	const batch = 2000
	for from := 0; from < len(list); from += batch {
		var inserts, updates []persistence.Op
		for i, id := range list[from:min(from+batch, len(list))] {
			a := newTask()
			a.ID = id
			inserts = append(inserts, insert(a))
			if b := do(from+i, a); b.State != a.State {
				updates = append(updates, update(b, a.State, a.Claim))
			}
		}
		must(t, e, inserts...)
		must(t, e, updates...)
	}
}

func shortIDs(t *testing.T, e Engine) {
	list := []string{"0199-a-11ab", "0199-b-11ab", "0199-c-11aB", "01a0-a-22ab", "01a0-b%_ab", "0199", "0199~"[:4] + "-z"}
	states := []messages.TaskState{messages.Queued, messages.Succeeded, messages.DeadLetter, messages.Queued, messages.DeadLetter, messages.Queued, messages.Cancelled}
	named(t, e, list, func(i int, a messages.Task) messages.Task {
		if states[i] == messages.Queued {
			return a
		}
		return ended(a, states[i])
	})
	open, dead := []messages.TaskState{messages.Queued, messages.Held}, []messages.TaskState{messages.DeadLetter}
	for name, c := range map[string]struct {
		f    persistence.TaskFilter
		want []int // places in list, newest first
	}{
		"end":                  {persistence.TaskFilter{IDEnd: "11ab"}, []int{1, 0}},
		"end, case counts":     {persistence.TaskFilter{IDEnd: "aB"}, []int{2}},
		"end is the whole id":  {persistence.TaskFilter{IDEnd: "0199"}, []int{5}},
		"end with a wild card": {persistence.TaskFilter{IDEnd: "%_ab"}, []int{4}},
		"no such end":          {persistence.TaskFilter{IDEnd: "_ab_"}, nil},
		"end longer than ids":  {persistence.TaskFilter{IDEnd: "x0199-a-11ab"}, nil},
		"open end":             {persistence.TaskFilter{IDEnd: "ab", States: open}, []int{3, 0}},
		"dead end":             {persistence.TaskFilter{IDEnd: "ab", States: dead}, []int{4}},
		"begin":                {persistence.TaskFilter{IDBegin: "0199"}, []int{6, 5, 2, 1, 0}},
		"open begin":           {persistence.TaskFilter{IDBegin: "0199", States: open, Pool: "default"}, []int{5, 0}},
		"dead begin":           {persistence.TaskFilter{IDBegin: "01", States: dead}, []int{4, 2}},
		"begin and end":        {persistence.TaskFilter{IDBegin: "0199-", IDEnd: "ab"}, []int{1, 0}},
		"begin of nobody":      {persistence.TaskFilter{IDBegin: "0199", Tenant: "nobody"}, nil},
		"no such begin":        {persistence.TaskFilter{IDBegin: "02"}, nil},
	} {
		want := []string{}
		for _, i := range c.want {
			want = append(want, list[i])
		}
		for _, limit := range []int{100, 1} {
			if got := ids(pages(t, e, c.f, limit)); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s, pages of %d: %v, want %v", name, limit, got, want)
			}
		}
		if n, err := Count(t.Context(), e.Store(), c.f); err != nil || n != len(want) {
			t.Errorf("%s: count %d, %v, want %d", name, n, err, len(want))
		}
	}
}

// shortIDAmongMany has more tasks than any page of any engine: what is not
// unique must never look as if it were.
func shortIDAmongMany(t *testing.T, e Engine) {
	const n = 12_000
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%08x-0000-7000-8000-%011xe", i/1000, i*7919)
	}
	// The same end at both ends of the list: one open, one a dead letter, one done.
	list[1], list[2], list[3] = "00000000-a-db79", "00000000-b-db79", "00000000-c-db79"
	list[n-3], list[n-2], list[n-1] = "f-a-db79", "f-b-db79", "f-c-db79"
	named(t, e, list, func(i int, a messages.Task) messages.Task {
		switch {
		case i%3 == 1 && i < n/2 || i == n-3:
			return a // open
		case i%3 == 2 && i < n/2 || i == n-2:
			return ended(a, messages.DeadLetter)
		}
		return ended(a, messages.Succeeded)
	})
	find := func(what string, f persistence.TaskFilter, want ...string) {
		t.Helper()
		start := time.Now()
		got := ids(search(t, e, f))
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %d tasks, %.200v, want %.200v", what, len(got), got, want)
		}
		if d := time.Since(start); d > 10*persistence.SearchTime { // 20 to 200 ms on an idle machine
			t.Errorf("%s: took %s", what, d)
		}
	}
	open := []messages.TaskState{messages.Scheduled, messages.Queued, messages.Claimed, messages.Running, messages.Held}
	find("open", persistence.TaskFilter{IDEnd: "db79", States: open}, "f-a-db79", "00000000-a-db79")
	find("dead", persistence.TaskFilter{IDEnd: "db79", States: []messages.TaskState{messages.DeadLetter}}, "f-b-db79", "00000000-b-db79")
	find("any", persistence.TaskFilter{IDEnd: "db79"}, "f-c-db79", "f-b-db79", "f-a-db79", "00000000-c-db79", "00000000-b-db79", "00000000-a-db79")
	find("begin", persistence.TaskFilter{IDBegin: "00000000-"}, ids(search(t, e, persistence.TaskFilter{IDBegin: "00000000"}))...)
	if all := search(t, e, persistence.TaskFilter{IDBegin: "00000000"}); len(all) != 1000 {
		t.Errorf("%d tasks of one begin, want 1000", len(all))
	}
	if all := search(t, e, persistence.TaskFilter{IDBegin: "0"}); len(all) != n-3 {
		t.Errorf("%d tasks of a wide begin, want %d", len(all), n-3)
	}
}

// search goes on where a page ended early.
func search(t testing.TB, e Engine, f persistence.TaskFilter) (all []messages.Task) {
	t.Helper()
	for cursor := ""; ; {
		list, next, err := e.Store().Tasks(t.Context(), f, cursor, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, list...); next == "" {
			return all
		}
		cursor = next
	}
}

// searchEndsEarly gives a search no time at all: each page looks at something,
// says how far, and the next one goes on there.
func searchEndsEarly(t *testing.T, e Engine) {
	list := make([]string, 9000)
	for i := range list {
		list[i] = fmt.Sprintf("%06d-x", i)
	}
	list[0] = "000000-y"
	named(t, e, list, func(_ int, a messages.Task) messages.Task { return ended(a, messages.Succeeded) })
	f := persistence.TaskFilter{IDEnd: "-y", Within: 1}
	var found []messages.Task
	early := 0
	last := time.Now().Add(time.Hour)
	for cursor := ""; ; {
		page, next, err := e.Store().Tasks(t.Context(), f, cursor, 10)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, page...)
		if next == "" {
			break
		}
		to := persistence.SearchedTo(next)
		if len(page) > 0 || !to.Before(last) || to.IsZero() {
			t.Fatalf("%d tasks, searched to %s after %s", len(page), to, last)
		}
		early, last, cursor = early+1, to, next
	}
	if len(found) != 1 || found[0].ID != list[0] {
		t.Errorf("found %v", ids(found))
	}
	if early == 0 {
		t.Error("no page ended early")
	}
	// Open tasks are all looked at, however long it takes.
	f.States = []messages.TaskState{messages.Queued}
	_, next, err := e.Store().Tasks(t.Context(), f, "", 10)
	if err != nil || next != "" {
		t.Errorf("a search among open tasks ended early: %q, %v", next, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := e.Store().Tasks(gone, persistence.TaskFilter{IDEnd: "-y"}, "", 10); err == nil {
		t.Error("a search went on for nobody")
	}
}
