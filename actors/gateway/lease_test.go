package gateway_test

import (
	"sync/atomic"
	"testing"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
)

// TestNoFrameWithoutALease: a node that was stopped between its claim and the
// frame comes back when another one may own the gateway. It writes nothing.
func TestNoFrameWithoutALease(t *testing.T) {
	t.Parallel()
	var live atomic.Bool
	live.Store(true)
	frames := make(chan string, 10)
	l := newLink("b1")
	l.onAgent = func(q openclaw.AgentRequest, _ func(openclaw.AgentAnswer)) { frames <- q.RunID }
	r := newRig(t, func(c *gateway.Config) { c.Dial, c.Live = dialer(l), live.Load })
	await(r, "a window", open)
	live.Store(false)
	task := r.claim("t1", "")
	d := await(r, "the claim's return", func(d messages.Demand) bool { return len(d.Returned) == 1 })
	if d.Returned[0].Task != task.ID || d.Window != 0 {
		t.Errorf("demand = %+v, want no window", d)
	}
	live.Store(true)
	await(r, "a window again", open)
	r.claim("t2", "")
	if run := <-frames; run != "t2.1" {
		t.Errorf("the frame of %s was written, want only that of t2.1", run)
	}
}
