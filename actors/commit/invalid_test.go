package commit_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/sqlite"
)

// picky takes no batch with an operation named "bad", and none of more than
// most operations.
type picky struct {
	most int
	let  chan struct{} // closed when the first batch may go on
	in   chan []string
}

func (p *picky) Commit(_ context.Context, batch []persistence.Op) ([]persistence.Outcome, error) {
	p.in <- subjects(batch)
	<-p.let
	if len(batch) > p.most || slices.Contains(subjects(batch), "bad") {
		return nil, &messages.Error{Code: messages.CodeInvalid, Message: "such a batch is not taken"}
	}
	return make([]persistence.Outcome, len(batch)), nil
}

// TestWhatCannotBeWrittenStopsNothing: the one operation that no store will ever
// take is found and answered with the error; all others are written, in order,
// also those behind which a client stands.
func TestWhatCannotBeWrittenStopsNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		most int
		tags []string
		bad  int
	}{
		"alone":           {10, []string{"bad"}, 1},
		"first":           {10, []string{"bad", "a", "b", "c"}, 1},
		"last":            {10, []string{"a", "b", "c", "bad"}, 1},
		"two of them":     {10, []string{"a", "bad", "b", "bad", "c", "d", "e"}, 2},
		"all of them":     {10, []string{"bad", "bad", "bad"}, 3},
		"too many":        {3, []string{"a", "b", "c", "d", "e", "f", "g", "h"}, 0},
		"too many, a bad": {2, []string{"a", "b", "c", "bad", "e", "f", "g", "h"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &picky{most: c.most, let: make(chan struct{}), in: make(chan []string, 100)}
			registry := prometheus.NewRegistry()
			f := start(t, func(cfg *commit.Config) { cfg.Store, cfg.Metrics = store, commit.NewMetrics(registry) })
			f.request("first", false)
			get(t, store.in, "the first batch")
			for i, tag := range c.tags {
				f.request(tag, i%2 == 1)
			}
			close(store.let)
			var got []string
			for range append(c.tags, "first") {
				d := get(t, f.done, "an answer")
				got = append(got, d.Tag.(string))
				if bad := d.Tag == "bad"; bad != (messages.CodeOf(d.Err) == messages.CodeInvalid) || bad != (d.Err != nil) {
					t.Errorf("the answer of %v is %v", d.Tag, d.Err)
				}
			}
			if diff := cmp.Diff(got, append([]string{"first"}, c.tags...)); diff != "" {
				t.Errorf("answers (-got +want):\n%s", diff)
			}
			if n := len(store.in); n > 2*len(c.tags)*2 {
				t.Errorf("%d batches for %d operations", n, len(c.tags))
			}
			if n, err := testutil.GatherAndCount(registry, "dash_commit_invalid_total"); err != nil || n != 1 {
				t.Fatalf("the metric: %d, %v", n, err)
			}
			families, _ := registry.Gather()
			for _, m := range families {
				if m.GetName() == "dash_commit_invalid_total" && int(m.GetMetric()[0].GetCounter().GetValue()) != c.bad {
					t.Errorf("%v counted, want %d", m.GetMetric()[0].GetCounter().GetValue(), c.bad)
				}
			}
			// Batches are whole again.
			for len(store.in) > 0 {
				<-store.in
			}
		})
	}
}

// TestARealStoreAfterWhatItCannotTake: results that arrived with an operation
// without meaning are in the store.
func TestARealStoreAfterWhatItCannotTake(t *testing.T) {
	t.Parallel()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	f := start(t, func(cfg *commit.Config) { cfg.Store = db })
	insert := func(id string) *persistence.TaskInsert {
		return &persistence.TaskInsert{Task: messages.Task{ID: id, Tenant: "t", Pool: "p", State: messages.Queued,
			Spec: &messages.TaskSpec{Message: id}, CreatedAt: messages.Now(), DueAt: messages.Now()}}
	}
	answers := make(chan commit.Done, 10)
	probe := f.system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		if ds, ok := c.Message().(commit.Dones); ok {
			for _, d := range ds {
				answers <- d
			}
		}
	}))
	var all commit.Requests
	for _, id := range []string{"a", "b", "bad", "c", "d"} {
		r := commit.Request{ReplyTo: probe, Tag: id, Op: persistence.Op{Insert: insert(id)}}
		if id == "bad" {
			r.Op.Cancel = &persistence.CancelRequest{}
		}
		all = append(all, r)
	}
	f.system.Root.Send(f.pid, all)
	for range all {
		d := get(t, answers, "an answer")
		_, err := db.Task(t.Context(), "t", d.Tag.(string))
		if bad := d.Tag == "bad"; bad != (d.Err != nil) || bad != (err != nil) {
			t.Errorf("%v was answered %v, and reads %v", d.Tag, d.Err, err)
		}
	}
}

// TestAnAwayStoreIsNoPickyOne: an outage between the halves of a batch keeps
// what may wait, and does not halve for ever.
func TestAnAwayStoreIsNoPickyOne(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.request("first", false)
	get(t, f.store.in, "the first batch")
	for _, tag := range []string{"a", "b", "c", "d"} {
		f.request(tag, false)
	}
	f.store.let <- nil
	get(t, f.store.in, "the batch")
	f.store.let <- &messages.Error{Code: messages.CodeInvalid, Message: "no"}
	if half := subjects(get(t, f.store.in, "its half")); len(half) != 2 {
		t.Fatalf("the half is %v", half)
	}
	f.store.let <- persistence.ErrUnavailable
	began := time.Now()
	if diff := cmp.Diff(subjects(get(t, f.store.in, "all again")), []string{"a", "b", "c", "d"}); diff != "" {
		t.Errorf("after the outage (-got +want):\n%s", diff)
	}
	if d := time.Since(began); d < commit.RetryAfter/2 {
		t.Errorf("the next try came after %v", d)
	}
	f.store.let <- nil
	for _, want := range []string{"first", "a", "b", "c", "d"} {
		if d := get(t, f.done, want); d.Tag != want || d.Err != nil {
			t.Fatalf("answer = %+v, want %s", d, want)
		}
	}
}

// TestUnlawfulStepIsRefused: a step that the table of tasks does not have never
// reaches the store, and what arrives beside it does.
func TestUnlawfulStepIsRefused(t *testing.T) {
	t.Parallel()
	for to, lawful := range map[messages.TaskState]bool{messages.Claimed: true, messages.Queued: true, messages.Succeeded: false, messages.Held: false} {
		store := &picky{most: 10, let: make(chan struct{}), in: make(chan []string, 100)}
		close(store.let)
		f := start(t, func(cfg *commit.Config) { cfg.Store = store })
		f.system.Root.Send(f.pid, commit.Request{ReplyTo: f.me, Tag: "step", Op: persistence.Op{
			Update: &persistence.TaskUpdate{Task: messages.Task{ID: "t", State: to}, From: messages.Queued},
			Events: []*messages.Event{{Subject: "step"}}}})
		f.request("beside", false)
		for range 2 {
			d := get(t, f.done, "an answer")
			if refused := messages.CodeOf(d.Err) == messages.CodeInvalid; refused != (d.Tag == "step" && !lawful) {
				t.Errorf("queued to %s: %v was answered %v", to, d.Tag, d.Err)
			}
		}
		var written []string
		for len(store.in) > 0 {
			written = append(written, <-store.in...)
		}
		if slices.Contains(written, "step") != lawful || !slices.Contains(written, "beside") {
			t.Errorf("queued to %s: the store was given %v", to, written)
		}
	}
}
