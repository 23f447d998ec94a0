package gateway_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
)

// deaf is a link whose gateway answers no teardown.
type deaf struct{ *link }

func (d deaf) Teardown(ctx context.Context, _ openclaw.TeardownRequest) openclaw.TeardownReport {
	<-ctx.Done()
	return openclaw.TeardownReport{}
}

func (l *link) torn(disposed bool) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if disposed {
		return slices.Clone(l.disposed)
	}
	return slices.Clone(l.aborted)
}

// TestParkedRunLeavesNothing: the run of a session that keeps failing is stopped
// at once. A throw-away session is deleted, once its task's end is durable; a
// session with a name is kept.
func TestParkedRunLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, wantDisposed := range map[string]bool{"": true, "s1": false} {
		t.Run("session "+name, func(t *testing.T) {
			t.Parallel()
			first, second := newLink("b1"), newLink("b2")
			second.session = func() (openclaw.Session, bool, error) {
				return openclaw.Session{}, false, &openclaw.AnswerError{Method: "sessions.list", Problem: "no sessions member"}
			}
			r := newRig(t, func(c *gateway.Config) {
				c.Dial = dialer(first, second)
				c.Timing.SessionLimit = 2
			})
			await(r, "a window", open)
			task := r.claim("t1", name)
			await(r, "the run", func(d messages.Demand) bool { return len(d.Running) == 1 })
			first.Close() // now the run has to be looked up, and cannot be
			e := await(r, "the end of the task", func(*messages.Ended) bool { return true })
			if e.Task.State != messages.DeadLetter {
				t.Fatalf("task = %s", e.Task.State)
			}
			key := task.SessionKey()
			// Both are under way a turn of the actor later.
			limit := time.Now().Add(15 * time.Second)
			for !slices.Contains(second.torn(false), key) || wantDisposed && !slices.Contains(second.torn(true), key) {
				if time.Now().After(limit) {
					t.Fatalf("stopped %v, deleted %v, want %s", second.torn(false), second.torn(true), key)
				}
				<-time.After(2 * time.Millisecond)
			}
			if !wantDisposed && len(second.torn(true)) > 0 {
				t.Errorf("deleted %v, want nothing", second.torn(true))
			}
		})
	}
}

// TestRemovalWaitsForNobody: what a gateway that does not answer was asked to
// take away keeps it no longer than one call's deadline.
func TestRemovalWaitsForNobody(t *testing.T) {
	t.Parallel()
	l := newLink("b1")
	r := newRig(t, func(c *gateway.Config) {
		c.Dial = dialling(deaf{l})
		c.Timing.CallTimeout = 100 * time.Millisecond
	})
	await(r, "a window", open)
	task := r.claim("t1", "")
	ref := messages.ClaimRef{Task: task.ID, Claim: task.Claim}
	await(r, "the claim", func(d messages.Demand) bool { return slices.Contains(d.Running, ref) })
	r.system.Root.Send(r.pid, gateway.Remove{})
	r.system.Root.Send(r.pid, messages.Withdraw{ClaimRef: ref})
	select {
	case <-l.done:
	case <-time.After(10 * time.Second):
		t.Fatal("the gateway is still connected")
	}
}

// TestRemovalStopsWhatIsHeld: nobody will see a proof of a HELD task at a gateway
// that is removed, so that its run is stopped; what was said there is kept.
func TestRemovalStopsWhatIsHeld(t *testing.T) {
	t.Parallel()
	l := newLink("b1")
	l.onAgent = func(r openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
		on(openclaw.AgentAnswer{Kind: openclaw.AnswerAccepted, RunID: r.RunID})
	}
	r := newRig(t, func(c *gateway.Config) { c.Dial = dialer(l) })
	await(r, "a window", open)
	task := r.claim("t1", "")
	ref := messages.ClaimRef{Task: task.ID, Claim: task.Claim}
	await(r, "the claim", func(d messages.Demand) bool { return slices.Contains(d.Running, ref) })
	r.system.Root.Send(r.pid, gateway.Remove{})
	r.system.Root.Send(r.pid, messages.Withdraw{ClaimRef: ref, Held: true})
	select {
	case <-l.done:
	case <-time.After(15 * time.Second):
		t.Fatal("the gateway is still connected")
	}
	if key := task.SessionKey(); !slices.Contains(l.torn(false), key) || len(l.torn(true)) > 0 {
		t.Errorf("stopped %v and deleted %v, want %s stopped", l.torn(false), l.torn(true), key)
	}
}

// TestRemovalOfADrainedGateway: the throw-away sessions that its drain has kept
// are deleted before it goes.
func TestRemovalOfADrainedGateway(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	l := newTurns("b1", func(q openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
		<-goOn
		ok(q, on)
	})
	r := newRig(t, func(c *gateway.Config) { c.Dial = dialling(l) })
	await(r, "a window", open)
	task := r.claim("t1", "")
	await(r, "the run", func(d messages.Demand) bool { return len(d.Running) == 1 })
	r.system.Root.Send(r.pid, gateway.Drain{})
	r.inspect()
	close(goOn)
	await(r, "its end", func(*messages.Ended) bool { return true })
	r.until(messages.GatewayDrained)
	if _, deleted := l.seen(); len(deleted) > 0 {
		t.Fatalf("deleted %v while it is drained", deleted)
	}
	r.system.Root.Send(r.pid, gateway.Remove{})
	select {
	case <-l.done:
	case <-time.After(15 * time.Second):
		t.Fatal("the gateway is still connected")
	}
	if _, deleted := l.seen(); !slices.Contains(deleted, task.SessionKey()) {
		t.Errorf("deleted %v, want %s", deleted, task.SessionKey())
	}
}
