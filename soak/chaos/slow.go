package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/soak/harness"
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
	load := b.StartLoad(harness.LoadConfig{Name: "s", Rate: 30, Attempts: 20, Seed: e.Seed})
	at := time.Now()
	if err := errors.Join(
		b.Sim.Fault(ctx, 0, map[string]any{"provider_fail_rate": 1, "provider_fail": "500"}),
		b.Sim.Fault(ctx, 1, map[string]any{"event_loop_delay_ms": 2000}),
	); err != nil {
		return err
	}
	for i := range 2 {
		if err := b.AwaitGateway(ctx, 10*time.Second, harness.Name(i), func(g *api.Gateway) bool { return g.Window <= slots/2 }); err != nil {
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
