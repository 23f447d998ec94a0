package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

var readTests = map[string]func(*testing.T, Engine){
	"filters":                   filters,
	"paging is stable":          pagingStable,
	"open tasks":                openTasks,
	"open pools":                openPools,
	"a page ends in bytes":      pageBytes,
	"without long texts":        briefTasks,
	"a wrong cursor is refused": wrongCursor,
}

// zoo is one task of many kinds, with a plain predicate for each filter.
func zoo(t testing.TB, e Engine) []messages.Task {
	base := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var all []messages.Task
	for i := range 60 {
		a := newTask()
		a.CreatedAt = base.Add(time.Duration(i/2) * time.Hour)
		a.Class = messages.Classes[i%4]
		a.Tenant = [...]string{"default", "acme"}[i%2]
		a.Pool = [...]string{"default", "p2", "p3"}[i%3]
		if i%5 == 0 {
			a.Session = fmt.Sprint("s-", i%10)
		}
		if i%4 == 0 {
			a.Spec.Labels = map[string]string{"team": [...]string{"ops", "dev"}[i/4%2], "n": fmt.Sprint(i)}
		}
		must(t, e, insert(a))
		switch i % 6 {
		case 1, 2:
			b := claimed(a, fmt.Sprint("gw-", i%2))
			must(t, e, update(b, messages.Queued, 0))
			a = b
		case 3, 4, 5:
			b := ended(claimed(a, fmt.Sprint("gw-", i%2)), [...]messages.TaskState{messages.Succeeded, messages.DeadLetter, messages.Cancelled}[i%6-3])
			must(t, e, update(b, messages.Queued, 0))
			a = b
		}
		all = append(all, a)
	}
	slices.Reverse(all) // newest first
	return all
}

func filters(t *testing.T, e Engine) {
	all := zoo(t, e)
	mid := all[len(all)/2].CreatedAt
	for name, f := range map[string]persistence.TaskFilter{
		"all": {}, "tenant": {Tenant: "acme"}, "default tenant": {Tenant: "default"}, "pool": {Pool: "p2"}, "default pool": {Pool: "default"},
		"class": {Class: messages.Low}, "open state": {States: []messages.TaskState{messages.Claimed}},
		"open states": {States: []messages.TaskState{messages.Queued, messages.Claimed}},
		"failed":      {States: []messages.TaskState{messages.DeadLetter, messages.Cancelled}}, "succeeded": {States: []messages.TaskState{messages.Succeeded}},
		"mixed":   {States: []messages.TaskState{messages.Queued, messages.Succeeded, messages.DeadLetter}},
		"session": {Session: "s-5"}, "gateway": {Gateway: "gw-1"}, "code": {Code: string(messages.CodeProviderRejected)},
		"label": {LabelKey: "team"}, "label value": {LabelKey: "team", LabelVal: "ops"}, "no such label": {LabelKey: "team", LabelVal: "x"},
		"before": {Before: mid}, "after": {After: mid}, "between": {After: mid.Add(-5 * time.Hour), Before: mid.Add(5 * time.Hour)},
		"much":            {Tenant: "acme", Pool: "p2", States: []messages.TaskState{messages.Claimed, messages.DeadLetter}, Class: messages.High, Gateway: "gw-1"},
		"open in pool":    {Pool: "p2", States: []messages.TaskState{messages.Claimed}},
		"failed of code":  {Code: string(messages.CodeProviderRejected), States: []messages.TaskState{messages.DeadLetter}, Tenant: "default"},
		"label and state": {LabelKey: "team", States: []messages.TaskState{messages.Queued}, Session: "s-0"},
		"nothing":         {Tenant: "nobody"},
	} {
		var want []messages.Task
		for i := range all {
			if matches(&all[i], &f) {
				want = append(want, all[i])
			}
		}
		for _, limit := range []int{100, 4} {
			if got := pages(t, e, f, limit); fmt.Sprint(ids(got)) != fmt.Sprint(ids(want)) {
				t.Errorf("%s, pages of %d: %d tasks, want %d", name, limit, len(got), len(want))
			} else if limit == 100 {
				same(t, got, want)
			}
		}
		if n, err := Count(t.Context(), e.Store(), f); err != nil || n != len(want) {
			t.Errorf("%s: count %d, %v, want %d", name, n, err, len(want))
		}
	}
}

func matches(a *messages.Task, f *persistence.TaskFilter) bool {
	value, labelled := a.Spec.GetLabels()[f.LabelKey]
	return (f.Tenant == "" || f.Tenant == a.Tenant) && (f.Pool == "" || f.Pool == a.Pool) && (f.Class == 0 || f.Class == a.Class) &&
		(len(f.States) == 0 || slices.Contains(f.States, a.State)) && (f.Session == "" || f.Session == a.Session) &&
		(f.Gateway == "" || f.Gateway == a.Gateway) && (f.Code == "" || f.Code == a.Error.GetCode()) &&
		(f.LabelKey == "" || (labelled && (f.LabelVal == "" || f.LabelVal == value))) &&
		(f.Before.IsZero() || a.CreatedAt.Before(f.Before)) && (f.After.IsZero() || a.CreatedAt.After(f.After))
}

func pages(t testing.TB, e Engine, f persistence.TaskFilter, limit int) (all []messages.Task) {
	t.Helper()
	for cursor := ""; ; {
		list, next, err := e.Store().Tasks(t.Context(), f, cursor, limit)
		if err != nil {
			t.Fatalf("tasks: %v", err)
		}
		if cursor != "" && len(list) == 0 {
			t.Fatal("a full last page gave a cursor: nothing follows it")
		}
		if all = append(all, list...); next == "" {
			return all
		}
		if len(list) != limit {
			t.Fatalf("%d tasks on a page of %d that is not the last", len(list), limit)
		}
		cursor = next
	}
}

// pagingStable changes and adds rows between the pages: every row that was
// there at the start comes exactly once.
func pagingStable(t *testing.T, e Engine) {
	var tasks []messages.Task
	for range 30 {
		a := newTask()
		tasks = append(tasks, a)
		must(t, e, insert(a))
	}
	seen := map[string]int{}
	for cursor, i := "", 0; ; i++ {
		list, next, err := e.Store().Tasks(t.Context(), persistence.TaskFilter{}, cursor, 4)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			seen[a.ID]++
		}
		must(t, e, insert(newTask()), update(claimed(tasks[i], "gw"), messages.Queued, 0), update(claimed(tasks[29-i], "gw"), messages.Queued, 0))
		if cursor = next; next == "" {
			break
		}
	}
	for _, a := range tasks {
		if seen[a.ID] != 1 {
			t.Errorf("task came %d times", seen[a.ID])
		}
	}
}

func openTasks(t *testing.T, e Engine) {
	var want []string
	for _, a := range zoo(t, e) {
		if a.Pool == "p2" && !a.State.Terminal() {
			want = append(want, a.ID)
		}
	}
	slices.Sort(want)
	same(t, pagesOfOpen(t, e, "p2", 3), want)
	// Long ones end a page before the limit.
	want = nil
	for range 9 {
		a := bigTask("", 1<<20)
		a.Pool = "long"
		must(t, e, insert(a))
		want = append(want, a.ID)
	}
	slices.Sort(want)
	same(t, pagesOfOpen(t, e, "long", 1000), want)
}

// pagesOfOpen reads a pool's open tasks. Nothing is larger than a page.
func pagesOfOpen(t *testing.T, e Engine, pool string, limit int) (got []string) {
	t.Helper()
	for after, more := "", true; more; {
		var list []messages.Task
		var err error
		if list, more, err = e.Store().OpenTasks(t.Context(), pool, after, limit); err != nil {
			t.Fatal(err)
		}
		if n := bodies(list); len(list) > limit || n > persistence.PageBytes || more && len(list) == 0 {
			t.Fatalf("a page of %d tasks and %d bytes, more %v", len(list), n, more)
		}
		if got = append(got, ids(list)...); more {
			after = got[len(got)-1]
		}
	}
	return got
}

func openPools(t *testing.T, e Engine) {
	if got, err := e.Store().OpenPools(t.Context()); err != nil || len(got) != 0 {
		t.Fatalf("pools of an empty store: %v, %v", got, err)
	}
	var tasks []messages.Task
	for _, pool := range []string{"b", "a", "c", "b"} {
		a := newTask()
		a.Pool = pool
		tasks = append(tasks, a)
		must(t, e, insert(a))
	}
	must(t, e, update(ended(tasks[2], messages.Expired), messages.Queued, 0), update(ended(tasks[0], messages.Expired), messages.Queued, 0))
	got, err := e.Store().OpenPools(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	same(t, got, []string{"a", "b"})
}

func wrongCursor(t *testing.T, e Engine) {
	_, _, err := e.Store().Tasks(t.Context(), persistence.TaskFilter{}, "no cursor; DROP TABLE", 10)
	if messages.CodeOf(err) != messages.CodeInvalid {
		t.Errorf("wrong cursor: %v", err)
	}
}
