package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/persistence/testserver"
	"github.com/dash-fleet/dash/soak/harness"
)

const (
	// longestRun of the scenario: all runs end while the store is away.
	longestRun = 3 * time.Second
	// recovers bounds the time from the store's return until every result is
	// durable and the node ready, with nobody submitting.
	recovers = 10 * time.Second
)

// away is an outage that has begun; back ends it.
type away struct {
	kind, how string
	back      func(context.Context) error
}

// storeAwayIdle takes the store away under runs; one submit is refused, then
// nobody asks for anything: the runs end, the store comes back, and their
// results have to become durable without any help.
func storeAwayIdle(ctx context.Context, e *Env) (err error) {
	b, err := e.bench(ctx, harness.Config{Gateways: 2, RunTime: 50 * time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	for round := range e.Rounds {
		if err := e.awayOnce(ctx, b, round); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
	}
	if !b.Dash.Alive() {
		return errors.New("the node did not survive")
	}
	return e.conclude(ctx, b)
}

func (e *Env) awayOnce(ctx context.Context, b *harness.Bench, round int) error {
	rng := e.rng()
	ids := make([]string, 4)
	for i := range ids {
		key := fmt.Sprintf("idle-%d-%d", round, i)
		takes := between(rng, longestRun/2, longestRun)
		t, err := b.Submit(ctx, harness.Order{Key: key, Class: "high", Message: fmt.Sprintf("[[delay=%d]]%s", takes.Milliseconds(), key)}, nil)
		if err != nil {
			return err
		}
		ids[i] = t.Id
	}
	for _, id := range ids {
		if _, err := b.Watcher.AwaitState(ctx, patience, id, api.TaskStateRunning); err != nil {
			return err
		}
	}
	out, err := e.takeAway(ctx, b, round)
	if err != nil {
		return err
	}
	over := b.History.Fault(out.kind, "")
	status := e.oneTry(ctx, b, fmt.Sprintf("refused-%d", round))
	err = errors.Join(harness.Pause(ctx, longestRun+time.Second), out.back(ctx))
	over()
	if err != nil {
		return err
	}
	if status == 202 {
		return errors.New("a submit was accepted while the store was away")
	}
	took, err := recovered(ctx, b, ids)
	e.Logf("round %d: %s, the submit got %d, all results durable and ready %s after the return", round+1, out.how, status, took.Round(time.Millisecond))
	return err
}

// oneTry submits once and does not come back.
func (e *Env) oneTry(ctx context.Context, b *harness.Bench, key string) (status int) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// What became of it is in the history, and here.
	_, _ = b.Submit(ctx, harness.Order{Key: key, Class: "low", Message: "task " + key}, func(t harness.Try) {
		status = t.Status
		cancel()
	})
	return status
}

// recovered waits until every task has succeeded and the node says that it is ready.
func recovered(ctx context.Context, b *harness.Bench, ids []string) (time.Duration, error) {
	at := time.Now()
	ctx, cancel := context.WithTimeout(ctx, recovers)
	defer cancel()
	for {
		problem := ""
		for _, id := range ids {
			t, err := b.Client.GetTask(ctx, id, 0)
			switch {
			case err != nil:
				problem = err.Error()
			case t.State != api.TaskStateSucceeded:
				problem = fmt.Sprintf("task %s is %s", id, t.State)
			}
		}
		if h, err := b.Client.GetReady(ctx); err != nil {
			problem = err.Error()
		} else if h.Status != api.HealthStatusOk {
			problem = "the node is not ready"
		}
		if problem == "" {
			return time.Since(at), nil
		}
		if err := harness.Pause(ctx, 100*time.Millisecond); err != nil {
			return time.Since(at), fmt.Errorf("%s after the store's return nothing moves by itself: %s", recovers, problem)
		}
	}
}

// takeAway makes the engine's store unreachable, each time in another way.
func (e *Env) takeAway(ctx context.Context, b *harness.Bench, round int) (away, error) {
	switch e.Engine {
	case harness.Postgres:
		server, proxy := b.Servers.Postgres, b.Servers.PostgresProxy
		switch round % 3 {
		case 0:
			return away{"postgres-restart", "kill -9", server.Start}, server.Kill()
		case 1:
			return away{"postgres-restart", "immediate", server.Start}, server.Stop(testserver.Immediate)
		default:
			proxy.BlackHole(true)
			return away{"postgres-hole", "hole", func(context.Context) error { proxy.BlackHole(false); return nil }}, nil
		}
	case harness.Redis:
		server := b.Servers.Redis
		switch round % 3 {
		case 0:
			return away{"redis-restart", "kill -9", server.Start}, server.Kill()
		case 1:
			return away{"redis-restart", "SIGTERM", server.Start}, server.Stop()
		default:
			return away{"redis-pause", "pause", func(context.Context) error { return server.Resume() }}, server.Pause()
		}
	}
	back, err := e.breakDisk(ctx, b.Dash.PID())
	return away{"disk-full", "fsync fails", func(context.Context) error { return back() }}, err
}
