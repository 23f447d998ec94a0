package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw/openclawtest"
	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/soak/harness"
)

func cancelRunning(ctx context.Context, e *Env) (err error) {
	b, err := e.bench(ctx, harness.Config{RunTime: 50 * time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	t, err := hold(ctx, b, "c", time.Minute)
	if err != nil {
		return err
	}
	at := time.Now()
	if _, err := b.Client.CancelTask(ctx, t.Id, api.CancelTask{}); err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	line, err := b.Sim.AwaitLine(ctx, 10*time.Second, "abort at the gateway", func(l openclawtest.Line) bool {
		return l.Event == openclawtest.LogAborted && strings.HasPrefix(l.RunID, t.Id+".")
	})
	if err != nil {
		return err
	}
	e.Logf("aborted %s after the cancel", line.Time.Sub(at).Round(time.Millisecond))
	if took := line.Time.Sub(at); took > time.Second {
		return fmt.Errorf("the gateway aborted the run %s after the cancel, want less than 1s", took)
	}
	got, err := b.Client.GetTask(ctx, t.Id, 10*time.Second)
	if err != nil {
		return err
	}
	if got.State != api.TaskStateCancelled || got.Cancel.Confirmed == nil || !*got.Cancel.Confirmed {
		return fmt.Errorf("the task is %s with confirmed %v, want cancelled and confirmed", got.State, got.Cancel.Confirmed)
	}
	return e.conclude(ctx, b)
}

// cancelDying kills the gateway just before, while or after the cancel.
func cancelDying(ctx context.Context, e *Env) (err error) {
	b, err := e.bench(ctx, harness.Config{Gateways: 1, RunTime: 50 * time.Millisecond, KeepState: true, TimeScale: 0.1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	rng := e.rng()
	for i := range e.Rounds {
		t, err := hold(ctx, b, fmt.Sprintf("d%d", i), 10*time.Second)
		if err != nil {
			return err
		}
		b.History.Fault("gateway-kill", harness.Name(0))()
		if err := errors.Join(
			b.Sim.Fault(ctx, 0, map[string]any{"crash": true, "down_seconds": between(rng, 0, time.Second).Seconds()}),
			harness.Pause(ctx, between(rng, 0, 300*time.Millisecond)),
		); err != nil {
			return err
		}
		if _, err := b.Client.CancelTask(ctx, t.Id, api.CancelTask{}); err != nil {
			return fmt.Errorf("cancel: %w", err)
		}
		if err := b.AwaitEnd(ctx, patience); err != nil {
			return err
		}
		if err := truthful(ctx, e, b, t.Id); err != nil {
			return err
		}
	}
	return e.conclude(ctx, b)
}

// truthful compares what a cancelled task claims with what its gateway did.
func truthful(ctx context.Context, e *Env, b *harness.Bench, id string) error {
	t, err := b.Client.GetTask(ctx, id, 0)
	if err != nil {
		return err
	}
	lines, err := b.Sim.Lines()
	if err != nil {
		return err
	}
	finished := false
	for _, l := range lines {
		finished = finished || l.Event == openclawtest.LogFinished && l.Message == t.Input.Message
	}
	confirmed := t.Cancel.Confirmed != nil && *t.Cancel.Confirmed
	e.Logf("task %s ended %s, confirmed %t, finished at the gateway %t", id, t.State, confirmed, finished)
	switch {
	case t.State == api.TaskStateSucceeded && !finished:
		return fmt.Errorf("task %s says succeeded and nothing finished", id)
	case t.State == api.TaskStateCancelled && confirmed && finished:
		return fmt.Errorf("task %s says that its stop is confirmed, but its run finished", id)
	case t.State != api.TaskStateSucceeded && t.State != api.TaskStateCancelled:
		return fmt.Errorf("task %s is %s after its cancel", id, t.State)
	}
	return nil
}
