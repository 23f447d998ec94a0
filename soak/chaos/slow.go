package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/soak/harness"
)

const (
	// bootCalm is how long a node does not look at the event loop of a gateway
	// that has just become ready, and some time to spare.
	bootCalm = 32 * time.Second
	// slowSeen is what three readings in a row of the event loop take.
	slowSeen = 30 * time.Second
)

// slowGateway makes one gateway fail its provider calls and another one slow,
// and looks at the windows of all three.
func slowGateway(ctx context.Context, e *Env) (err error) {
	const slots = 8
	// A gateway hides provider trouble for 65 s behind its own retries; scaled
	// to less than a second here.
	b, err := e.bench(ctx, harness.Config{Gateways: 3, Slots: slots, RunTime: 50 * time.Millisecond, TimeScale: 0.01})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	for i := range 3 {
		if err := b.AwaitGateway(ctx, patience, harness.Name(i), func(g *api.Gateway) bool { return g.Window == slots }); err != nil {
			return fmt.Errorf("window of %s is not open: %w", harness.Name(i), err)
		}
	}
	// A gateway that has just become ready may be slow without consequence.
	if err := harness.Pause(ctx, bootCalm); err != nil {
		return err
	}
	load := b.StartLoad(harness.LoadConfig{Name: "s", Rate: 30, Attempts: 20, Seed: e.Seed})
	at := time.Now()
	if err := errors.Join(
		b.Sim.Fault(ctx, 0, map[string]any{"provider_fail_rate": 1, "provider_fail": "500"}),
		b.Sim.Fault(ctx, 1, map[string]any{"event_loop_delay_ms": 2000}),
	); err != nil {
		return err
	}
	for i := range 2 {
		if err := b.AwaitGateway(ctx, slowSeen, harness.Name(i), func(g *api.Gateway) bool { return g.Window <= slots/2 }); err != nil {
			return fmt.Errorf("window of %s was not halved: %w", harness.Name(i), err)
		}
		e.Logf("window of %s halved after %s", harness.Name(i), time.Since(at).Round(10*time.Millisecond))
	}
	healthy, err := b.Client.GetGateway(ctx, harness.Name(2))
	if err != nil {
		return err
	}
	if healthy.Window != slots {
		return fmt.Errorf("the window of the healthy gateway is %d, want %d", healthy.Window, slots)
	}
	if err := errors.Join(
		b.Sim.Fault(ctx, 0, map[string]any{"provider_fail_rate": 0}),
		b.Sim.Fault(ctx, 1, map[string]any{"event_loop_delay_ms": 0}),
	); err != nil {
		return err
	}
	load.Stop(patience)
	return e.conclude(ctx, b)
}

// stopBound is what a stop may take: 6 s for requests under way and some more
// for what is below them, before a container manager's patience of 10 s ends;
// the rest is for a busy machine.
const stopBound = 15 * time.Second

// slowLog starts the node with stdout and stderr full and nobody reading them,
// gives it much to log while it works, and stops it.
func slowLog(ctx context.Context, e *Env) error {
	return e.underLoad(ctx, harness.Config{Args: []string{"--log-level", "debug"}}, 60, func(ctx context.Context, b *harness.Bench, round int) error {
		defer b.History.Fault("dash-kill", "")()
		if round == 0 { // the log was read until now
			b.Dash.StalledLog = true
			if err := errors.Join(b.Dash.Stop(), b.Dash.Start(ctx)); err != nil {
				return err
			}
		}
		took, err := accepts(ctx, b, patience)
		if err != nil {
			return fmt.Errorf("beside a log that nobody reads: %w", err)
		}
		over := b.History.Fault("gateway-kill", harness.Name(round%3))
		err = b.Sim.Fault(ctx, round%3, map[string]any{"crash": true, "down_seconds": 1})
		over()
		if err != nil {
			return err
		}
		t, err := submitSoon(ctx, b, fmt.Sprintf("beside a stalled log %d", round))
		if err != nil {
			return err
		}
		if _, err := b.Watcher.AwaitState(ctx, patience, t.Id, api.TaskStateSucceeded); err != nil {
			return fmt.Errorf("beside a log that nobody reads: %w", err)
		}
		at := time.Now()
		if err := b.Dash.Stop(); err != nil {
			return err
		}
		stopped := time.Since(at)
		if stopped > stopBound {
			return fmt.Errorf("the stop took %s, want at most %s", stopped, stopBound)
		}
		e.Logf("round %d: accepted again after %s, stopped within %s", round+1, took.Round(time.Millisecond), stopped.Round(time.Millisecond))
		return b.Dash.Start(ctx)
	})
}

// submitSoon submits a task. A node that has just started may be full of the
// requests that waited for it, and says so.
func submitSoon(ctx context.Context, b *harness.Bench, message string) (*api.Task, error) {
	for deadline := time.Now().Add(patience); ; {
		t, err := b.Client.SubmitTask(ctx, api.SubmitTask{Priority: "critical", Input: api.SubmitInput{Message: message}})
		var refused *api.Error
		if err == nil || !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable || time.Now().After(deadline) {
			return t, err
		}
		if err := harness.Pause(ctx, time.Second); err != nil {
			return nil, err
		}
	}
}
