package gateway_test

import (
	"context"
	"testing"
	"time"

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

// TestFrameThatWaitsIsGivenBackWithTheConnection: a claim whose frame waits
// behind another's was certainly not sent; its loss must not count as an
// unknown outcome.
func TestFrameThatWaitsIsGivenBackWithTheConnection(t *testing.T) {
	t.Parallel()
	l := newLink("b1")
	reading, read := make(chan struct{}), make(chan struct{})
	defer close(read)
	r := newRig(t, func(c *gateway.Config) {
		c.Dial = dialer(l)
		c.History = func(context.Context, string, string) (string, error) {
			close(reading)
			<-read
			return "", nil
		}
	})
	await(r, "a window", open)
	head := r.row("head", "s1")
	head.session.Replay = true
	r.system.Root.RequestWithCustomSender(r.pid, &messages.Assign{Task: head.task, Session: head.session}, r.pool)
	<-reading
	behind := r.claim("behind", "")
	if s := r.inspect(); len(s.Running) != 2 {
		t.Fatalf("holds %v, want both", s.Running)
	}
	l.Close()
	await(r, "the return of both", func(d messages.Demand) bool {
		returned := map[string]bool{}
		for _, c := range d.Returned {
			returned[c.Task] = true
		}
		return returned[behind.ID] && returned[head.task.ID]
	})
}

// TestSessionsAreCountedOff when their gateway's owner ends.
func TestSessionsAreCountedOff(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	l := newLink("b1")
	r := newRig(t, func(c *gateway.Config) { c.Dial, c.Metrics = dialer(l), gateway.NewMetrics(reg) })
	await(r, "a window", open)
	r.claim("t1", "")
	r.inspect() // the claim was taken
	if got := gauges(t, reg, "dash_sessions"); got["busy"] != 1 {
		t.Fatalf("dash_sessions = %v, want one busy", got)
	}
	if err := r.system.Root.StopFuture(r.pid).Wait(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dash_sessions", "dash_gateways", "dash_gateway_running", "dash_gateway_window"} {
		if got := gauges(t, reg, name); len(got) != 0 {
			t.Errorf("%s = %v after the end", name, got)
		}
	}
}

// TestConfigureVoidsADialUnderWay: what is dialled at the old address must not
// become the connection.
func TestConfigureVoidsADialUnderWay(t *testing.T) {
	t.Parallel()
	old, fresh := newLink("old"), newLink("new")
	answer := make(chan struct{})
	r := newRig(t, func(c *gateway.Config) {
		c.Dial = func(ctx context.Context, o openclaw.Config, _ openclaw.Handler) (gateway.Link, error) {
			if o.URL == "ws://127.0.0.1:2/" {
				return fresh, nil
			}
			select {
			case <-answer:
				return old, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	})
	r.until(messages.GatewayConnecting)
	r.system.Root.Send(r.pid, gateway.Configure{Gateway: messages.Gateway{ID: "gw", Tenant: "default", Pool: "default",
		URL: "ws://127.0.0.1:2/", Token: "t", MaxConcurrency: 8}})
	r.inspect() // the change was taken
	close(answer)
	await(r, "a window", open)
	if s := r.inspect(); s.Status.BootID != "new" {
		t.Errorf("connected to %q, want the new address", s.Status.BootID)
	}
	select {
	case <-old.Done():
	case <-time.After(10 * time.Second):
		t.Error("the connection to the old address was left open")
	}
}

// TestTextEndsWithTheClaim: the last text of a claim is empty, so that nobody
// keeps what a run says after its task has ended.
func TestTextEndsWithTheClaim(t *testing.T) {
	t.Parallel()
	texts := make(chan string, 10)
	var handler openclaw.Handler
	l := newLink("b1")
	l.onAgent = func(q openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
		on(openclaw.AgentAnswer{Kind: openclaw.AnswerAccepted, RunID: q.RunID})
		handler.RunText(openclaw.RunText{RunID: q.RunID, Text: "hello"})
		on(openclaw.AgentAnswer{Kind: openclaw.AnswerFinal, RunID: q.RunID, Text: "hello"})
	}
	r := newRig(t, func(c *gateway.Config) {
		c.Dial = func(_ context.Context, _ openclaw.Config, h openclaw.Handler) (gateway.Link, error) {
			handler = h
			return l, nil
		}
		c.Text = func(task string, claim int64, text string) { texts <- task + "." + text }
	})
	await(r, "a window", open)
	r.claim("t1", "")
	for _, want := range []string{"t1.hello", "t1."} {
		select {
		case got := <-texts:
			if got != want {
				t.Errorf("text %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("waited in vain for %q", want)
		}
	}
}
