package session

import (
	"slices"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// Time limits of the machine. Those of the gateway itself were measured: its
// own re-run starts 1 to 10 s after it is ready.
const (
	Grace          = 20 * time.Second // for a restarted gateway to show its own re-run
	StopLimit      = 60 * time.Second // for the gateway to confirm a stop
	DeadlineSlack  = 5 * time.Second  // the gateway's own time limit comes first: it is the cleaner end
	DefaultTimeout = 30 * time.Minute // run deadline of a task that names none
	WaitLimit      = 20 * time.Second // one agent.wait
	pollFirst      = 250 * time.Millisecond
	pollMax        = 5 * time.Second
	answerWait     = 10 * time.Second // a Send is asked about again when it stays unanswered
	minLeft        = 10 * time.Second // a run that is sent again has at least this long
	// RunningWithin is how long an accepted run may wait for its end before
	// RUNNING is written alone: nobody waits for that write, and a run that
	// ends sooner costs one write less.
	RunningWithin = 10 * time.Millisecond
	heldPoll      = 30 * time.Second
	storeRetry    = 500 * time.Millisecond
	lostAfter     = 4 // rounds that find no trace of an accepted run
)

// Run is one claimed task at its gateway's owner. It is a value: what is
// decided of a copy leaves the other as it was.
type Run struct {
	// Task and Session are the rows as last known durable; a cancel flag, and
	// the start of an accepted run, are known a little earlier. Session is nil
	// for a throw-away session.
	Task    messages.Task
	Session *messages.Session
	History string // replay text that came with the claim
	id      string // run id of the claim

	conn, lastConn Conn
	boot           string // of conn

	fresh    bool   // this owner epoch got the claim, so that it knows all sends of it
	wrote    bool   // bytes of this claim may have reached the gateway
	sends    uint8  // Sends that may have been written, at most 2
	sentBoot string // the only process that may hold the run; empty: unknown
	send     sendState
	unsent   bool // NotSent came
	refused  bool // Refused came for the only Send
	accepted bool // Accepted came, and RUNNING is not written yet

	ask    askState
	stale  bool // the answer to ask is worth nothing any more
	step   step
	read   *SessionRead // the answer of this round, not yet judged
	rounds uint8        // of questions on this connection, for their pauses
	misses uint8        // rounds without a trace of the run, while RUNNING
	track  string       // run to wait for while HELD: a re-run that was seen
	seen   bool         // the run's own text was the last of its session
	before string       // and came behind the turn of this run, empty: it was the first
	again  string       // the first re-run that was seen to have taken the run's own text

	lastBoot string    // of the last connection
	ended    string    // Connected.Ended
	lostAt   time.Time // when the last connection was lost
	since    time.Time // RECOVERING since then, without the time when it could not be reached
	onBoot   bool      // the process sentBoot may have got this run's frame
	rested   bool      // the last process did nothing for the run when its connection was lost
	asked    bool      // AskAlone is open, or was answered
	found    bool      // a process had something of a suspect, which was stopped from then on
	alone    bool      // Alone came on this connection
	died     bool      // another process ended while RECOVERING

	graceOver bool
	stop      messages.StopReason
	end       *ending
	answer    *messages.TaskResult // of a run that has ended, while its sub-agents are at work
	subAgents int                  // as last told while the task waited for them
	untold    uint8                // rounds in which the failure of one was not told
	watching  bool                 // HELD: only look, never send
	gone      bool                 // the claim was taken back
	keyFree   bool                 // gone, and its session key may be in use by a newer claim, or needs no fence
	fenced    bool                 // the ownership was lost

	op        int64
	commit    *Commit // under way, or waiting to be tried again
	storeWait bool
	keepRow   bool // the session's row moved on: do not write it
	armed     uint8
	over      bool
	rules     rules
}

type sendState uint8

const (
	sendNone sendState = iota
	sendAsked
	sendWritten
	sendAccepted
	sendInFlight
)

type askState uint8

const (
	askNone askState = iota
	askRead
	askWait
	askAbort
)

// step is where a round of questions on one connection stands.
type step uint8

const (
	stepFirst step = iota
	stepRead
	stepWait
	stepIdle
)

// rules switches rules off, for the search's own check that it can fail.
type rules struct {
	a       bool // one run id for every send of a claim
	c       bool // read before any send
	grace   bool // (d) wait for the gateway's own re-run
	anew    bool // (d) a new generation where the input left remains
	place   bool // (d) a re-run that took the interrupted text is known by its place
	boot    bool // a claim found without a boot id may be of another process
	proof   bool // (e) an abort that names nothing confirms nothing
	f       bool // a new generation after an abort
	refusal bool // only the refusal of the only send is evidence
	alone   bool // (g) a suspect runs alone
	quiet   bool // (g) a suspect's re-run is stopped before it is sent or ends
	planned bool // (g) the end of a process that was stopped is no death
}

// ending is how the run ended, before that is durable.
type ending struct {
	kind   Kind // Success, Failed, Aborted, TimedOut
	result *messages.TaskResult
	err    *messages.TaskError
	off    time.Duration // the model was not asked: the provider is switched off for so long
	// unconfirmed: the gateway did not say that the run stopped.
	unconfirmed bool
	// lost: nothing is known of a run that was accepted.
	lost bool
	// crashed: the task is what kills its gateway.
	crashed bool
}

// Start begins the run of a claimed task. fresh says that this owner epoch got
// the claim and wrote no byte of it; a task found at a take-over or restart
// counts as sent. The first Input of a Run is Connected or Disconnected.
func Start(task messages.Task, sess *messages.Session, history string, fresh bool) Run {
	r := Run{Task: task, Session: sess, History: history, id: task.RunID(), fresh: fresh, wrote: !fresh}
	if !fresh {
		r.onBoot = true // nobody knows better
		r.sends = 2
		r.sentBoot = task.BootID
	}
	if task.CancelRequested() {
		r.stop = messages.StopCancel
	}
	if task.Stopping != messages.StopNone && r.stop == messages.StopNone {
		r.stop = task.Stopping
	}
	r.watching = task.State == messages.Held
	return r
}

// Over reports whether the Run has ended: it was Released.
func (r *Run) Over() bool { return r.over }

// Ref names the claim.
func (r *Run) Ref() messages.ClaimRef {
	return messages.ClaimRef{Task: r.Task.ID, Claim: r.Task.Claim}
}

// Held reports whether the Run only waits for a proof and so takes no slot of
// the gateway's window.
func (r *Run) Held() bool { return r.watching }

// Owns reports whether an event that names this run id is about this Run: its
// own id or that of the gateway's own re-run.
func (r *Run) Owns(runID string) bool {
	return runID != "" && (runID == r.id || runID == r.Task.ObservedRunID || runID == r.track)
}

// sameBoot reports whether the present process is the one that may hold the run.
func (r *Run) sameBoot() bool { return r.conn != 0 && r.sentBoot != "" && r.sentBoot == r.boot }

// rerun is the gateway's own run of the task, empty while there is none.
func (r *Run) rerun() string {
	if r.track != "" {
		return r.track
	}
	return r.Task.ObservedRunID
}

// tracked is the run whose end is the task's end.
func (r *Run) tracked() string {
	if id := r.rerun(); id != "" {
		return id
	}
	return r.id
}

func (r *Run) timeout() time.Duration {
	if t := r.Task.Timeout(); t > 0 {
		return t
	}
	return DefaultTimeout
}

// allowance is the time that the run has at the present process: what is left
// of its deadline.
func (r *Run) allowance() time.Duration {
	t := r.timeout()
	if r.Task.Active == 0 {
		return t
	}
	return min(t, max(t-r.Task.Active, minLeft))
}

// used is the time that the claim's run was at work on living processes. One
// that is gone was so until its connection was lost, as far as anybody knows.
func (r *Run) used(now time.Time) time.Duration {
	if r.Task.ActiveSince.IsZero() {
		return r.Task.Active
	}
	if r.elsewhere() {
		now = r.lostAt
	}
	return r.Task.Active + max(0, now.Sub(r.Task.ActiveSince))
}

// elsewhere reports whether the only process that may have held the run is
// gone and another one answers.
func (r *Run) elsewhere() bool { return r.conn != 0 && r.sentBoot != "" && r.sentBoot != r.boot }

// trace is what a SessionRead tells of the Run.
type trace struct {
	taken, last, pending bool
	took                 string // the re-run that has, or had, the run's text in its own
	lost                 bool   // an earlier one that is gone took the text with it
	reply                *messages.TaskResult
	late                 []string
	active               bool   // the run itself
	rerun                string // an active run of the gateway's own
	busy                 bool   // something runs or is about to
}

// look judges a SessionRead. A session runs one task at a time and a key is
// never used again, so every turn after the run's own is the gateway's re-run
// of it.
func (r *Run) look(s *SessionRead) trace {
	t := trace{pending: slices.Contains(s.Pending, r.id), busy: s.Busy || s.AbortedLastRun || len(s.ActiveRuns) > 0 || r.attends(s)}
	for i, turn := range s.Turns {
		if turn.RunID == r.id {
			t.taken, t.last, t.reply, t.late = true, i == len(s.Turns)-1 && turn.Bare, nil, nil
		}
		if t.taken {
			t.hear(turn)
		}
	}
	if turns := r.merged(s.Turns); !t.taken && len(turns) > 0 {
		t.took = turns[0].RunID
		if t.lost = r.textLost(s, turns); !t.lost {
			t.taken = true
			t.hear(turns[0])
		}
	}
	if r.answer != nil { // nothing of the run is left to be done
		t.reply = withLate(r.answer, t.late)
		return t
	}
	t.reply = withLate(t.reply, t.late)
	t.active = slices.Contains(s.ActiveRuns, r.id)
	if t.taken && !t.active && len(s.ActiveRuns) > 0 {
		t.rerun = begun(s.ActiveRuns[len(s.ActiveRuns)-1], s.Turns)
	}
	return t
}

// begun is a re-run that has its place in the transcript, empty before that: a
// gateway lists one that it has not begun, and may end before it does.
func begun(id string, turns []Turn) string {
	if slices.ContainsFunc(turns, func(t Turn) bool { return t.RunID == id }) {
		return id
	}
	return ""
}

// textLost reports whether a re-run was asked without the task's text. The one
// that takes the text in has it in its prompt only: when it is cut off, too,
// the next re-run asks the model to go on with nothing (OpenClaw 2026.8.2), and
// what comes of it is no answer to the task.
func (r *Run) textLost(s *SessionRead, merged []Turn) bool {
	first := merged[0]
	if id := r.rerun(); id != "" && first.RunID != id || r.again != "" && r.again != first.RunID {
		return true
	}
	return first.Reply == nil && (len(merged) > 1 || len(s.ActiveRuns) > 0 && !slices.Contains(s.ActiveRuns, first.RunID))
}

// merged are the turns of the gateway's re-runs in a transcript without the
// run's own turn: a re-run may take the interrupted text, and its mark, into
// its own (OpenClaw 2026.8.2). They are told by the id of a re-run that was
// seen; in a throw-away session by there being any, as nobody else ran in it;
// in another session by their place, if the run's own turn was seen there.
func (r *Run) merged(turns []Turn) []Turn {
	if id := r.rerun(); id != "" {
		if i := slices.IndexFunc(turns, func(t Turn) bool { return t.RunID == id }); i >= 0 {
			return turns[i:]
		}
	}
	switch {
	case r.sameBoot() || r.rules.place:
		return nil
	case r.Task.Session == "" || r.seen && r.before == "":
		return turns
	case !r.seen:
		return nil
	}
	i := slices.IndexFunc(turns, func(t Turn) bool { return t.RunID == r.before })
	if i < 0 {
		return nil
	}
	return turns[i+1:]
}

// remember keeps where the run's own turn is while nothing follows it. Behind a
// turn without a mark it has no place that could be found again.
func (r *Run) remember(s *SessionRead) {
	n := len(s.Turns)
	if n == 0 || s.Turns[n-1].RunID != r.id || !s.Turns[n-1].Bare {
		return
	}
	r.seen, r.before = n == 1 && !s.More, ""
	if n > 1 && s.Turns[n-2].RunID != "" {
		r.seen, r.before = true, s.Turns[n-2].RunID
	}
}
