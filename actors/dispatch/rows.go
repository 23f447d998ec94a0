package dispatch

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// The functions of this file are the pool owner's half of the task table: each
// returns the row that follows. They are pure.

func claimed(t messages.Task, gateway, boot string, generation int64, now time.Time) messages.Task {
	t.State = messages.Claimed
	t.Claim++
	t.Attempt++
	t.Gateway = gateway
	if t.Session == "" {
		// A throw-away session has a new key for every claim: none is used twice.
		generation = t.Generation + 1
	}
	t.Generation = generation
	t.BootID, t.ObservedRunID, t.Stopping = boot, "", messages.StopNone
	t.Result = nil
	t.ClaimedAt, t.StartedAt, t.FinishedAt = now, time.Time{}, time.Time{}
	t.Active, t.ActiveSince = 0, time.Time{}
	return t
}

// requeued gives the attempt back: the claim was not executed, or nobody knows
// and the policy says to run it again.
func requeued(t messages.Task) messages.Task {
	t.State = messages.Queued
	t.Attempt = max(0, t.Attempt-1)
	t.Gateway, t.BootID, t.ObservedRunID = "", "", ""
	t.ClaimedAt, t.StartedAt, t.DueAt = time.Time{}, time.Time{}, time.Time{}
	t.Active, t.ActiveSince = 0, time.Time{}
	return t
}

// givenBack follows a claim that was not executed, or of which nobody knows
// and the policy says to run it again. The attempt does not count, but not
// without end: after so many times each is burned.
func givenBack(t messages.Task, now time.Time, why string) messages.Task {
	burned, often := t.Attempt, t.Trials.GetGivenBack() >= messages.MaxGivenBack
	t.CountGivenBack(why)
	switch {
	case t.CancelRequested():
		return requeued(t) // whoever wants it stopped is not told that it failed
	case t.Doomed():
		return dead(t, now, messages.CodeGatewayCrashed, "its gateway died under it again and again: "+t.Trials.Story())
	case !often:
		return requeued(t)
	case burned >= max(1, t.Spec.GetMaxAttempts()):
		return dead(t, now, messages.CodeGivenBack,
			fmt.Sprintf("it came back %d times without having run, the last time because %s", t.Trials.GetGivenBack(), why))
	}
	t = requeued(t)
	t.Attempt = burned
	return t
}

// due puts a scheduled task into the order with a new seq, a retry with its old one.
func due(t messages.Task, seq int64) messages.Task {
	if t.State == messages.Scheduled {
		t.Seq = seq
	} else {
		t.DueAt = time.Time{}
	}
	t.State = messages.Queued
	t.Gateway, t.BootID, t.ObservedRunID = "", "", ""
	return t
}

func cancelled(t messages.Task, now time.Time, c messages.Confirmation) messages.Task {
	t.State = messages.Cancelled
	t.Cancel.Confirmed = c
	t.FinishedAt = now
	return t
}

// stoppable says what is known of a cancel that the pool's owner carries out:
// nothing runs, unless the task was taken from a gateway that was gone.
func stoppable(t *messages.Task) messages.Confirmation {
	if t.State == messages.Held || t.Cancel.Confirmed == messages.Unconfirmed {
		return messages.Unconfirmed
	}
	return messages.Confirmed
}

func expired(t messages.Task, now time.Time) messages.Task {
	t.State = messages.Expired
	t.FinishedAt = now
	return t
}

// HoldFor is how long a task whose end nobody knows waits for an answer.
const HoldFor = 24 * time.Hour

// held keeps DueAt as the end of the wait for an answer.
func held(t messages.Task, now time.Time) messages.Task {
	t.State = messages.Held
	t.DueAt = now.Add(HoldFor)
	return t
}

func dead(t messages.Task, now time.Time, code messages.Code, message string) messages.Task {
	t.State = messages.DeadLetter
	t.Error = &messages.TaskError{Code: string(code), Message: message}
	t.FinishedAt, t.DueAt = now, time.Time{}
	return t
}

func succeeded(t messages.Task, r *messages.TaskResult, now time.Time) messages.Task {
	t.State, t.Result, t.Error = messages.Succeeded, r, nil
	t.FinishedAt, t.DueAt = now, time.Time{}
	return t
}

func replayed(t messages.Task, seq int64) messages.Task {
	t = requeued(t)
	t.Seq = seq
	t.Attempt = 0
	t.Replays++
	t.Error, t.Result, t.Trials = nil, nil, nil
	t.FinishedAt = time.Time{}
	t.Cancel = messages.Cancel{}
	return t
}

// phaseOf says how the arbiter sees a state.
func phaseOf(s messages.TaskState) Phase {
	switch {
	case s == messages.Queued:
		return Waiting
	case s.AtGateway():
		return Flying
	case s.BlocksSession():
		return Blocking
	}
	return Gone
}

// nextTime is when the pool owner has to look at the task again, zero for never.
func nextTime(t *messages.Task) time.Time {
	switch {
	case t.State == messages.Held:
		return t.DueAt
	case t.State == messages.Queued:
		return t.NotAfter
	case t.State.Waiting():
		if !t.NotAfter.IsZero() && t.NotAfter.Before(t.DueAt) {
			return t.NotAfter
		}
		return t.DueAt
	}
	return time.Time{}
}

// since is when the task entered the order; a replay or an old retry may count
// from its creation, because the row does not say more.
func since(t *messages.Task) time.Time {
	if t.State != messages.RetryWait && t.DueAt.After(t.CreatedAt) {
		return t.DueAt
	}
	return t.CreatedAt
}

func needOf(t *messages.Task) Need {
	n := Need{Tenant: t.Tenant, Region: t.Spec.GetRegion(), Provider: messages.ProviderOf(t.Spec.GetModel())}
	if caps := t.Spec.GetCapabilities(); len(caps) > 0 {
		caps = slices.Clone(caps)
		slices.Sort(caps)
		n.Capabilities = strings.Join(slices.Compact(caps), ",")
	}
	return n
}

// weight is what the task counts against the class's limit of bytes.
func weight(t *messages.Task) int64 { return int64(len(t.Spec.GetMessage())) }

func sessionID(tenant, id string) string { return tenant + "\x00" + id }
