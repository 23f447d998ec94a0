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

// remove takes a gateway away while it runs a task that may run again and one
// that must not.
func remove(ctx context.Context, e *Env) (err error) {
	b, err := e.bench(ctx, harness.Config{Gateways: 1, Slots: 2, RunTime: 50 * time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	again, err := hold(ctx, b, "again", 5*time.Second)
	if err != nil {
		return err
	}
	once, err := b.Submit(ctx, harness.Order{Key: "once", Class: "low", Message: "[[delay=60000]]once", Hold: true}, nil)
	if err != nil {
		return err
	}
	if _, err := b.Watcher.AwaitState(ctx, patience, once.Id, api.TaskStateRunning); err != nil {
		return err
	}
	over := b.History.Fault("gateway-kill", harness.Name(0)) // for the judge it is as good as dead
	removed := time.Now()
	if err := b.Client.DeleteGateway(ctx, harness.Name(0), true); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	if _, err := b.Watcher.AwaitState(ctx, 5*time.Second, again.Id, api.TaskStateQueued); err != nil {
		return fmt.Errorf("the task that may run again: %w", err)
	}
	if _, err := b.Watcher.AwaitState(ctx, 5*time.Second, once.Id, api.TaskStateHeld); err != nil {
		return fmt.Errorf("the task that must not run again: %w", err)
	}
	e.Logf("both tasks were taken back within %s", time.Since(removed).Round(time.Millisecond))
	_, err = b.Sim.AwaitLine(ctx, 5*time.Second, "abort at the removed gateway", func(l openclawtest.Line) bool {
		return l.Event == openclawtest.LogAborted && strings.HasPrefix(l.RunID, again.Id+".")
	})
	if err != nil {
		return err
	}
	over()
	return e.backAgain(ctx, b, again.Id, once.Id)
}

// backAgain registers the same process under its name: it does the work that
// was left, and an operator decides about the task that is held.
func (e *Env) backAgain(ctx context.Context, b *harness.Bench, again, once string) error {
	if err := b.Register(ctx, 0); err != nil {
		return err
	}
	if _, err := b.Client.ReleaseTask(ctx, once, api.ReleaseTask{Action: api.ReleaseTaskActionFail}); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	t, err := b.Client.GetTask(ctx, again, time.Minute)
	if err != nil {
		return err
	}
	if t.State != api.TaskStateSucceeded || t.Claim != 2 {
		return fmt.Errorf("the task that may run again is %s with claim %d, want succeeded with 2", t.State, t.Claim)
	}
	return e.conclude(ctx, b)
}
