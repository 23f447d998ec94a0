package session

import (
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// Effect is something to do. The set is closed. Effects are carried out in
// order; frames to the gateway leave in that order on the connection named,
// or not at all.
type Effect interface{ effect() }

// Send writes the run's `agent` frame on Conn and nowhere else. It is answered
// by Sent or NotSent, then by Answers.
type Send struct {
	Conn       Conn
	RunID      string
	SessionKey string
	Message    string
	Model      string
	Timeout    time.Duration
	// Replay says that the session's history goes before the message. History
	// is that text if the claim brought it; else the sender reads the
	// session's transcript.
	Replay  bool
	History string
}

// ReadSession reads a session's row (sessions.list) and transcript.
type ReadSession struct {
	Conn Conn
	Key  string
}

// Wait asks for the end of a run (agent.wait) for at most Timeout.
type Wait struct {
	Conn    Conn
	RunID   string
	Timeout time.Duration
}

// Abort stops whatever runs or is pending in a session (sessions.abort, with
// clearQueued).
type Abort struct {
	Conn Conn
	Key  string
}

// Arm starts a timer; it replaces one of the same kind.
type Arm struct {
	Timer TimerKind
	After time.Duration
}

// Disarm stops a timer.
type Disarm struct{ Timer TimerKind }

// Commit makes a change of the task durable under the gateway's fence. At most
// one is under way; it is answered by Committed with its Op.
type Commit struct {
	Op int64
	persistence.TaskUpdate
	// Via is a state that the task has passed on the way without a write of its
	// own, so that the event log tells of it; zero: none.
	Via messages.TaskState
	// Session is written in the same step if its stored generation is
	// FromGeneration; nil: unchanged.
	Session        *messages.Session
	FromGeneration int64
	Reason         string // for the event log

	// unsure: the run may go on all the same, so its key has to be fenced.
	unsure bool
}

// Ended reports to the pool's owner that the claim is over. It is durable.
type Ended struct{ *messages.Ended }

// Returned reports that the claim was certainly not executed.
type Returned struct{ messages.Returned }

// SessionChanged reports a durable change of the session while the claim goes on.
type SessionChanged struct{ messages.SessionChangedByG }

// Proof reports that a HELD task was executed with success. Task is the row
// that the pool's owner may write.
type Proof struct{ Task messages.Task }

// Fence asks that the session key be aborted, with clearQueued, once on the
// next connection to every boot that may hold it, before the gateway gets work
// of that session. Nothing more will come from this Run about it. Dispose: it is
// a throw-away session whose task goes on elsewhere, so that nobody wants it.
type Fence struct {
	Key     string
	Dispose bool
}

// DeleteSession asks for the removal of a throw-away session whose task or
// attempt has ended.
type DeleteSession struct{ Key string }

// Suspected says that the task may be what kills the gateway: it takes no other
// work until this one is over.
type Suspected struct{}

// AskAlone asks for the gateway to itself; it is answered by Alone on the same
// connection, or never.
type AskAlone struct{}

// Release ends the Run: every later input is ignored.
type Release struct{}

func (Send) effect()           {}
func (ReadSession) effect()    {}
func (Wait) effect()           {}
func (Abort) effect()          {}
func (Arm) effect()            {}
func (Disarm) effect()         {}
func (*Commit) effect()        {}
func (Ended) effect()          {}
func (Returned) effect()       {}
func (SessionChanged) effect() {}
func (Proof) effect()          {}
func (Fence) effect()          {}
func (DeleteSession) effect()  {}
func (Suspected) effect()      {}
func (AskAlone) effect()       {}
func (Release) effect()        {}
