package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/soak/harness"
)

// neighbours run beside the poison, one in each of the other slots.
const neighbours = 7

// poison has, in each round, a task that kills its gateway in every run, and
// seven innocent ones beside it: at a gateway that restarts by itself and at
// one that Dash starts again.
func poison(ctx context.Context, e *Env) (err error) {
	b, err := e.bench(ctx, harness.Config{Gateways: 1, Slots: neighbours + 1, RunTime: 50 * time.Millisecond, KeepState: true, TimeScale: 0.1,
		Args: []string{"--openclaw-auto-start", "--openclaw-command", e.Binary + " sim --managed"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	own, slots := "own", neighbours+1
	env := map[string]string{"DASH_SIM_STARTUP": "100ms", "DASH_SIM_TIME_SCALE": "0.1", "DASH_SIM_LOG": b.Truth(), "DASH_SIM_NAME": own}
	if err := makePool(ctx, b, own); err != nil {
		return err
	}
	if _, err := b.Client.CreateGateway(ctx, api.CreateGateway{Id: own, Pool: &own, MaxConcurrency: &slots, Managed: &api.CreateManaged{Env: &env}}); err != nil {
		return fmt.Errorf("add managed gateway: %w", err)
	}
	defer func() { err = errors.Join(err, b.Client.DeleteGateway(context.WithoutCancel(ctx), own, true)) }()
	if err := b.AwaitReady(ctx, 2); err != nil {
		return err
	}
	for round := range e.Rounds {
		over, overOwn := b.History.Fault("gateway-kill", harness.Name(0)), b.History.Fault("gateway-kill", own)
		g, both := errgroup.WithContext(ctx)
		g.Go(func() error {
			return e.poisoned(both, b, func(key, message string) (*api.Task, error) {
				return b.Submit(both, harness.Order{Key: fmt.Sprintf("%s-%d", key, round), Class: "high", Message: message}, nil)
			})
		})
		g.Go(func() error {
			return e.poisoned(both, b, func(_, message string) (*api.Task, error) {
				return b.Client.SubmitTask(both, api.SubmitTask{Priority: "high", Pool: &own, Input: api.SubmitInput{Message: message}})
			})
		})
		err := g.Wait()
		over()
		overOwn()
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		for _, id := range []string{harness.Name(0), own} {
			ready := func(g *api.Gateway) bool { return g.State == api.GatewayStateReady }
			if err := b.AwaitGateway(ctx, patience, id, ready); err != nil {
				return fmt.Errorf("round %d: %w", round, err)
			}
		}
	}
	return e.conclude(ctx, b)
}

// poisoned submits one poison and its neighbours and waits for their ends.
func (e *Env) poisoned(ctx context.Context, b *harness.Bench, submit func(key, message string) (*api.Task, error)) error {
	begun := time.Now()
	bad, err := submit("poison", "[[delay=700]][[fail=crash]]poison")
	if err != nil {
		return err
	}
	ids := make([]string, neighbours)
	for i := range ids {
		t, err := submit(fmt.Sprintf("innocent-%d", i), "[[delay=1200]]innocent")
		if err != nil {
			return err
		}
		ids[i] = t.Id
	}
	for _, id := range ids {
		t, err := b.Client.GetTask(ctx, id, 3*time.Minute)
		if err != nil {
			return err
		}
		if t.State != api.TaskStateSucceeded || t.Attempt != 1 {
			return fmt.Errorf("innocent task %s is %s after %d deaths and attempt %d (%v), want succeeded, 1", id, t.State, t.Deaths, t.Attempt, t.Error)
		}
	}
	if bad, err = b.Client.GetTask(ctx, bad.Id, 3*time.Minute); err != nil {
		return err
	}
	if bad.State != api.TaskStateDeadLetter || bad.Error == nil || bad.Error.Code != "gateway_crashed" || bad.Attempt != 1 {
		return fmt.Errorf("the poison is %s with %v after %d deaths and attempt %d, want dead_letter gateway_crashed", bad.State, bad.Error, bad.Deaths, bad.Attempt)
	}
	e.Logf("%d deaths, all over after %s: %s", bad.Deaths, time.Since(begun).Round(100*time.Millisecond), bad.Error.Message)
	return nil
}

// makePool makes a pool for a gateway of its own.
func makePool(ctx context.Context, b *harness.Bench, id string) error {
	if _, err := b.Client.PutPool(ctx, id, api.PutPool{}, api.WithCreateOnly()); err != nil {
		return fmt.Errorf("make pool %s: %w", id, err)
	}
	return nil
}
