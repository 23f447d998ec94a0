package feed_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/feed"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/postgres"
	"github.com/dash-fleet/dash/persistence/redis"
	"github.com/dash-fleet/dash/persistence/testserver"
)

const (
	batches = 40 // of each node
	patient = 30 * time.Second
)

// node is a process that writes to a store which others write to as well.
type node struct {
	store persistence.Store
	feed  *feed.Feed
}

// join begins to follow the log; a node that looks at it every hour hears of the
// others' events from the store alone.
func join(t *testing.T, store persistence.Store, every time.Duration) *node {
	t.Helper()
	last, err := store.LastSeq(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := &node{store, feed.New(last, nil)}
	ctx, stop := context.WithCancel(t.Context())
	var tail sync.WaitGroup
	tail.Go(func() { n.feed.Follow(ctx, feed.Tail{Log: store, Every: every, Logger: slog.New(slog.DiscardHandler)}) })
	t.Cleanup(func() {
		stop()
		tail.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// write commits and publishes as the committer does.
func (n *node) write(ctx context.Context, task, state string) error {
	ops := []persistence.Op{{Events: []*messages.Event{
		{Tenant: "default", Type: "task.state", Subject: task, Data: &messages.Event_Task{Task: &messages.TaskChanged{State: "claimed"}}},
		{Tenant: "default", Type: "task.state", Subject: task, Data: &messages.Event_Task{Task: &messages.TaskChanged{State: state}}},
	}}}
	out, err := n.store.Commit(ctx, ops)
	if err != nil || out[0].Status != persistence.OK {
		return fmt.Errorf("%v, %w", out, err)
	}
	n.feed.Publish(ops[0].Events)
	return nil
}

// resume reads what is in the log since a position, and goes on with what comes.
func (n *node) resume(ctx context.Context, since, to int64) error {
	watch := n.feed.Subscribe(4 * batches)
	defer watch.Close()
	for since < watch.From() {
		page, _, err := n.store.Events(ctx, since, 7)
		if err != nil || len(page) == 0 {
			return fmt.Errorf("%d events since %d: %w", len(page), since, err)
		}
		for _, e := range page {
			if since++; e.Seq != since {
				return fmt.Errorf("seq %d in the log, want %d", e.Seq, since)
			}
		}
	}
	for since < to {
		select {
		case e := <-watch.C():
			if e.Seq <= since {
				continue // it was read
			}
			if since++; e.Seq != since {
				return fmt.Errorf("seq %d follows, want %d", e.Seq, since)
			}
		case <-time.After(patient):
			return fmt.Errorf("no event %d", since+1)
		}
	}
	return nil
}

// TestTwoWriters: two nodes write to one store at the same time. A watcher at each
// sees all events in one order, whoever resumes misses none, and whoever waits for
// another node's task is told of its end.
func TestTwoWriters(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) func() (persistence.Store, error){
		"postgres": func(t *testing.T) func() (persistence.Store, error) {
			url := messages.Secret(testserver.Postgres(t).Database(t))
			return func() (persistence.Store, error) {
				db, err := postgres.Open(t.Context(), postgres.Config{URL: url})
				if err != nil {
					return nil, err
				}
				return db.Store(), nil
			}
		},
		"redis": func(t *testing.T) func() (persistence.Store, error) {
			url := testserver.Redis(t).Database(t)
			return func() (persistence.Store, error) {
				db, err := redis.Open(t.Context(), redis.Config{URL: url})
				if err != nil {
					return nil, err
				}
				return db.Store(), nil
			}
		},
	} {
		for way, every := range map[string]time.Duration{"told": time.Hour, "polling too": 20 * time.Millisecond} {
			t.Run(name+" "+way, func(t *testing.T) {
				t.Parallel()
				twoWriters(t, open(t), every)
			})
		}
	}
}

func twoWriters(t *testing.T, open func() (persistence.Store, error), every time.Duration) {
	var nodes [2]*node
	for i := range nodes {
		store, err := open()
		if err != nil {
			t.Fatal(err)
		}
		nodes[i] = join(t, store, every)
	}
	const all = 2 * 2 * batches
	ended, stop := nodes[1].feed.AwaitEnd(fmt.Sprint("0-", batches-1)) // the other node's
	defer stop()
	var watchers, writers sync.WaitGroup
	for _, n := range nodes {
		watchers.Go(func() {
			if err := n.resume(t.Context(), 0, all); err != nil {
				t.Error(err)
			}
		})
	}
	for i, n := range nodes {
		writers.Go(func() {
			for b := range batches {
				if err := n.write(t.Context(), fmt.Sprintf("%d-%d", i, b), "succeeded"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	watchers.Wait()
	select {
	case <-ended:
	case <-time.After(patient):
		t.Error("nobody told of the end of another node's task")
	}
	for _, n := range nodes {
		for since := int64(0); since <= all; since += all / 4 {
			if err := n.resume(t.Context(), since, all); err != nil {
				t.Error(err)
			}
		}
	}
}
