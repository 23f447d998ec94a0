package gateway_test

import (
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// TestHeldTaskIsNotEndedByItsFailingWatcher: what becomes of a HELD task is the
// pool's owner's to say; a watcher that cannot go on only goes away.
func TestHeldTaskIsNotEndedByItsFailingWatcher(t *testing.T) {
	t.Parallel()
	l := newLink("b1")
	l.session = func() (openclaw.Session, bool, error) {
		return openclaw.Session{}, false, &openclaw.AnswerError{Method: "sessions.list", Problem: "no sessions member"}
	}
	r := newRig(t, func(c *gateway.Config) {
		c.Dial = dialer(l)
		c.Timing.SessionLimit = 2
	})
	await(r, "a window", open)
	task := r.claim("t1", "")
	held := task
	held.State = messages.Held
	out, err := r.store.Commit(t.Context(), []persistence.Op{{
		Fences: []messages.Fence{r.shard}, Update: &persistence.TaskUpdate{Task: held, From: messages.Claimed, FromClaim: 1},
	}})
	if err != nil || out[0].Status != persistence.OK {
		t.Fatalf("hold: %v %v", out, err)
	}
	r.system.Root.Send(r.pid, messages.Withdraw{ClaimRef: messages.ClaimRef{Task: "t1", Claim: 1}, Held: true})
	limit := time.Now().Add(15 * time.Second)
	for len(r.inspect().Running) > 0 {
		if time.Now().After(limit) {
			t.Fatal("the watcher stays")
		}
		<-time.After(2 * time.Millisecond)
	}
	row, err := r.store.Task(t.Context(), "default", "t1")
	if err != nil || row.State != messages.Held {
		t.Errorf("task = %s (%v), want held", row.State, err)
	}
}
