package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/soak/harness"
)

// spanRestart has one run at an outside gateway and one at a managed one, a
// stand-in for the daemon, and restarts Dash in the middle of both.
func spanRestart(ctx context.Context, e *Env) (err error) {
	b, err := e.bench(ctx, harness.Config{Gateways: 1, RunTime: 50 * time.Millisecond,
		Args: []string{"--openclaw-auto-start", "--openclaw-command", e.Binary + " sim --managed"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	own := "own"
	if err := makePool(ctx, b, own); err != nil {
		return err
	}
	if _, err := b.Client.CreateGateway(ctx, api.CreateGateway{Id: own, Pool: &own, Managed: &api.CreateManaged{}}); err != nil {
		return fmt.Errorf("add managed gateway: %w", err)
	}
	// Its process outlives Dash by design; removing the gateway stops it.
	defer func() { err = errors.Join(err, b.Client.DeleteGateway(context.WithoutCancel(ctx), own, true)) }()
	if err := b.AwaitReady(ctx, 2); err != nil {
		return err
	}
	pid, err := pidOf(ctx, b, own)
	if err != nil {
		return err
	}
	outside, err := hold(ctx, b, "outside", 20*time.Second)
	if err != nil {
		return err
	}
	inside, err := b.Client.SubmitTask(ctx, api.SubmitTask{Priority: "high", Pool: &own, Input: api.SubmitInput{Message: "[[delay=20000]]inside"}})
	if err != nil {
		return err
	}
	if _, err := b.Watcher.AwaitState(ctx, patience, inside.Id, api.TaskStateRunning); err != nil {
		return err
	}
	over := b.History.Fault("dash-kill", "")
	b.Dash.Kill()
	if err := b.Dash.Start(ctx); err != nil {
		return err
	}
	over()
	for _, id := range []string{outside.Id, inside.Id} {
		t, err := b.Client.GetTask(ctx, id, time.Minute)
		if err != nil {
			return err
		}
		if t.State != api.TaskStateSucceeded || t.Attempt != 1 || t.Claim != 1 {
			return fmt.Errorf("task %s is %s with attempt %d and claim %d, want succeeded, 1, 1", id, t.State, t.Attempt, t.Claim)
		}
	}
	after, err := pidOf(ctx, b, own)
	if err != nil {
		return err
	}
	if after != pid {
		return fmt.Errorf("the managed gateway had pid %d and has %d after the restart of Dash", pid, after)
	}
	return nil
}

func pidOf(ctx context.Context, b *harness.Bench, id string) (int, error) {
	g, err := b.Client.GetGateway(ctx, id)
	if err != nil {
		return 0, err
	}
	if g.Pid == nil {
		return 0, fmt.Errorf("gateway %s has no pid, it is %s", id, g.State)
	}
	return *g.Pid, nil
}

func drain(ctx context.Context, e *Env) (err error) {
	b, err := e.bench(ctx, harness.Config{Gateways: 2, Slots: 2, RunTime: 50 * time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	t, err := hold(ctx, b, "last", 3*time.Second)
	if err != nil {
		return err
	}
	t, err = b.Client.GetTask(ctx, t.Id, 0)
	if err != nil {
		return err
	}
	gateway := *t.Gateway
	if _, err := b.Client.DrainGateway(ctx, gateway); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	asked := time.Now()
	if err := submitMany(ctx, b, e.rng(), "n", 40, 8); err != nil {
		return err
	}
	if err := b.AwaitGateway(ctx, patience, gateway, func(g *api.Gateway) bool { return g.State == "drained" }); err != nil {
		return err
	}
	if err := e.conclude(ctx, b); err != nil {
		return err
	}
	h, _, err := b.Judge(ctx)
	if err != nil {
		return err
	}
	for _, ev := range h.Events {
		if ev.State == "claimed" && ev.Gateway == gateway && ev.Time.After(asked) {
			return fmt.Errorf("task %s went to %s while it was being drained", ev.ID, gateway)
		}
	}
	done, err := b.Client.GetTask(ctx, t.Id, 0)
	if err == nil && (done.State != api.TaskStateSucceeded || done.Attempt != 1 || *done.Gateway != gateway) {
		err = fmt.Errorf("the run that was being drained is %s with attempt %d at %s", done.State, done.Attempt, *done.Gateway)
	}
	return err
}
