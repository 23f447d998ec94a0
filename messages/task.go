package messages

import (
	"strconv"
	"strings"
	"time"
)

// OnUnknown says what becomes of a task whose outcome at a lost gateway cannot
// be learnt.
type OnUnknown string

// Requeue executes at least once (the default), Hold at most once.
const (
	Requeue OnUnknown = "requeue"
	Hold    OnUnknown = "hold"
)

// Confirmation is what is known of a cancel's effect on the running agent.
type Confirmation uint8

// Values of Confirmation.
const (
	ConfirmNone Confirmation = iota // nothing was cancelled yet
	Confirmed                       // the gateway said that the run stopped, or nothing had been sent
	Unconfirmed                     // the gateway did not answer in time
)

// StopReason says why a task at a gateway is being stopped.
type StopReason uint8

// Values of StopReason.
const (
	StopNone StopReason = iota
	StopCancel
	StopDeadline
)

// Cancel is the durable cancel flag of a task.
type Cancel struct {
	RequestedAt time.Time // zero: not requested
	Reason      string
	Confirmed   Confirmation
}

// Task is one unit of work. It is a value: a copy is independent, except for
// Spec, Result, Error and Trials, which are never changed once set. Times are UTC,
// in microseconds; the zero time means "not set".
type Task struct {
	ID     string
	Tenant string
	Pool   string
	Class  Class

	// Seq orders tasks of one class in one pool; retries keep it, a replay or
	// a schedule coming due gets a new one.
	Seq   int64
	State TaskState

	// Claim grows by one at every assignment and never shrinks; a report that
	// carries an older claim is void.
	Claim int64
	// Attempt counts assignments that were burned; infrastructure failures
	// give theirs back.
	Attempt int32
	Replays int32
	// ReplayedBy names the request that replayed it last, at ReplayedAt, so that a
	// repetition of that request does nothing; empty: it had no Idempotency-Key.
	ReplayedBy string
	ReplayedAt time.Time

	// Session is the client's session id, empty for a throw-away session.
	Session string
	// Generation is the last part of the session key at the gateway.
	Generation int64
	// Gateway is the gateway of the current or last claim.
	Gateway string
	// BootID is the gateway process that the claim was made for, and then the one
	// that got the run; empty while nothing is claimed.
	BootID string
	// ObservedRunID is the id the gateway chose for its own re-run.
	ObservedRunID string
	// Stopping says why the task is CANCELLING.
	Stopping StopReason

	Spec   *TaskSpec
	Cancel Cancel
	Result *TaskResult
	Error  *TaskError
	// Brief says that the task was read without its long texts, nil: it is whole.
	// A store that is not asked for less always gives whole tasks.
	Brief *Brief
	// Trials is what it went through without burning an attempt, nil: nothing.
	Trials *Trials

	// Active is how long the claim's run was at work on living gateway
	// processes before ActiveSince, when the present one began with it; zero:
	// none is at work. The run deadline counts both.
	Active      time.Duration
	ActiveSince time.Time

	CreatedAt  time.Time
	DueAt      time.Time // SCHEDULED, RETRY_WAIT: when it becomes QUEUED; HELD: when it becomes a dead letter
	NotAfter   time.Time // it expires when not assigned before
	ClaimedAt  time.Time
	StartedAt  time.Time // the gateway accepted the current attempt, the first time
	FinishedAt time.Time
}

// Brief is how many bytes the texts have that were not read; 0: none was left out.
type Brief struct {
	Message int64 // of the spec
	Text    int64 // of the result
}

// replayHolds is how long a request that replayed a task is known by its name.
const replayHolds = 24 * time.Hour

// WasReplayedBy reports whether the request with that name, empty for none, is the
// one that replayed the task last.
func (t *Task) WasReplayedBy(name string, now time.Time) bool {
	return name != "" && t.ReplayedBy == name && now.Sub(t.ReplayedAt) < replayHolds
}

// RunID is the idempotency key of the task's current claim at a gateway:
// every send of one claim uses the same, a new claim has a new one.
func (t *Task) RunID() string { return RunID(t.ID, t.Claim) }

// RunID returns "<task>.<claim>".
func RunID(task string, claim int64) string { return task + "." + strconv.FormatInt(claim, 10) }

// Prefixes of the names of sessions at a gateway.
const (
	keyPrefix = "agent:main:dash:"
	ownPrefix = "task-" // of a throw-away session
)

// ReservedSession reports whether a client's session id would share its key at
// a gateway with a throw-away session: such an id is refused.
func ReservedSession(id string) bool { return strings.HasPrefix(id, ownPrefix) }

// SessionKey is the key of the task's session at the gateway. An old
// generation's key is never used again, so that late turns cannot leak in.
func (t *Task) SessionKey() string {
	if t.Session == "" {
		return keyPrefix + t.Tenant + ":" + ownPrefix + t.ID + ":" + strconv.FormatInt(t.Generation, 10)
	}
	return SessionKey(t.Tenant, t.Session, t.Generation)
}

// SessionOrOwn is the session id, or for a task without one the id of its
// throw-away session.
func (t *Task) SessionOrOwn() string {
	if t.Session != "" {
		return t.Session
	}
	return ownPrefix + t.ID
}

// SessionKey returns "agent:main:dash:<tenant>:<session>:<generation>".
func SessionKey(tenant, session string, generation int64) string {
	return keyPrefix + tenant + ":" + session + ":" + strconv.FormatInt(generation, 10)
}

// Timeout is the run deadline of one attempt.
func (t *Task) Timeout() time.Duration {
	return time.Duration(t.Spec.GetTimeoutSeconds()) * time.Second
}

// OnUnknown is the policy for a run whose outcome cannot be learnt.
func (t *Task) OnUnknown() OnUnknown {
	if OnUnknown(t.Spec.GetOnUnknown()) == Hold {
		return Hold
	}
	return Requeue
}

// CancelRequested reports whether somebody asked to cancel the task.
func (t *Task) CancelRequested() bool { return !t.Cancel.RequestedAt.IsZero() }

// Event returns the log entry that tells of the task's present state, reached from the given one.
func (t *Task) Event(from TaskState, at time.Time, reason string) *Event {
	var e struct { // in one piece: every task has several
		event Event
		data  Event_Task
		task  TaskChanged
	}
	c := &e.task
	c.Pool, c.Class, c.QueueSeq, c.State, c.Claim = t.Pool, t.Class.String(), t.Seq, t.State.String(), t.Claim
	c.Attempt, c.Session, c.Gateway, c.Reason, c.Error = t.Attempt, t.Session, t.Gateway, reason, t.Error
	if from != 0 {
		c.From = from.String()
	}
	if t.Claim > 0 {
		c.RunId = t.RunID()
	}
	e.data.Task = c
	e.event.TimeMicros, e.event.Tenant, e.event.Type = at.UnixMicro(), t.Tenant, "task.state"
	e.event.Subject, e.event.Data = t.ID, &e.data
	return &e.event
}

// Now is the present time as every stored time is kept: UTC, microseconds.
func Now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// Micros is t in microseconds since 1970, as times are kept; 0 for the zero time.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// FromMicros is the time that Micros made n of, in UTC.
func FromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}
