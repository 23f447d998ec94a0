package session

import (
	"time"

	"github.com/dash-fleet/dash/messages"
)

// Conn numbers the connections of one gateway owner. A later connection has a
// greater number; 0 is no connection.
type Conn int64

// Input is one thing that happened, with the time and the random number that
// the decision may use.
type Input struct {
	Now   time.Time
	Rand  float64 // uniform in [0,1), spreads a retry's delay
	Event Event
}

// Event is what happened. The set is closed. An event that names a connection
// which is not the present one is ignored.
type Event interface{ event() }

// Connected: the gateway answers on a new connection, and its boot id was
// written under the owner's fence. No event of an older connection counts any
// more. A Run that was just started gets one too, or a Disconnected.
type Connected struct {
	Conn   Conn
	BootID string
	// Ended is the last process whose end was no crash: Dash stopped it. One that
	// says goodbye by itself counts as any other end: a task may make it do so.
	Ended string
}

// Disconnected: the connection ended. It comes after every Sent and NotSent of
// that connection. Conn 0 tells a Run that was just started that there is none.
type Disconnected struct{ Conn Conn }

// Sent: bytes of the Send on that connection may have left.
type Sent struct{ Conn Conn }

// NotSent: certainly no byte of the Send on that connection left or will leave.
type NotSent struct{ Conn Conn }

// Kind says what an answer, or a wait, tells of a run.
type Kind uint8

// Kinds of an Answer and a WaitAnswer.
const (
	Accepted Kind = iota + 1 // the gateway took the run; the end follows on this connection
	InFlight                 // it had the run already; the end is not told here
	Success                  // Result is set
	Failed                   // Error is set; the run, or the request, is over
	Aborted                  // somebody aborted the run
	TimedOut                 // the run hit its time limit
	Refused                  // before accept, by a gateway that takes no work now (draining, suspended, full)
	Open                     // WaitAnswer only: running, queued, unknown or forgotten, which a gateway cannot tell apart
)

// Answer is an answer to the Send on that connection, or an event that tells
// the end of its run.
type Answer struct {
	Conn   Conn
	RunID  string // must be the Run's own
	Kind   Kind
	Result *messages.TaskResult
	Error  *messages.TaskError
	// Off comes with Failed: the gateway did not ask the model, because it has
	// switched the provider off, and goes on so for this long.
	Off time.Duration
	// Vague comes with Failed: the words fit nothing that is known. Of a run that
	// was sent more than once they may mean that it had ended before.
	Vague bool
	// Spawned comes with Success: sub-agents that the run has started. They bring
	// what they find to the session in turns of their own.
	Spawned int
}

// WaitAnswer answers a Wait.
type WaitAnswer struct {
	Conn   Conn
	RunID  string // as in the Wait
	Kind   Kind   // Open, or an end
	Result *messages.TaskResult
	Error  *messages.TaskError
	Off    time.Duration // as in Answer
}

// AbortAnswer answers an Abort. Runs are the runs that it ended.
type AbortAnswer struct {
	Conn Conn
	Runs []string
}

// AskFailed answers a ReadSession, Wait or Abort that got an error, or no
// answer in time.
type AskFailed struct{ Conn Conn }

// SessionRead answers a ReadSession with the session's row and transcript.
type SessionRead struct {
	Conn       Conn
	Key        string // as in the ReadSession
	ActiveRuns []string
	// Busy: status is running or queued, which may be a re-run that is pending.
	Busy           bool
	AbortedLastRun bool // a re-run is going to follow
	// Turns are the user texts of the transcript's tail, oldest first; More says
	// that there are older ones.
	Turns []Turn
	More  bool
	// Pending are runs whose input was accepted and is not in the transcript.
	Pending []string
	// SubAgents are at work for the session, or their results are on their way.
	SubAgents int
	// FailedSubAgents are those of whose failure the session was not told yet.
	FailedSubAgents int
}

// Turn is a user text of the transcript and what follows it up to the next.
type Turn struct {
	RunID string // from its "<run id>:user" mark, empty without
	// Reply is the last assistant text that is a finished reply, nil without.
	Reply *messages.TaskResult
	// Bare: nothing at all follows the user text.
	Bare bool
	// Late is what the agent made of results that its sub-agents brought later, in
	// runs of the gateway's own, whose user texts are not in the transcript.
	Late []string
}

// RunEnded: an event said that the run is over, without its result.
type RunEnded struct {
	Conn  Conn
	RunID string
}

// TimerKind names one of a Run's timers.
type TimerKind uint8

// Timers of a Run. Each is armed at most once at a time.
const (
	PollTimer     TimerKind = iota + 1 // ask the gateway again
	GraceTimer                         // a restarted gateway had time to show its own re-run
	DeadlineTimer                      // the run deadline
	StopTimer                          // a stop stays unconfirmed
	StoreTimer                         // commit again
	RunningTimer                       // write RUNNING
)

// Alone: the gateway has nothing else to do on that connection, and gets
// nothing until the run is over.
type Alone struct{ Conn Conn }

// Fired: a timer that was armed and not disarmed went off.
type Fired struct{ Timer TimerKind }

// StopRequested: the task's cancel flag is durable.
type StopRequested struct {
	At     time.Time
	Reason string
}

// CommitStatus is the fate of a Commit.
type CommitStatus uint8

// Fates of a Commit.
const (
	CommitOK CommitStatus = iota + 1
	CommitConflict
	CommitFenced
	CommitFailed // nothing was kept; try again later
)

// Committed answers a Commit.
type Committed struct {
	Op      int64
	Status  CommitStatus
	Current *messages.Task // CommitConflict: the stored row
}

// Withdrawn: the pool's owner took the claim back. Held says that the task
// waits HELD for a proof of success or for an operator.
type Withdrawn struct {
	Claim int64
	Held  bool
}

func (Connected) event()     {}
func (Disconnected) event()  {}
func (Sent) event()          {}
func (NotSent) event()       {}
func (Answer) event()        {}
func (WaitAnswer) event()    {}
func (AbortAnswer) event()   {}
func (AskFailed) event()     {}
func (SessionRead) event()   {}
func (RunEnded) event()      {}
func (Alone) event()         {}
func (Fired) event()         {}
func (StopRequested) event() {}
func (Committed) event()     {}
func (Withdrawn) event()     {}
