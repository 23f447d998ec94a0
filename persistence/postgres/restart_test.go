package postgres

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/testserver"
)

// TestServerRestarts stops and kills the server under load: errors are those
// that a caller can act on, what was answered is there once, and the engine
// serves again soon after the server does.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	server := testserver.NewPostgres(t, testserver.PostgresOptions{})
	db := openTest(t, Config{URL: messages.Secret(server.URL()), Committers: 2})
	stops := map[string]func() error{
		"fast":      func() error { return server.Stop(testserver.Fast) },
		"immediate": func() error { return server.Stop(testserver.Immediate) },
		"kill -9":   server.Kill,
	}
	var mu sync.Mutex
	acked := map[string]bool{}
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() { submit(ctx, t, db, func(id string) { mu.Lock(); acked[id] = true; mu.Unlock() }) })
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(acked) }
	for range rounds(t) {
		for name, end := range stops {
			before := count()
			waitFor(t, "load before "+name, func() bool { return count() > before+20 })
			if err := end(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := server.Start(t.Context()); err != nil {
				t.Fatalf("start after %s: %v", name, err)
			}
			up, before := time.Now(), count()
			waitFor(t, "commits after "+name, func() bool { return count() > before })
			if took := time.Since(up); took > 5*time.Second {
				t.Errorf("%s: serving again after %v", name, took)
			}
		}
	}
	stop()
	load.Wait()
	seen := map[string]bool{}
	for cursor := ""; ; {
		var list []messages.Task
		var next string
		waitFor(t, "a connection that the last stop did not end", func() bool {
			var err error
			list, next, err = db.Tasks(t.Context(), persistence.TaskFilter{}, cursor, 0)
			return err == nil
		})
		for _, a := range list {
			if seen[a.ID] || !acked[a.ID] {
				t.Errorf("task %s: twice %v, answered %v", a.ID, seen[a.ID], acked[a.ID])
			}
			seen[a.ID] = true
		}
		if cursor = next; next == "" {
			break
		}
	}
	if len(seen) != len(acked) {
		t.Errorf("%d tasks are there, %d were answered", len(seen), len(acked))
	}
}

// submit commits task after task, each until it is known to be durable.
func submit(ctx context.Context, t *testing.T, db *DB, done func(id string)) {
	for ctx.Err() == nil {
		ops := []persistence.Op{newOp()}
		for {
			// Not ctx: what was begun is brought to its end.
			commitCtx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			out, err := db.Commit(commitCtx, ops)
			cancel()
			if err == nil && out[0].Status == persistence.OK {
				done(ops[0].Insert.Task.ID)
				break
			}
			if err == nil || (!errors.Is(err, persistence.ErrUnavailable) && !errors.Is(err, persistence.ErrUnknown) && !errors.Is(err, context.DeadlineExceeded)) {
				t.Errorf("commit: %v, %v", out, err)
				return
			}
			if ctx.Err() != nil && !errors.Is(err, persistence.ErrUnknown) {
				return
			}
			if err := pause(t.Context(), 5); err != nil {
				return
			}
		}
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never happened: %s", what)
		}
	}
}

// TestWatchEvents over a cut connection: it ends with an error, and whoever watches
// again is told to look.
func TestWatchEvents(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	p, proxied := newProxy(t, cfg)
	listener, writer := openTest(t, proxied), openTest(t, cfg)
	ctx, stop := context.WithCancel(t.Context())
	told, ended := make(chan int64, 100), make(chan error, 1)
	next := func() int64 {
		t.Helper()
		select {
		case n := <-told:
			return n
		case <-time.After(20 * time.Second):
			t.Fatal("nobody told of an event")
			return 0
		}
	}
	watch := func() {
		t.Helper()
		go func() { ended <- listener.WatchEvents(ctx, func(newest int64) { told <- newest }) }()
		if n := next(); n != math.MaxInt64 {
			t.Errorf("first told of %d, want a reason to look", n)
		}
	}
	watch()
	ops := []persistence.Op{newOp()}
	if _, err := writer.Commit(t.Context(), ops); err != nil {
		t.Fatal(err)
	}
	if n := next(); n != ops[0].Events[0].Seq {
		t.Errorf("told of %d, want %d", n, ops[0].Events[0].Seq)
	}
	p.cut()
	if err := <-ended; err == nil {
		t.Error("a cut connection ended without an error")
	}
	watch()
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
