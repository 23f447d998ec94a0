package session

import (
	"time"

	"github.com/dash-fleet/dash/messages"
)

// Rule (g): a task whose gateway died under it may be what kills it. After the
// second death its own re-run is stopped on the new process, and it is sent
// again only while it has the gateway to itself; if that dies then, the task
// is a dead letter. The neighbours in the gateway's other slots go the same
// way and succeed.

// bury closes the account of a process that is gone: the time that the run was
// at work there, and its death. One that was stopped, or announced its end, did not
// die, but not without end: a gateway that restarts again and again in good
// order starts the same run again and again, too.
func (d *decision) bury(t *messages.Task) {
	at := d.lostAt
	if !t.ActiveSince.IsZero() && !at.IsZero() {
		t.Active += max(0, at.Sub(t.ActiveSince))
	}
	t.ActiveSince = time.Time{}
	started := d.Task.State == messages.Running || d.accepted
	if !d.elsewhere() || !started && !d.onBoot {
		return
	}
	if planned := d.sentBoot == d.ended && !d.rules.planned; planned && !t.CountStop() {
		return
	}
	d.countDeath(t, started && t.Suspect()) // which is only sent alone
}

func (d *decision) countDeath(t *messages.Task, alone bool) {
	at := d.lostAt
	if at.IsZero() {
		at = d.now
	}
	t.CountDeath(at, alone)
	if t.Suspect() {
		d.do(Suspected{})
	}
}

// diedAgain: a process died that may have run the task by itself.
func (d *decision) diedAgain() bool {
	t := d.Task
	d.countDeath(&t, false)
	return d.change(t, nil, "boot_changed")
}

// quieten stops what the new process runs of the task by itself, and then asks
// for the gateway, or ends the task.
func (d *decision) quieten() bool {
	switch {
	case d.asked:
		return d.alone && d.toClaimed(true)
	case d.fresh && !d.found:
		return d.find()
	case d.read == nil && d.step == stepFirst && d.ask == askNone:
		d.ask = askAbort
		d.do(Abort{Conn: d.conn, Key: d.Task.SessionKey()})
		return false
	case d.read == nil:
		return d.question(stepRead)
	}
	t := d.takeRead()
	switch {
	case t.reply != nil && !t.busy:
		d.ends(Success, t.reply, nil)
	case t.busy:
		d.step = stepIdle
	case d.Task.Doomed():
		d.crashed()
	default:
		return d.askAlone()
	}
	return true
}

// find looks for the run at the new process before anything is stopped there;
// an owner that does not know what an earlier one has stopped cannot. A run that is not there is waited
// for as any other, for a process may run it by itself a while after its start;
// then it is sent in its session as that is. A new one would have it answered
// twice where a re-run has taken its text.
func (d *decision) find() bool {
	switch {
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
	case t.taken || t.lost || t.pending || t.busy:
		d.found, d.step = true, stepFirst
		d.disarm(GraceTimer)
	case !d.graceOver:
		d.step = stepIdle
	case d.Task.Doomed():
		d.crashed()
	default:
		return d.toClaimed(false)
	}
	return true
}

func (d *decision) crashed() {
	d.end = &ending{kind: Failed, crashed: true, err: &messages.TaskError{
		Code:    string(messages.CodeGatewayCrashed),
		Message: "its gateway died under it again and again: " + d.Task.Trials.Story() + "; it is not run again by itself",
	}}
}

// sendInTurn sends the run, a suspect only when it has the gateway to itself.
func (d *decision) sendInTurn() bool {
	if d.Task.Suspect() && !d.alone && !d.rules.alone {
		return d.askAlone()
	}
	d.sendRun()
	return true
}

func (d *decision) askAlone() bool {
	if d.asked {
		return false
	}
	d.asked = true
	if d.send == sendNone && d.Task.State == messages.Claimed {
		d.Task.ActiveSince = time.Time{} // to wait for its turn is no work
	}
	d.disarm(DeadlineTimer)
	d.do(AskAlone{})
	return false
}
