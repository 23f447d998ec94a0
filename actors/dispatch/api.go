package dispatch

import (
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// The commands a pool's root takes. Each is answered once on Reply, which must
// have room for one answer: the actors never wait for a reader. Use a Client
// unless the caller is an actor itself.

// Submit adds a task. The caller sets ID, Tenant, Class, Session, Spec, DueAt,
// NotAfter and CreatedAt; the pool's owner sets the rest.
type Submit struct {
	Task     messages.Task
	IdemKey  string
	IdemHash []byte
	Reply    chan<- SubmitReply
}

// SubmitReply answers Submit. Without Err the task is durable and in the order.
type SubmitReply struct {
	Task messages.Task
	// Existing: an earlier request with the same idempotency key made the task.
	Existing bool
	Err      error
}

// Cancel asks for a task to be cancelled. The answer comes when the flag is
// durable, for a waiting task when it is CANCELLED.
type Cancel struct {
	Tenant, Task, Reason string
	Reply                chan<- TaskReply
}

// Replay puts a dead letter back into the order. Task is the row as read; By names
// the request, empty for none.
type Replay struct {
	Task  messages.Task
	By    string
	Reply chan<- SubmitReply
}

// ReleaseAction says what becomes of a held task.
type ReleaseAction string

// Values of ReleaseAction.
const (
	ReleaseRequeue ReleaseAction = "requeue"
	ReleaseFail    ReleaseAction = "fail"
)

// Release ends the wait of a held task.
type Release struct {
	Tenant, Task string
	Action       ReleaseAction
	Reply        chan<- TaskReply
}

// TaskReply answers Cancel and Release.
type TaskReply struct {
	Task messages.Task
	Err  error
}

// OpenSession creates a session, or returns it when this pool has it already.
type OpenSession struct {
	Tenant, Session string
	Labels          map[string]string
	Reply           chan<- SessionReply
}

// CloseSession ends a session that has no open task.
type CloseSession struct {
	Tenant, Session string
	Reply           chan<- SessionReply
}

// MoveSession binds a session to another gateway. It waits for the running
// turn, at most 10 minutes; Force takes the turn back as on_unknown says.
type MoveSession struct {
	Tenant, Session string
	Gateway         string // empty: wherever there is room
	Force           bool
	Reply           chan<- SessionReply
}

// UnparkSession lets a parked session work again, with a new generation.
type UnparkSession struct {
	Tenant, Session string
	Reply           chan<- SessionReply
}

// RetireSessions closes those of the sessions that nobody has used since
// UnusedSince, and removes those that are closed since ClosedSince; a zero time
// leaves them. The sessions are as somebody read them from the store: the pool's
// owner decides, and leaves what has an open task or is being used.
type RetireSessions struct {
	Sessions                 []messages.Session
	UnusedSince, ClosedSince time.Time
	Reply                    chan<- Retired
}

// Due says whether a session would be closed or removed if it has no open task.
func (m *RetireSessions) Due(s *messages.Session) bool {
	_, due := retired(*s, m.UnusedSince, m.ClosedSince, s.UpdatedAt)
	return due
}

// Retired is how many were closed and removed, and why some could not be.
type Retired struct {
	Closed, Removed int
	Err             error
}

// SessionReply answers the session commands. A move is answered when it is
// durable that it will happen: State is MOVING while a turn runs.
type SessionReply struct {
	Session messages.Session
	Created bool
	Err     error
}

// SetPool replaces the pool's configuration at once.
type SetPool struct {
	Pool  messages.Pool
	Reply chan<- error
}

// QueueStats asks for the state of the queues.
type QueueStats struct{ Reply chan<- Stats }

// Stats are the true depths of a pool at one moment.
type Stats struct {
	Pool     string
	Classes  []ClassStats // in order of service
	Gateways []GatewayStats
	Open     int // tasks in no terminal state
	Sessions int // sessions in memory
}

// ClassStats are those of one class.
type ClassStats struct {
	Class     messages.Class
	Queued    int // in the order
	Scheduled int
	RetryWait int
	Held      int
	Running   int // at gateways
	// Starved says why no task of the class can ever start with the gateways
	// there are; empty: one can.
	Starved string
	// Admitted and Bytes are what counts against Limit: queued, scheduled,
	// waiting for a retry, and on their way in.
	Admitted int
	Bytes    int64
	Oldest   time.Time // since when the first one is in the order; zero: none
	Limit    messages.ClassLimit
}

// GatewayStats are what the pool knows of one gateway.
type GatewayStats struct {
	ID       string
	Window   int
	InFlight int
	Silent   bool      // no Demand for messages.DemandTimeout
	Away     time.Time // since when it is unreachable; zero: it is not
}

// Explain asks why tasks do not run, with one answer for all of them.
type Explain struct {
	Tasks []TaskRef
	Until time.Time // nobody waits for the answer any longer; zero: somebody does
	Reply chan<- map[string]Explanation
}

// TaskRef names a task to whoever may see it.
type TaskRef struct{ Tenant, ID string }

// Explanation says what keeps a waiting task. Nothing but its turn: it is empty.
type Explanation struct {
	BlockedBy string // id of the task of the same session that must end first
	Code      messages.WaitingCode
	Reason    string // the code in words, with what it is about
}

// reply never blocks: the channel has room for the one answer.
func reply[T any](ch chan<- T, v T) {
	if ch == nil {
		return
	}
	select {
	case ch <- v:
	default:
	}
}

func refuse(code messages.Code, message, next string) *messages.Error {
	return &messages.Error{Code: code, Message: message, NextStep: next}
}

func unavailable(err error) *messages.Error {
	return &messages.Error{
		Code: messages.CodeUnavailable, Message: "the store does not take writes now, so nothing was accepted",
		NextStep: next.SendSameAgain, RetryAfter: time.Second, Err: err,
	}
}

// interpret turns an operation's outcome that is neither OK nor expected into a refusal.
func interpret(o persistence.Outcome, err error) error {
	switch {
	case err != nil:
		return unavailable(err)
	case o.Status == persistence.Fenced:
		return &messages.Error{Code: messages.CodeUnavailable, Message: "another node owns this shard now",
			NextStep: next.SendSameAgain, RetryAfter: time.Second}
	case o.Status == persistence.Missing:
		return refuse(messages.CodeNotFound, "there is no such task", next.CheckID)
	}
	return &messages.Error{Code: messages.CodeConflict, Message: "the task changed meanwhile",
		NextStep: next.ReadAndDecide}
}
