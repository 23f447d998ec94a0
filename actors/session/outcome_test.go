package session

import (
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// endOf is the row that follows when an attempt ends in a way.
func endOf(policy messages.OnUnknown, e ending) messages.Task {
	d := &decision{now: time.Unix(1000, 0), Run: Start(messages.Task{
		ID: "t", Tenant: "default", State: messages.Running, Claim: 1, Attempt: 1, Generation: 7,
		Spec: &messages.TaskSpec{MaxAttempts: 3, OnUnknown: string(policy)},
	}, nil, "", false)}
	d.end = &e
	d.finishFailed()
	return d.commit.Task
}

// TestEndsOfAnAttempt: on_unknown decides what nobody knows, and every further
// attempt of a task without a session has a key of its own.
func TestEndsOfAnAttempt(t *testing.T) {
	t.Parallel()
	failed := ending{kind: Failed, err: &messages.TaskError{Code: "x", Retryable: true}}
	for name, c := range map[string]struct {
		policy messages.OnUnknown
		end    ending
		want   messages.TaskState
	}{
		"failed":                   {messages.Hold, failed, messages.RetryWait},
		"stop unconfirmed, hold":   {messages.Hold, ending{kind: Aborted, unconfirmed: true}, messages.DeadLetter},
		"stop unconfirmed, again":  {messages.Requeue, ending{kind: Aborted, unconfirmed: true}, messages.RetryWait},
		"nothing is known, hold":   {messages.Hold, ending{kind: Failed, lost: true}, messages.DeadLetter},
		"nothing is known, again":  {messages.Requeue, ending{kind: Failed, lost: true}, messages.RetryWait},
		"final, whatever is known": {messages.Requeue, ending{kind: Failed, err: &messages.TaskError{Code: "x"}}, messages.DeadLetter},
	} {
		row := endOf(c.policy, c.end)
		if row.State != c.want {
			t.Errorf("%s: %s, want %s", name, row.State, c.want)
		}
		if row.State == messages.RetryWait && row.Generation != 8 {
			t.Errorf("%s: generation %d, want a new one after 7", name, row.Generation)
		}
	}
}

// TestANewGenerationStartsWithItsHistory: what came with the claim goes into the Send.
func TestANewGenerationStartsWithItsHistory(t *testing.T) {
	t.Parallel()
	s := &messages.Session{Tenant: "default", ID: "s", Generation: 2, Replay: true}
	task := messages.Task{ID: "t", Tenant: "default", Session: "s", Generation: 2, State: messages.Claimed, Claim: 1, Spec: &messages.TaskSpec{Message: "hi"}}
	_, effects := Decide(Start(task, s, "what was said", true), Input{Now: time.Unix(1000, 0), Event: Connected{Conn: 1, BootID: "b"}})
	for _, e := range effects {
		if send, ok := e.(Send); ok {
			if !send.Replay || send.History != "what was said" {
				t.Errorf("sent with replay %t and history %q", send.Replay, send.History)
			}
			return
		}
	}
	t.Errorf("nothing was sent: %+v", effects)
}

// TestANewAttemptHasItsWholeTime: what the last one used is not counted.
func TestANewAttemptHasItsWholeTime(t *testing.T) {
	t.Parallel()
	d := &decision{now: time.Unix(1000, 0), Run: Start(messages.Task{
		ID: "t", Tenant: "default", State: messages.Running, Claim: 1, Attempt: 1, Active: time.Minute, ActiveSince: time.Unix(990, 0),
		Spec: &messages.TaskSpec{MaxAttempts: 3},
	}, nil, "", false)}
	d.end = &ending{kind: Failed, err: &messages.TaskError{Code: "x", Retryable: true}}
	d.finishFailed()
	if row := d.commit.Task; row.State != messages.RetryWait || row.Active != 0 || !row.ActiveSince.IsZero() {
		t.Errorf("it waits as %s with %s used since %s", row.State, row.Active, row.ActiveSince)
	}
}
