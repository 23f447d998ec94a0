package gateway_test

import (
	"slices"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
)

// TestRemoveStopsTheRunsThatAreWithdrawn: the pool hears at once that the
// gateway is gone; the connection lasts until the runs were told to stop.
func TestRemoveStopsTheRunsThatAreWithdrawn(t *testing.T) {
	t.Parallel()
	l := newLink("b1")
	l.onAgent = func(r openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
		on(openclaw.AgentAnswer{Kind: openclaw.AnswerAccepted, RunID: r.RunID})
	}
	r := newRig(t, func(c *gateway.Config) { c.Dial = dialer(l) })
	await(r, "a window", func(d messages.Demand) bool { return d.Window > 0 })
	task := r.claim("t-1", "")
	ref := messages.ClaimRef{Task: task.ID, Claim: task.Claim}
	await(r, "the claim", func(d messages.Demand) bool { return slices.Contains(d.Running, ref) })
	r.system.Root.Send(r.pid, gateway.Remove{})
	await(r, "the word that it is gone", func(d messages.Demand) bool {
		return d.Gone && d.Window == 0 && slices.Contains(d.Running, ref)
	})
	select {
	case <-l.done:
		t.Fatal("the connection ended before the run was withdrawn")
	default:
	}
	r.system.Root.Send(r.pid, messages.Withdraw{ClaimRef: ref})
	select {
	case <-l.done:
	case <-time.After(15 * time.Second):
		t.Fatal("the gateway is still connected")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.aborted, task.SessionKey()) {
		t.Errorf("aborted %v, want %s", l.aborted, task.SessionKey())
	}
}
