package openclaw

import "testing"

// TestAgentFrameNamesItsRun: the trace that reaches every model call of a run is
// the task, the span its claim. Other requests carry none.
func TestAgentFrameNamesItsRun(t *testing.T) {
	t.Parallel()
	traces := make(chan string, 3)
	cfg := serve(t, func(p *peer) {
		for range 2 {
			r, _ := p.recv()
			traces <- r.Trace
		}
		p.drain()
	})
	c := dial(t, cfg, nil)
	for _, run := range []string{"0199aaaa-bbbb-7ccc-8ddd-eeeeffff0001.18", "warm-up"} {
		if err := c.Agent(turn(run), func(AgentAnswer) {}); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"00-0199aaaabbbb7ccc8dddeeeeffff0001-0000000000000012-01", ""} {
		if got := nextOf(t, traces); got != want {
			t.Errorf("traceparent %q, want %q", got, want)
		}
	}
}

func TestTraceParent(t *testing.T) {
	t.Parallel()
	for _, run := range []string{"", "r1", "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0001", "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0001.0", "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0001.x", "00000000-0000-0000-0000-000000000000.1"} {
		if got := traceParent(run); got != "" {
			t.Errorf("%q has the trace %q", run, got)
		}
	}
}
