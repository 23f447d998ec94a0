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
		if err := harness.Pause(ctx, between(rng, 200*time.Millisecond, 2500*time.Millisecond)); err != nil {
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
	if err := harness.Pause(ctx, time.Second); err != nil {
		return err
	}
	load.Stop(patience)
	return e.conclude(ctx, b)
}

// killGateways crashes gateways that keep their state, as a supervisor outside
// would restart them, and in the end all of them with their process.
func killGateways(ctx context.Context, e *Env) (err error) {
	const gateways = 3
	rng := e.rng()
	// Not 2026.8: of two crashes between two looks at a session nobody can tell there
	// whether the second re-run still had the task's text (actors/session/DESIGN.md).
	b, err := e.bench(ctx, harness.Config{Gateways: gateways, RunTime: 300 * time.Millisecond, KeepState: true, TimeScale: 0.1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	load := b.StartLoad(harness.LoadConfig{Name: "g", Rate: 40, SessionShare: 0.3, Sessions: 12, Seed: e.Seed})
	for i := range e.Rounds {
		if err := harness.Pause(ctx, between(rng, 500*time.Millisecond, 2*time.Second)); err != nil {
			return err
		}
		if i%5 == 4 || i == e.Rounds-1 {
			err = killAllGateways(ctx, b)
		} else {
			victim, down := rng.IntN(gateways), between(rng, 0, 2*time.Second)
			b.History.Fault("gateway-kill", harness.Name(victim))()
			err = b.Sim.Fault(ctx, victim, map[string]any{"crash": true, "down_seconds": down.Seconds()})
		}
		if err != nil {
			return err
		}
	}
	if err := harness.Pause(ctx, 2*time.Second); err != nil {
		return err
	}
	load.Stop(patience)
	if err := b.AwaitReady(ctx, gateways); err != nil {
		return err
	}
	return e.conclude(ctx, b)
}

func killAllGateways(ctx context.Context, b *harness.Bench) error {
	defer b.History.Fault("gateway-kill", "")()
	b.Sim.Kill()
	if err := b.Sim.Start(ctx); err != nil {
		return err
	}
	return b.AwaitReady(ctx, 1)
}
