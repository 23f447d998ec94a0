package session

import (
	"slices"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// take decides one input: the Run changes, and effects says what to do, in
// order. It touches nothing else. Inputs that name another connection, claim or
// commit are ignored, so repeating one is harmless. While a Commit is under way
// facts are kept and nothing else is decided.
func (d *decision) take(in Input) {
	d.now, d.rand, d.effects = in.Now, in.Rand, d.effects[:0]
	if !d.over {
		d.absorb(in.Event)
		d.settle()
	}
}

// decision is a Run while one input is decided. Facts first (absorb), then
// what follows from all facts together (settle): so no order of inputs loses a
// consequence.
type decision struct {
	Run
	now     time.Time
	rand    float64
	effects []Effect
}

func (d *decision) do(e Effect) { d.effects = append(d.effects, e) }

func (d *decision) absorb(e Event) {
	switch e := e.(type) {
	case Connected:
		d.connected(e)
	case Disconnected:
		if e.Conn == d.conn && d.conn != 0 {
			d.dropConn()
			d.outOfSight()
		}
	case Sent:
		if d.onConn(e.Conn) && d.send == sendAsked {
			d.written()
		}
	case NotSent:
		if d.onConn(e.Conn) && d.send == sendAsked {
			d.send, d.unsent = sendNone, true
			d.sends--
		}
	case Answer:
		d.answered(e)
	case SessionRead:
		if d.askAnswered(e.Conn, askRead, stepWait) && e.Key == d.Task.SessionKey() {
			d.read = &e
		}
	case WaitAnswer:
		d.waited(e)
	case AbortAnswer:
		d.aborted(e)
	case AskFailed:
		if d.onConn(e.Conn) && d.ask != askNone {
			d.ask, d.stale, d.step = askNone, false, stepIdle
		}
	case RunEnded:
		d.runEnded(e)
	case Alone:
		if d.onConn(e.Conn) && d.asked && !d.alone {
			d.alone = true
			d.hurry()
		}
	case Fired:
		d.fired(e.Timer)
	case StopRequested:
		d.stopRequested(e)
	case Committed:
		d.committed(e)
	case Withdrawn:
		d.withdrawn(e)
	}
}

// onConn reports whether an event belongs to the present connection.
func (d *decision) onConn(c Conn) bool { return c != 0 && c == d.conn }

func (d *decision) connected(e Connected) {
	if e.Conn <= d.lastConn {
		return
	}
	d.dropConn()
	if !d.since.IsZero() && !d.lostAt.IsZero() { // nothing could recover meanwhile
		d.since = d.since.Add(d.now.Sub(later(d.since, d.lostAt)))
	}
	d.ended = e.Ended
	if d.lastBoot != "" && d.lastBoot != e.BootID && d.lastBoot != e.Ended && d.Task.State == messages.Recovering && !d.rested {
		d.died = true
	}
	d.lastBoot = e.BootID
	d.conn, d.lastConn, d.boot = e.Conn, e.Conn, e.BootID
	if d.rules.boot && d.sentBoot == "" && d.wrote {
		d.sentBoot = e.BootID
	}
}

// dropConn forgets all that was true of the present connection only. A Send
// that was asked for and never denied counts as written.
func (d *decision) dropConn() {
	if d.send == sendAsked {
		d.written()
	}
	if d.conn != 0 {
		d.lostAt, d.rested = d.now, d.asked
	}
	d.asked, d.alone = false, false
	d.disarm(DeadlineTimer) // an unreachable gateway has a limit of its own
	d.conn, d.boot, d.send, d.unsent = 0, "", sendNone, false
	d.ask, d.stale, d.step, d.read = askNone, false, stepFirst, nil
	d.rounds, d.misses = 0, 0
	d.graceOver = false
	d.disarm(PollTimer)
	d.disarm(GraceTimer)
}

// written: from now on the process may be at work on the run.
func (d *decision) written() {
	d.send, d.wrote, d.onBoot = sendWritten, true, true
	if d.Task.ActiveSince.IsZero() {
		d.Task.ActiveSince = d.now
	}
}

// answered takes what the gateway said to the Send.
func (d *decision) answered(e Answer) {
	if !d.onConn(e.Conn) || e.RunID != d.id && !d.rules.a {
		return
	}
	if d.send == sendAsked {
		d.written()
	}
	switch e.Kind {
	case Accepted:
		d.send = sendAccepted
		d.begun()
	case InFlight:
		if d.send != sendAccepted {
			d.send = sendInFlight
		}
	case Refused:
		// Only the refusal of the claim's only send is evidence: a draining
		// gateway may refuse to repeat what it is running.
		if d.send == sendWritten {
			d.refused = d.fresh && d.sends == 1 || d.rules.refusal
			d.send, d.unsent = sendNone, !d.refused
		}
	case Failed:
		if e.Vague && (!d.fresh || d.sends > 1) {
			d.send = sendInFlight
			d.hurry() // the session tells
			return
		}
		d.failed(e.Error, e.Off)
	case Success:
		if e.Spawned > 0 {
			d.attend(e)
			return
		}
		d.ends(Success, e.Result, nil)
	default:
		d.ends(e.Kind, e.Result, e.Error)
	}
}

// failed ends the run, perhaps without a model call.
func (d *decision) failed(err *messages.TaskError, off time.Duration) {
	d.ends(Failed, nil, err)
	if e := d.end; e != nil && e.kind == Failed && e.err == err {
		e.off = off
	}
}

// begun: the gateway has taken the run. That is written with the next step of
// the task, or alone when none follows soon.
func (d *decision) begun() {
	if d.Task.State != messages.Claimed || d.accepted {
		return
	}
	d.accepted = true
	if d.Task.StartedAt.IsZero() {
		d.Task.StartedAt = d.now
	}
	d.Task.BootID = d.sentBoot
	d.arm(RunningTimer, RunningWithin)
}

// ends keeps the first end that is known.
func (d *decision) ends(k Kind, res *messages.TaskResult, err *messages.TaskError) {
	if d.end != nil && !(d.end.unconfirmed || d.end.lost) {
		return
	}
	switch k {
	case Success:
		if res == nil {
			res = &messages.TaskResult{}
		}
	case Failed:
		if err == nil {
			err = &messages.TaskError{Code: string(messages.CodeProvider), Message: "the run failed and the gateway did not say why", Retryable: true}
		}
	case Aborted, TimedOut:
	default:
		return
	}
	d.end = &ending{kind: k, result: res, err: err}
}

// askAnswered closes the question under way and moves the round on to next. It
// is false if there is no such question or its answer is too old to be of use.
func (d *decision) askAnswered(c Conn, kind askState, next step) bool {
	if !d.onConn(c) || d.ask != kind {
		return false
	}
	stale := d.stale
	d.ask, d.stale = askNone, false
	if !stale {
		d.step = next
	}
	return !stale
}

func (d *decision) waited(e WaitAnswer) {
	if !d.onConn(e.Conn) || d.ask != askWait {
		return
	}
	d.askAnswered(e.Conn, askWait, stepIdle)
	switch {
	case e.RunID != d.tracked() || d.answer != nil:
	case e.Kind == Failed:
		d.failed(e.Error, e.Off)
	default:
		d.ends(e.Kind, e.Result, e.Error)
	}
}

// aborted: a run id that the gateway names has ended there and has left a
// tombstone. Anything else is no proof, a frame may still be on its way.
func (d *decision) aborted(e AbortAnswer) {
	if !d.onConn(e.Conn) || d.ask != askAbort {
		return
	}
	d.askAnswered(e.Conn, askAbort, stepRead)
	own := slices.Contains(e.Runs, d.id)
	if own || d.rules.proof || d.sameBoot() && slices.Contains(e.Runs, d.tracked()) {
		d.ends(Aborted, nil, nil)
	}
}

// runEnded: the result is on its way on this connection, or was told to
// another one. Ask for it if it does not come.
func (d *decision) runEnded(e RunEnded) {
	if !d.onConn(e.Conn) || !d.Owns(e.RunID) || d.end != nil || d.Task.State == messages.Cancelling {
		return
	}
	if d.send == sendAccepted {
		d.send, d.step = sendInFlight, stepIdle
		d.arm(PollTimer, answerWait)
		return
	}
	d.hurry()
}

// hurry starts a round of questions now.
func (d *decision) hurry() {
	d.stale = d.ask != askNone
	d.step, d.read = stepFirst, nil
	d.disarm(PollTimer)
}

func (d *decision) fired(t TimerKind) {
	if d.armed&(1<<t) == 0 {
		return
	}
	d.armed &^= 1 << t
	switch t {
	case PollTimer:
		d.unsent = false
		d.hurry()
	case GraceTimer:
		d.graceOver = true
		d.hurry()
	case DeadlineTimer:
		if d.stop == messages.StopNone {
			d.stop = messages.StopDeadline
		}
	case StopTimer:
		if d.Task.State == messages.Cancelling && d.end == nil && !d.settleFor() {
			d.end = &ending{kind: Aborted, unconfirmed: true}
		}
	case StoreTimer:
		d.storeWait = false
	}
}

func (d *decision) stopRequested(e StopRequested) {
	if d.watching {
		return // a HELD task is the pool owner's
	}
	d.stop = messages.StopCancel
	if !d.Task.CancelRequested() {
		d.Task.Cancel.RequestedAt, d.Task.Cancel.Reason = e.At, e.Reason
		if e.At.IsZero() {
			d.Task.Cancel.RequestedAt = d.now
		}
	}
}

func (d *decision) withdrawn(e Withdrawn) {
	switch {
	case e.Claim != d.Task.Claim:
	case e.Held:
		d.hold(d.Task)
	default:
		d.gone = true
	}
}

// hold makes the Run a mere watcher of a task that is HELD.
func (d *decision) hold(row messages.Task) {
	d.Task = row
	d.Task.State = messages.Held
	d.watching = true
	if d.end != nil && d.end.unconfirmed {
		d.end = nil
	}
	d.settleFor()
	d.accepted = false
	for _, t := range []TimerKind{PollTimer, GraceTimer, DeadlineTimer, StopTimer, RunningTimer} {
		d.disarm(t)
	}
	d.hurry()
}

func (d *decision) arm(t TimerKind, after time.Duration) {
	d.armed |= 1 << t
	d.do(Arm{Timer: t, After: max(after, 0)})
}

func (d *decision) disarm(t TimerKind) {
	if d.armed&(1<<t) != 0 {
		d.armed &^= 1 << t
		d.do(Disarm{Timer: t})
	}
}

func (d *decision) isArmed(t TimerKind) bool { return d.armed&(1<<t) != 0 }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
