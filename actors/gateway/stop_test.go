package gateway_test

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
)

// gauges reads a gauge vector with one label, without the zeros.
func gauges(t *testing.T, r *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if v := m.GetGauge().GetValue(); v != 0 {
				out[m.GetLabel()[0].GetValue()] = v
			}
		}
	}
	return out
}

// TestResumeWhileTheProcessStops: the operator changes his mind while the
// process of a drained gateway is on its way out; it is started again.
func TestResumeWhileTheProcessStops(t *testing.T) {
	t.Parallel()
	first := newTurns("b1", ok)
	stopping, finish := make(chan struct{}), make(chan struct{})
	d := &daemon{stop: func(context.Context) error {
		close(stopping)
		first.Close()
		<-finish
		return nil
	}}
	r := newRig(t, func(c *gateway.Config) { c.Process, c.Dial = d, dialling(first, newTurns("b2", ok)) })
	await(r, "a window", open)
	r.system.Root.Send(r.pid, gateway.Drain{})
	<-stopping
	r.system.Root.Send(r.pid, gateway.Resume{})
	if s := r.inspect(); s.Status.State != messages.GatewayDraining {
		t.Errorf("state %s while the process stops, want draining", s.Status.State)
	}
	close(finish)
	await(r, "a window again", open)
}

// TestDrainedGatewayStartsDrained, without the process that the last life may
// have left behind.
func TestDrainedGatewayStartsDrained(t *testing.T) {
	t.Parallel()
	stops := make(chan struct{}, 10)
	reg := prometheus.NewRegistry()
	d := &daemon{stop: func(context.Context) error { stops <- struct{}{}; return nil }}
	r := newRig(t, func(c *gateway.Config) {
		c.Process, c.Dial, c.Metrics = d, dialling(newTurns("b1", ok)), gateway.NewMetrics(reg)
		c.Gateway.Drained = true
	})
	r.until(messages.GatewayDrained)
	if len(stops) != 1 || d.starts != 0 {
		t.Errorf("%d stops, %d starts, want 1 and 0", len(stops), d.starts)
	}
	if got := gauges(t, reg, "dash_gateways"); len(got) != 1 || got["drained"] != 1 {
		t.Errorf("dash_gateways = %v, want one drained", got)
	}
	r.system.Root.Send(r.pid, gateway.Resume{})
	await(r, "a window", open)
}

// TestRestartOfAnUnreachableDrain obeys the table of transitions.
func TestRestartOfAnUnreachableDrain(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	blocked, stopped := make(chan struct{}), make(chan struct{}, 10)
	d := &daemon{stop: func(context.Context) error { stopped <- struct{}{}; return nil }}
	r := newRig(t, func(c *gateway.Config) {
		c.Process, c.Metrics = d, gateway.NewMetrics(reg)
		next := dialling(newTurns("b1", ok), newTurns("b1", ok))
		c.Dial = func(ctx context.Context, o openclaw.Config, h openclaw.Handler) (gateway.Link, error) {
			select {
			case <-blocked:
				return next(ctx, o, h)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	})
	r.until(messages.GatewayConnecting)
	r.system.Root.Send(r.pid, gateway.Drain{})
	r.system.Root.Send(r.pid, gateway.Restart{})
	<-stopped
	close(blocked)
	r.until(messages.GatewayDrained)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "dash_gateway_unlawful_transitions_total" && f.GetMetric()[0].GetCounter().GetValue() != 0 {
			t.Error("changed its state against the table")
		}
	}
}
