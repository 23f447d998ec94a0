package chaos

import (
	"context"
	"errors"
	"time"

	"github.com/dash-fleet/dash/soak/harness"
)

// killDash kills the node at random moments, also soon after its start.
func killDash(ctx context.Context, e *Env) (err error) {
	b, err := e.bench(ctx, harness.Config{RunTime: 300 * time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	rng := e.rng()
	load := b.StartLoad(harness.LoadConfig{Name: "k", Rate: 60, SessionShare: 0.3, Sessions: 12, Seed: e.Seed})
	for i := range e.Rounds {
		if err := pause(ctx, between(rng, 200*time.Millisecond, 2500*time.Millisecond)); err != nil {
			return err
		}
		over := b.History.Fault("dash-kill", "")
		at := time.Now()
		b.Dash.Kill()
		if err := b.Dash.Start(ctx); err != nil {
			return err
		}
		over()
		e.Logf("round %d: killed after %d accepted tasks, ready again after %s", i+1, b.History.Accepted(), time.Since(at).Round(time.Millisecond))
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	load.Stop(patience)
	return e.conclude(ctx, b)
}
