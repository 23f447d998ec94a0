package session

import (
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// switchedOff is the answer of a gateway that has switched the provider off.
func switchedOff() Answer {
	return Answer{Conn: 1, RunID: "t.1", Kind: Failed, Off: 10 * time.Minute,
		Error: &messages.TaskError{Code: string(messages.CodeProviderAuth), Message: "off for about 10 minutes", Retryable: true}}
}

func ended(t *testing.T, task messages.Task, a Answer) *Commit {
	t.Helper()
	_, out := drive(t, Start(task, idleSession(), "", true), Connected{Conn: 1, BootID: "b1"}, Sent{1}, Answer{Conn: 1, RunID: "t.1", Kind: Accepted}, a)
	return find[*Commit](t, out)
}

// TestNoModelCallBurnsNoAttempt: the task waits for the provider as long as the
// gateway says, with its attempt given back, 20 times; then it burns.
func TestNoModelCallBurnsNoAttempt(t *testing.T) {
	t.Parallel()
	task := claimedTask()
	for n := int32(1); n <= MaxUncalled; n++ {
		c := ended(t, task, switchedOff())
		if c.Task.State != messages.RetryWait || c.Task.Attempt != 0 || c.Task.Error.GetUncalled() != n || c.Reason != "provider_paused" || !c.Task.DueAt.Equal(t0.Add(10*time.Minute)) {
			t.Fatalf("%d. time: %s, attempt %d, due %s, %q, %v", n, c.Task.State, c.Task.Attempt, c.Task.DueAt.Sub(t0), c.Reason, c.Task.Error)
		}
		task.Error = c.Task.Error // as the pool's owner keeps it
	}
	c := ended(t, task, switchedOff())
	if c.Task.State != messages.RetryWait || c.Task.Attempt != 1 || c.Reason != "retryable_error" {
		t.Fatalf("after %d times: %s, attempt %d, %q", MaxUncalled, c.Task.State, c.Task.Attempt, c.Reason)
	}
	task.Error, task.Attempt = c.Task.Error, 2
	if c = ended(t, task, switchedOff()); c.Task.State != messages.DeadLetter || c.Task.Attempt != 2 {
		t.Fatalf("the last attempt: %s, attempt %d", c.Task.State, c.Task.Attempt)
	}
	// A failure with a model call begins the count anew.
	task.Attempt = 1
	c = ended(t, task, Answer{Conn: 1, RunID: "t.1", Kind: Failed, Error: &messages.TaskError{Code: "provider_auth", Retryable: true}})
	if c.Task.Error.GetUncalled() != 0 || c.Task.Attempt != 1 {
		t.Fatalf("after a model call: %+v", c.Task)
	}
}

// TestVagueEnd: unknown words end a run that was sent once. Of one that was sent
// again they may mean that it ended before: its session tells.
func TestVagueEnd(t *testing.T) {
	t.Parallel()
	vague := Answer{Conn: 1, RunID: "t.1", Kind: Failed, Vague: true,
		Error: &messages.TaskError{Code: string(messages.CodeProvider), Message: "423 come back later", Retryable: true}}
	if c := ended(t, claimedTask(), vague); c.Task.State != messages.RetryWait || c.Task.Error.GetMessage() != "423 come back later" {
		t.Fatalf("%+v", c.Task)
	}
	again := vague
	again.Conn = 2
	r, out := drive(t, Start(claimedTask(), idleSession(), "", true), Connected{Conn: 1, BootID: "b1"}, Sent{1}, Disconnected{1}, Connected{Conn: 2, BootID: "b1"},
		SessionRead{Conn: 2, Key: "agent:main:dash:default:s:0"}, Sent{2}, again)
	_, out = drive(t, r, Committed{Op: find[*Commit](t, out).Op, Status: CommitOK})
	find[ReadSession](t, out)
}
