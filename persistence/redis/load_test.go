package redis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// rounds is how often a fault is injected: twice, or as DASH_CHAOS_ROUNDS says.
func rounds(t *testing.T) int {
	t.Helper()
	s := os.Getenv("DASH_CHAOS_ROUNDS")
	if s == "" {
		return 2
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("DASH_CHAOS_ROUNDS: %v", err)
	}
	return n
}

// load takes tasks through insert, claim and end, a few per batch, and notes
// what was acknowledged.
type load struct {
	db   *DB
	stop chan struct{}
	done chan struct{}

	mu      sync.Mutex
	acked   map[string]messages.TaskState
	started map[string]bool // whatever was ever sent
	last    time.Time       // of the newest acknowledgement
	batches int
	longest time.Duration
	failed  map[string]int
}

func startLoad(t testing.TB, db *DB) *load {
	l := &load{db: db, stop: make(chan struct{}), done: make(chan struct{}), acked: map[string]messages.TaskState{}, started: map[string]bool{}, failed: map[string]int{}}
	go func() {
		defer close(l.done)
		for n := 0; ; n++ {
			select {
			case <-l.stop:
				return
			case <-time.After(time.Millisecond):
				if err := l.life(n); err != nil && !expected(err) {
					t.Errorf("commit: %v", err)
					return
				}
			}
		}
	}()
	return l
}

func expected(err error) bool {
	return errors.Is(err, persistence.ErrUnavailable) || errors.Is(err, persistence.ErrUnknown)
}

func (l *load) end() {
	close(l.stop)
	<-l.done
}

// life is one batch of tasks through their steps; every third batch stays open.
func (l *load) life(n int) error {
	tasks := make([]messages.Task, 1+n%7)
	for step := range 3 - n%3/2 {
		ops := make([]persistence.Op, len(tasks))
		for i := range tasks {
			t, from := &tasks[i], tasks[i].State
			op := &ops[i]
			switch step {
			case 0:
				*t = messages.Task{ID: messages.NewID(), Tenant: "default", Pool: "default", Class: messages.High, Seq: int64(n), State: messages.Queued, CreatedAt: messages.Now(),
					Session: [...]string{"", "s"}[i%2], Spec: &messages.TaskSpec{Message: strings.Repeat("x", 50*i), Labels: map[string]string{"a": "b"}}}
				if n%5 == 0 {
					t.Spec.OnUnknown = string(messages.Hold)
				}
				op.Insert = &persistence.TaskInsert{Task: *t, IdemKey: t.ID, IdemHash: []byte("h")}
				l.note(func() { l.started[t.ID] = true })
			case 1:
				t.State, t.Claim, t.Gateway = messages.Claimed, 1, "gw"
				op.Update = &persistence.TaskUpdate{Task: *t, From: from}
			case 2:
				t.State, t.FinishedAt, t.Result = messages.Succeeded, messages.Now(), &messages.TaskResult{Text: t.ID}
				op.Update = &persistence.TaskUpdate{Task: *t, From: from, FromClaim: 1}
			}
			op.Events = []*messages.Event{t.Event(from, time.Now(), "")}
		}
		if err := l.commit(ops, tasks); err != nil {
			return err
		}
	}
	return nil
}

func (l *load) commit(ops []persistence.Op, tasks []messages.Task) error {
	begun := time.Now()
	out, err := l.db.Commit(context.Background(), ops)
	l.note(func() { l.longest = max(l.longest, time.Since(begun)) })
	if err != nil {
		l.note(func() {
			switch {
			case errors.Is(err, ErrLostData):
				l.failed["lost"]++
			case errors.Is(err, persistence.ErrUnknown):
				l.failed["unknown"]++
			default:
				l.failed["unavailable"]++
			}
		})
		return err
	}
	for i, o := range out {
		if o.Status != persistence.OK {
			return fmt.Errorf("op %d of %d: %v, stored %+v", i, len(out), o.Status, o.Current)
		}
	}
	l.note(func() {
		l.batches++
		l.last = time.Now()
		for i := range tasks {
			l.acked[tasks[i].ID] = tasks[i].State
		}
	})
	return nil
}

func (l *load) note(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// until waits until the load has got so many more batches acknowledged.
func (l *load) until(t testing.TB, more int) {
	t.Helper()
	from := l.count()
	eventually(t, "batches are acknowledged", func() bool { return l.count() >= from+more })
}

func (l *load) count() (n int) {
	l.note(func() { n = l.batches })
	return n
}

// eventually polls for what only another process brings about.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(40 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never happened: %s", what)
		}
	}
}

// kept fails unless every acknowledged task is there, at least as far as
// acknowledged, or named by the report as one that starts again.
func (l *load) kept(t testing.TB, db *DB, again map[string]bool) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, state := range l.acked {
		got, err := db.Task(t.Context(), "default", id)
		switch {
		case err != nil:
			t.Fatalf("acknowledged task %s (%v) is lost in silence: %v", id, state, err)
		case got.State < state && !again[id]:
			t.Fatalf("task %s is %v, was acknowledged as %v and is not named", id, got.State, state)
		case state.Terminal() && !got.State.Terminal():
			t.Fatalf("task %s had ended and is %v again", id, got.State)
		case again[id] && !state.Terminal() && got.Claim < claimGap:
			t.Fatalf("task %s starts again with claim %d", id, got.Claim)
		}
	}
	l.keys(t, db)
	if len(l.acked) == 0 {
		t.Fatal("nothing was acknowledged")
	}
	t.Logf("%d tasks acknowledged in %d batches, longest commit %v, failed %v", len(l.acked), l.batches, l.longest, l.failed)
}

// keys fails unless a few of the acknowledged tasks still hold their idempotency key.
func (l *load) keys(t testing.TB, db *DB) {
	t.Helper()
	var ops []persistence.Op
	var want []string
	for id := range l.acked {
		if len(ops) == 200 {
			break
		}
		want = append(want, id)
		task := messages.Task{ID: messages.NewID(), Tenant: "default", Pool: "default", State: messages.Queued, CreatedAt: messages.Now()}
		ops = append(ops, persistence.Op{Insert: &persistence.TaskInsert{Task: task, IdemKey: id, IdemHash: []byte("h")}})
	}
	out, err := db.Commit(t.Context(), ops)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range out {
		if o.Status != persistence.Duplicate || o.Current == nil || o.Current.ID != want[i] || !o.SameBody {
			t.Fatalf("the idempotency key of task %s: %+v", want[i], o)
		}
	}
}

func named(r *Recovery) map[string]bool {
	m := map[string]bool{}
	for _, id := range append(r.Requeued, r.Held...) {
		m[id] = true
	}
	return m
}
