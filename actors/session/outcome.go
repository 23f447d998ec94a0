package session

import (
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// finish makes the end durable.
func (d *decision) finish() bool {
	switch e := d.end; {
	case e.kind == Success:
		return d.change(d.succeeded(), nil, "success")
	case d.stop == messages.StopCancel:
		return d.finishCancelled()
	default:
		return d.finishFailed()
	}
}

func (d *decision) succeeded() messages.Task {
	t := d.Task
	t.State, t.Result, t.Error = messages.Succeeded, d.unfinished(d.end.result), nil
	t.Stopping, t.FinishedAt = messages.StopNone, d.now
	return t
}

func (d *decision) finishCancelled() bool {
	t := d.Task
	t.State, t.Stopping, t.FinishedAt = messages.Cancelled, messages.StopNone, d.now
	t.Cancel.Confirmed = messages.Confirmed
	reason := "stopped"
	switch {
	case d.end.unconfirmed:
		t.Cancel.Confirmed = messages.Unconfirmed
		reason = "unconfirmed"
	case d.Task.State == messages.Claimed:
		reason = "cancel_unsent"
	}
	var s *messages.Session
	if d.Task.State == messages.Cancelling {
		s = d.usedUpSession()
	}
	return d.change(t, s, reason)
}

// usedUpSession is the session's row after an end that makes its key unfit for
// another turn; nil if the key may be used again.
func (d *decision) usedUpSession() *messages.Session {
	e := d.end
	if d.rules.f || d.untouched() || e.kind == Failed && !e.lost && !e.crashed {
		return nil
	}
	s := d.nextGeneration()
	if s != nil && e.unconfirmed {
		s.State = messages.SessionSuspended
		s.Reason = "the gateway did not confirm that a run was stopped"
		s.NextStep = next.GoesOnAfterStop
	}
	return s
}

// MaxUncalled is how many attempts in a row may come back without a model call
// before such an attempt burns like any other.
const MaxUncalled = 20

// uncalled makes the task wait for a provider that its gateway has switched off;
// the attempt is given back. It is false when the end is another one.
func (d *decision) uncalled() bool {
	e := d.end
	if e.off <= 0 || e.err == nil || d.Task.State == messages.Cancelling {
		return false
	}
	n := d.Task.Error.GetUncalled() + 1
	err := proto.CloneOf(e.err)
	err.Uncalled = n
	e.err = err
	if n > MaxUncalled {
		return false
	}
	t := d.Task
	t.Error, t.Attempt = err, max(0, t.Attempt-1)
	d.change(d.waiting(t, nil, e.off), nil, "provider_paused")
	return true
}

// waiting is the row of a task that is tried again after a pause; s is its
// session's next row, nil if that stays.
func (d *decision) waiting(t messages.Task, s *messages.Session, pause time.Duration) messages.Task {
	t.State, t.DueAt, t.Stopping = messages.RetryWait, d.now.Add(pause), messages.StopNone
	t.BootID, t.ObservedRunID, t.StartedAt = "", "", time.Time{}
	t.Active, t.ActiveSince = 0, time.Time{}
	switch {
	case s != nil:
		t.Generation = s.Generation
	case d.Session == nil && !d.rules.f:
		t.Generation++ // every attempt of a throw-away session has a clean one
	}
	return t
}

// finishFailed ends the attempt: another one later, or the dead letter.
func (d *decision) finishFailed() bool {
	if d.uncalled() {
		return false
	}
	t := d.Task
	t.Error = d.failure()
	retry := t.Error.GetRetryable() && t.Attempt < max(1, t.Spec.GetMaxAttempts()) && !t.Doomed()
	if d.end.unconfirmed || d.end.lost {
		// Nobody knows whether the run goes on: the task's own policy decides.
		retry = retry && t.OnUnknown() == messages.Requeue
	}
	s := d.usedUpSession()
	t.Stopping = messages.StopNone
	reason := d.reason(retry)
	if !retry {
		t.State, t.FinishedAt = messages.DeadLetter, d.now
		return d.change(t, s, reason)
	}
	return d.change(d.waiting(t, s, Backoff(t.Spec.GetBackoff(), t.Attempt, d.rand)), s, reason)
}

func (d *decision) reason(retry bool) string {
	switch {
	case d.end.crashed:
		return "gateway_crashed"
	case d.Task.State == messages.Cancelling && retry:
		return "deadline_retry"
	case d.Task.State == messages.Cancelling:
		return "deadline_final"
	case retry:
		return "retryable_error"
	}
	return "final_error"
}

// failure says why the attempt did not succeed.
func (d *decision) failure() *messages.TaskError {
	e := d.end
	overdue := d.used(d.now) >= d.timeout()
	fail := func(c messages.Code, text string) *messages.TaskError {
		return &messages.TaskError{Code: string(c), Message: text, Retryable: true}
	}
	switch {
	case e.unconfirmed && d.Task.OnUnknown() == messages.Hold:
		return fail(messages.CodeOutcomeUnknown, "the run passed its deadline and the gateway did not confirm that it stopped; it is not run again by itself because of on_unknown: hold")
	case e.unconfirmed:
		return fail(messages.CodeDeadline, "the run passed its deadline and the gateway did not confirm that it stopped")
	case d.Task.State == messages.Cancelling && e.kind != Failed:
		return fail(messages.CodeDeadline, "the run passed its deadline and was stopped")
	case e.lost && d.Task.OnUnknown() == messages.Hold:
		return fail(messages.CodeOutcomeUnknown, "the gateway knows nothing of a run that it had accepted; it is not run again by itself because of on_unknown: hold")
	case e.lost:
		return fail(messages.CodeRunLost, "the gateway knows nothing of a run that it had accepted")
	case e.kind == TimedOut && overdue:
		return fail(messages.CodeDeadline, "the run passed its deadline and was ended by the gateway")
	case e.kind == TimedOut:
		return fail(messages.CodeRunTimeout, "the run hit a time limit at the gateway")
	case e.kind == Aborted:
		return fail(messages.CodeRunAborted, "the run was aborted at the gateway by somebody else")
	}
	return e.err
}

// Backoff is the pause after the n-th attempt: min(max, initial * factor^(n-1)),
// spread by +-jitter with rand in [0,1). A task that names none has the default.
func Backoff(b *messages.Backoff, attempt int32, rand float64) time.Duration {
	if b == nil {
		b = messages.DefaultBackoff()
	}
	first, limit, factor := messages.DefaultBackoffInitial, messages.DefaultBackoffMax, messages.DefaultBackoffFactor
	if v := b.GetInitialSeconds(); v > 0 {
		first = v
	}
	if v := b.GetMaxSeconds(); v > 0 {
		limit = v
	}
	if v := b.GetFactor(); v >= 1 {
		factor = v
	}
	pause := min(limit, first*math.Pow(factor, float64(max(attempt, 1)-1)))
	jitter := min(max(b.GetJitter(), 0), 1)
	pause = min(limit, pause*(1+jitter*(2*rand-1)))
	return time.Duration(max(pause, 0) * float64(time.Second)).Truncate(time.Microsecond)
}
