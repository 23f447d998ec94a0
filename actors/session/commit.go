package session

import (
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// change asks for a durable step of the task. Nothing follows before Committed.
func (d *decision) change(t messages.Task, s *messages.Session, reason string) bool {
	d.op++
	c := &Commit{
		Op: d.op, Reason: reason,
		TaskUpdate: persistence.TaskUpdate{Task: t, From: d.Task.State, FromClaim: d.Task.Claim},
	}
	if s != nil && !d.keepRow {
		s.UpdatedAt = d.now
		c.Session, c.FromGeneration = s, d.Session.Generation
	}
	if d.accepted && d.Task.State == messages.Claimed && t.State != messages.Running {
		c.Via = messages.Running
	}
	if e := d.end; e != nil && !t.State.AtGateway() {
		c.unsure = e.unconfirmed || e.lost
	}
	d.commit = c
	d.do(c)
	return false
}

func (d *decision) toRunning(observed string, started bool) bool {
	t := d.Task
	t.State, t.BootID, t.ObservedRunID = messages.Running, d.boot, observed
	if d.accepted {
		t.BootID = d.sentBoot // the connection may be gone already
	}
	if t.StartedAt.IsZero() {
		t.StartedAt = d.now
	}
	if started || t.ActiveSince.IsZero() {
		t.ActiveSince = d.now
	}
	reason := "accepted"
	if observed != "" {
		reason = "rerun_seen"
	}
	return d.change(t, nil, reason)
}

func (d *decision) toRecovering() bool {
	t := d.Task
	t.State, t.BootID = messages.Recovering, d.sentBoot
	d.died = false // what follows counts it
	d.bury(&t)
	return d.change(t, nil, "boot_changed")
}

// toClaimed goes back to CLAIMED after the grace time, to send the same run id
// again: in the same session, or in a new generation where the input's remains
// could lead or precede it.
func (d *decision) toClaimed(anew bool) bool {
	t := d.Task
	t.State, t.BootID, t.ObservedRunID = messages.Claimed, d.boot, ""
	var s *messages.Session
	if anew {
		t.Generation++
		s = d.nextGeneration()
		if s != nil {
			t.Generation = s.Generation
		}
	}
	reason := "grace_over"
	if d.alone {
		reason = "alone"
	}
	return d.change(t, s, reason)
}

func (d *decision) toCancelling() bool {
	t := d.Task
	t.State, t.Stopping, t.BootID = messages.Cancelling, d.stop, d.sentBoot
	return d.change(t, nil, "stop")
}

// nextGeneration is the session's row with a key that was never used; nil for
// a throw-away session.
func (d *decision) nextGeneration() *messages.Session {
	if d.Session == nil {
		return nil
	}
	s := *d.Session
	s.Generation++
	s.Replay = true
	return &s
}

func (d *decision) committed(e Committed) {
	if d.commit == nil || e.Op != d.commit.Op {
		return
	}
	c := d.commit
	d.commit = nil
	switch e.Status {
	case CommitOK:
		d.applied(c)
	case CommitFenced:
		d.fenced = true
	case CommitConflict:
		d.conflicted(c, e.Current)
	default:
		d.retryStore()
	}
}

func (d *decision) retryStore() {
	d.storeWait = true
	d.arm(StoreTimer, storeRetry)
}

// applied: the step is durable.
func (d *decision) applied(c *Commit) {
	flag := d.Task.Cancel
	from := d.Task
	d.Task = c.Task
	if d.Task.SessionKey() != from.SessionKey() {
		d.seen, d.before = false, ""
	}
	if !flag.RequestedAt.IsZero() {
		d.Task.Cancel.RequestedAt, d.Task.Cancel.Reason = flag.RequestedAt, flag.Reason
	}
	if c.Session != nil {
		d.Session = c.Session
	}
	d.keepRow, d.accepted = false, false
	d.disarm(RunningTimer)
	if !d.Task.State.AtGateway() {
		d.report(from.SessionKey(), c.Session, c.unsure)
		return
	}
	d.disarm(GraceTimer)
	d.disarm(DeadlineTimer) // each state has its own
	d.graceOver, d.rounds, d.misses = false, 0, 0
	d.sentBoot = d.Task.BootID
	if from.State != messages.Recovering {
		d.since = d.now
	}
	d.hurry()
	switch d.Task.State {
	case messages.Claimed:
		d.send, d.onBoot, d.again = sendNone, false, ""
		if c.Session != nil {
			d.do(SessionChanged{messages.SessionChangedByG{Session: *c.Session}})
		}
	}
}

// report tells the pool's owner that the claim is over and leaves the session
// key tidy.
func (d *decision) report(key string, s *messages.Session, unsure bool) {
	d.do(Ended{&messages.Ended{Task: d.Task, Session: s}})
	switch {
	case unsure:
		d.do(Fence{Key: key})
	case d.Session == nil && d.wrote:
		d.do(DeleteSession{Key: key})
	}
	d.release()
}

// conflicted: the stored row is not what the Run took it for.
func (d *decision) conflicted(c *Commit, row *messages.Task) {
	if row == nil || row.Claim != c.FromClaim {
		// A newer claim in the same key: an earlier commit of ours was kept
		// although its answer said otherwise. A fence would hit that claim.
		d.gone, d.keyFree = true, row == nil || row.SessionKey() == d.Task.SessionKey()
		return
	}
	if row.CancelRequested() && !row.State.Terminal() {
		d.stop = messages.StopCancel
	}
	switch {
	case row.State == c.From && c.Session != nil:
		d.Task.Cancel = row.Cancel
		d.keepRow = true // the session moved on; the task did not
	case row.State == c.From:
		d.retryStore()
	case row.State == messages.Held:
		d.hold(*row)
	case row.State.AtGateway():
		d.Task = *row // an earlier commit of ours whose answer was lost
		d.sentBoot = row.BootID
		d.hurry()
	case row.State.Terminal() || row.State == messages.RetryWait:
		key := d.Task.SessionKey()
		d.Task = *row
		d.report(key, nil, c.unsure)
	default:
		d.gone = true
	}
}
