package session

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/dash-fleet/dash/messages"
)

var t0 = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func claimedTask() messages.Task {
	return messages.Task{
		ID: "t", Tenant: "default", Pool: "default", Class: messages.High, State: messages.Claimed,
		Claim: 1, Attempt: 1, Session: "s", Gateway: "g",
		Spec: &messages.TaskSpec{Message: "hi", TimeoutSeconds: 100, MaxAttempts: 2,
			Backoff: &messages.Backoff{InitialSeconds: 2, Factor: 2, MaxSeconds: 60}},
	}
}

func idleSession() *messages.Session {
	return &messages.Session{Tenant: "default", ID: "s", Pool: "default", Gateway: "g", State: messages.SessionBusy}
}

// drive feeds events one by one and returns the last Run and its effects.
func drive(t *testing.T, r Run, events ...Event) (Run, []Effect) {
	t.Helper()
	var out []Effect
	for _, e := range events {
		r, out = Decide(r, Input{Now: t0, Rand: 0.5, Event: e})
	}
	return r, out
}

func find[E Effect](t *testing.T, effects []Effect) E {
	t.Helper()
	for _, e := range effects {
		if e, ok := e.(E); ok {
			return e
		}
	}
	var none E
	t.Fatalf("no %T in %v", none, effects)
	return none
}

func TestSuccess(t *testing.T) {
	t.Parallel()
	r, out := drive(t, Start(claimedTask(), idleSession(), "", true), Connected{Conn: 1, BootID: "b1"})
	send := find[Send](t, out)
	want := Send{Conn: 1, RunID: "t.1", SessionKey: "agent:main:dash:default:s:0", Message: "hi", Timeout: 100 * time.Second}
	if diff := cmp.Diff(send, want); diff != "" {
		t.Fatalf("send (-got +want):\n%s", diff)
	}
	r, out = drive(t, r, Sent{1}, Answer{Conn: 1, RunID: "t.1", Kind: Accepted})
	if arm := find[Arm](t, out); arm != (Arm{RunningTimer, RunningWithin}) {
		t.Fatalf("armed %+v", arm)
	}
	// The end comes at once: it takes RUNNING along.
	_, out = drive(t, r, Answer{Conn: 1, RunID: "t.1", Kind: Success})
	c := find[*Commit](t, out)
	if c.Task.State != messages.Succeeded || c.From != messages.Claimed || c.Via != messages.Running || !c.Task.StartedAt.Equal(t0) {
		t.Fatalf("commit %+v", c)
	}
	r, out = drive(t, r, Fired{RunningTimer})
	c = find[*Commit](t, out)
	if c.Task.State != messages.Running || c.From != messages.Claimed || c.Task.BootID != "b1" || !c.Task.StartedAt.Equal(t0) {
		t.Fatalf("commit %+v", c)
	}
	// The result comes while the store is slow: it is held, not lost.
	res := &messages.TaskResult{Text: "ok"}
	r, out = drive(t, r, Answer{Conn: 1, RunID: "t.1", Kind: Success, Result: res})
	if len(out) != 0 {
		t.Fatalf("effects while a commit is under way: %v", out)
	}
	r, out = drive(t, r, Committed{Op: c.Op, Status: CommitOK})
	c = find[*Commit](t, out)
	if c.Task.State != messages.Succeeded || c.From != messages.Running {
		t.Fatalf("commit %+v", c)
	}
	r, out = drive(t, r, Committed{Op: c.Op, Status: CommitOK})
	ended := find[Ended](t, out)
	if diff := cmp.Diff(ended.Task.Result, res, protocmp.Transform()); diff != "" || !r.Over() {
		t.Fatalf("over %v, result (-got +want):\n%s", r.Over(), diff)
	}
}

func TestUnsentIsGivenBackOrCancelled(t *testing.T) {
	t.Parallel()
	r := Start(claimedTask(), idleSession(), "", true)
	_, out := drive(t, r, Disconnected{0})
	if got := find[Returned](t, out); got.Claim != 1 {
		t.Errorf("returned %+v", got)
	}
	_, out = drive(t, r, Connected{Conn: 1, BootID: "b1"}, NotSent{1})
	find[Returned](t, out)
	_, out = drive(t, r, StopRequested{At: t0})
	c := find[*Commit](t, out)
	if c.Task.State != messages.Cancelled || c.Task.Cancel.Confirmed != messages.Confirmed || c.Reason != "cancel_unsent" {
		t.Errorf("commit %+v", c)
	}
}
