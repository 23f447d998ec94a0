package session

import (
	"cmp"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// settle does what follows from the facts. It never acts on a state that is
// not durable: it waits while a Commit is under way.
func (d *decision) settle() {
	for range 8 { // a step that only changes facts is followed by the next
		if !d.settleOnce() {
			return
		}
	}
}

// settleOnce takes one step and reports whether another one may follow.
func (d *decision) settleOnce() bool {
	switch {
	case d.over || d.commit != nil:
		return false
	case d.fenced:
		return d.release()
	case d.gone:
		if e := d.end; !d.keyFree && (e == nil || e.unconfirmed || e.lost) { // the run may go on
			d.do(Fence{Key: d.Task.SessionKey(), Dispose: d.Session == nil && !d.watching})
		}
		return d.release()
	case d.watching:
		return d.watch()
	case d.storeWait:
		return false
	case d.end != nil && d.end.kind == Success:
		return d.finish()
	case d.stop != messages.StopNone && d.Task.State != messages.Cancelling:
		if d.Task.State == messages.Claimed && d.untouched() {
			d.end = &ending{kind: Aborted}
			return d.finish()
		}
		if d.stop == messages.StopCancel || d.end == nil {
			return d.toCancelling()
		}
	}
	if d.end != nil {
		return d.finish()
	}
	if d.answer != nil && d.conn == 0 && !d.isArmed(PollTimer) {
		return d.settleFor()
	}
	d.watchDeadline()
	switch d.Task.State {
	case messages.Claimed:
		return d.claimed()
	case messages.Running:
		return d.running()
	case messages.Recovering:
		return d.recovering()
	case messages.Cancelling:
		return d.cancelling()
	}
	return d.release() // not a gateway owner's state: nothing to do here
}

// untouched: certainly no byte of this claim was or will be written.
func (r *Run) untouched() bool { return !r.wrote && r.send == sendNone }

func (d *decision) release() bool {
	d.over = true
	for t := PollTimer; t <= RunningTimer; t++ {
		d.disarm(t)
	}
	d.do(Release{})
	return false
}

// watchDeadline bounds every state in which the gateway may be at work.
func (d *decision) watchDeadline() {
	if d.isArmed(DeadlineTimer) || d.stop != messages.StopNone || d.untouched() || d.conn == 0 || d.asked && d.send == sendNone {
		return
	}
	left := d.allowance() + DeadlineSlack
	if d.Task.State == messages.Recovering {
		if d.since.IsZero() {
			d.since = d.now
		}
		d.arm(DeadlineTimer, left+Grace-d.now.Sub(d.since))
		return
	}
	if d.Task.ActiveSince.IsZero() {
		d.Task.ActiveSince = d.now
	}
	d.arm(DeadlineTimer, left-(d.used(d.now)-d.Task.Active))
}

func (d *decision) claimed() bool {
	switch {
	case d.refused:
		return d.giveBack("the gateway refused the run", true)
	case d.accepted && d.conn != 0 && d.isArmed(RunningTimer):
		return false // its end may come first, and is then written with it
	case d.accepted:
		return d.toRunning("", false)
	case d.untouched() && (d.conn == 0 || d.unsent):
		return d.giveBack("nothing was sent to the gateway", false)
	case d.untouched() && d.Task.Doomed():
		d.crashed()
		return true
	case d.untouched():
		return d.sendInTurn()
	case d.conn == 0 || d.asked && !d.alone && d.send == sendNone:
		return false
	case d.rules.c && d.send == sendNone && !d.unsent:
		return d.sendInTurn()
	case d.send == sendInFlight:
		return d.toRunning("", false)
	case !d.sameBoot() && !d.rules.c:
		return d.toRecovering()
	case d.read == nil:
		return d.question(stepRead)
	}
	t := d.takeRead()
	switch {
	case t.reply != nil && !t.busy:
		d.ends(Success, t.reply, nil)
	case t.active:
		d.send = sendInFlight
	case d.send == sendNone && !d.unsent:
		return d.sendInTurn()
	default:
		d.step = stepIdle
	}
	return true
}

func (d *decision) running() bool {
	switch {
	case d.conn == 0 || d.send == sendAccepted:
		return false // the end is told on this connection
	case !d.sameBoot():
		return d.toRecovering()
	case d.read == nil && d.answer != nil:
		return d.question(stepRead)
	case d.read == nil:
		return d.question(stepWait)
	}
	t := d.takeRead()
	switch {
	case t.reply != nil && !t.busy:
		d.ends(Success, t.reply, nil)
	case d.answer != nil:
		d.step = stepIdle
	case t.busy || t.pending:
		d.misses = 0
	case d.misses >= lostAfter:
		d.end = &ending{kind: Failed, lost: true}
	default:
		d.misses++
	}
	return true
}

func (d *decision) recovering() bool {
	switch {
	case d.conn == 0:
		return false
	case d.died:
		d.died = false
		return d.diedAgain()
	case d.Task.Suspect() && d.elsewhere() && !d.rules.quiet:
		return d.quieten()
	case d.Task.Doomed() && d.elsewhere():
		d.crashed()
		return true
	case d.rules.grace && d.read == nil && d.graceOver:
		return d.toClaimed(false)
	case d.rules.grace:
		d.graceOver = true
		return true
	case !d.graceOver && !d.isArmed(GraceTimer):
		d.arm(GraceTimer, Grace)
		return true
	case d.read == nil:
		return d.question(stepRead)
	}
	t := d.takeRead()
	switch {
	case t.reply != nil && !t.busy:
		d.ends(Success, t.reply, nil)
	case t.active:
		return d.toRunning("", false)
	case t.rerun != "":
		return d.toRunning(t.rerun, true)
	case t.busy || !d.graceOver:
		d.step = stepIdle
	default:
		return d.toClaimed((t.pending || t.lost || t.taken && !t.last) && !d.rules.anew)
	}
	return true
}

func (d *decision) cancelling() bool {
	if d.untouched() {
		d.end = &ending{kind: Aborted}
		return true
	}
	if !d.isArmed(StopTimer) {
		d.arm(StopTimer, StopLimit)
	}
	if d.conn == 0 {
		return false
	}
	elsewhere := d.elsewhere()
	if d.read == nil {
		if d.step == stepFirst && d.ask == askNone {
			d.ask = askAbort
			d.do(Abort{Conn: d.conn, Key: d.Task.SessionKey()})
			return false
		}
		if elsewhere {
			return d.question(stepRead)
		}
		return d.question(stepWait)
	}
	t := d.takeRead()
	switch {
	case t.reply != nil && !t.busy:
		d.ends(Success, t.reply, nil)
	case elsewhere && !t.busy:
		d.ends(Aborted, nil, nil)
	case elsewhere:
		d.step = stepIdle
	}
	return true
}

// watch looks for the end of a HELD task and never sends.
func (d *decision) watch() bool {
	switch {
	case d.end != nil && d.end.kind == Success:
		if !d.isArmed(PollTimer) {
			d.do(Proof{Task: d.succeeded()})
			d.arm(PollTimer, heldPoll)
		}
		return false
	case d.end != nil:
		return d.release() // no success: it stays HELD for an operator
	case d.conn == 0:
		return false
	case d.read == nil && d.sameBoot() || d.read == nil && d.track != "":
		return d.question(stepWait)
	case d.read == nil:
		return d.question(stepRead)
	}
	t := d.takeRead()
	if t.reply != nil && !t.busy {
		d.ends(Success, t.reply, nil)
	} else if !d.sameBoot() {
		d.track = t.rerun
	}
	return true
}

// question asks the next thing of the round, up to last, and then rests until
// the poll timer.
func (d *decision) question(last step) bool {
	if d.ask != askNone || d.isArmed(PollTimer) {
		return false
	}
	switch {
	case d.step <= stepRead:
		d.ask = askRead
		d.do(ReadSession{Conn: d.conn, Key: d.Task.SessionKey()})
	case d.step == stepWait && last == stepWait:
		d.ask = askWait
		d.do(Wait{Conn: d.conn, RunID: d.tracked(), Timeout: WaitLimit})
	default:
		d.step = stepIdle
		d.arm(PollTimer, d.pollAfter())
		d.rounds = min(d.rounds+1, 8)
	}
	return false
}

func (d *decision) pollAfter() time.Duration {
	if d.watching {
		return heldPoll
	}
	return min(pollFirst<<d.rounds, pollMax)
}

func (d *decision) takeRead() trace {
	d.count(d.read)
	t := d.look(d.read)
	d.remember(d.read)
	d.again = cmp.Or(d.again, t.took)
	d.read = nil
	return t
}

// sendRun asks for the run's frame on the present connection.
func (d *decision) sendRun() {
	d.send, d.step = sendAsked, stepIdle
	d.sends = min(d.sends+1, 2)
	d.sentBoot = d.boot
	s := Send{
		Conn: d.conn, RunID: d.id, SessionKey: d.Task.SessionKey(),
		Message: d.Task.Spec.GetMessage(), Model: d.Task.Spec.GetModel(), Timeout: d.allowance(),
	}
	if d.rules.a {
		s.RunID += "." + string('0'+rune(d.sends))
	}
	if d.Session != nil && d.Session.Replay {
		s.Replay, s.History = true, d.History
	}
	d.do(s)
	d.arm(PollTimer, answerWait)
}

// giveBack ends the Run with evidence that the claim was not executed.
func (d *decision) giveBack(reason string, refused bool) bool {
	d.do(Returned{messages.Returned{ClaimRef: d.Ref(), Reason: reason, Refused: refused, Trials: d.Task.Trials}})
	return d.release()
}
