package session

import (
	"fmt"

	"github.com/dash-fleet/dash/messages"
)

func (w *world) poolSteps(step stepper) {
	row := &w.row
	switch row.State {
	case messages.Queued:
		for i := range w.owners {
			if w.current(i) && w.owners[i].conn != 0 && int(row.Claim) < w.cfg.claims && !row.CancelRequested() {
				step(fmt.Sprintf("P claims for o%d", i), fair, func(c *world) string { c.claim(i); return "" })
			}
		}
	case messages.RetryWait:
		step("P queues again", fair, func(c *world) string { c.row.State = messages.Queued; return "" })
	case messages.Claimed:
		w.takeBackSteps(step)
	}
	if row.CancelRequested() && (row.State.Waiting() || row.State == messages.Held) {
		step("P cancels", fair, func(c *world) string {
			c.row.State, c.row.Cancel.Confirmed = messages.Cancelled, messages.Confirmed
			if row.State == messages.Held || c.excused == row.Claim && row.Claim > 0 {
				c.row.Cancel.Confirmed, c.excused = messages.Unconfirmed, row.Claim
			}
			return ""
		})
	}
	if w.left.cancels > 0 && !row.State.Terminal() && !row.CancelRequested() {
		step("cancel", unfair, func(c *world) string {
			c.left.cancels--
			c.row.Cancel.RequestedAt = t0
			return ""
		})
	}
	if a := w.assign; a >= 0 && w.owners[a].alive && w.owners[a].seen&(1<<row.Claim) == 0 && w.owners[a].run == nil {
		step("P assigns", fair, func(c *world) string {
			row, sess := c.assigned()
			return c.start(a, row, sess, true)
		})
	}
	w.awaySteps(step)
	for i := range w.owners {
		w.toldSteps(i, step)
	}
}

func (w *world) takeBackSteps(step stepper) {
	for i := range w.owners {
		o := &w.owners[i]
		if o.returned == w.row.Claim && o.alive && (w.owners[i].epoch == w.epoch[o.gw] || w.cfg.off.pFence) {
			step("P takes the claim back", fair, func(c *world) string {
				c.row.State = messages.Queued
				c.row.Attempt--
				c.owners[i].returned = 0
				return ""
			})
		}
	}
}

// awaySteps: the gateway has no connection for longer than its pool allows.
func (w *world) awaySteps(step stepper) {
	s := w.row.State
	if s != messages.Claimed && s != messages.Running && s != messages.Recovering {
		return
	}
	gi, wrongHost := int(w.row.Gateway[1]-'0'), false
	for i := range w.owners {
		if w.owners[i].gw == gi && w.current(i) {
			if w.owners[i].conn != 0 {
				return
			}
			wrongHost = w.owners[i].away
		}
	}
	f, cost := unfair, uint8(1)
	if wrongHost { // nothing else ends it until the home comes back
		f, cost = slow, 0
	}
	if w.left.aways < cost {
		return
	}
	step("P gives the gateway up", f, func(c *world) string {
		c.left.aways -= cost
		if c.row.OnUnknown() == messages.Hold {
			c.row.State = messages.Held
			return ""
		}
		c.row.State, c.excused = messages.Queued, c.row.Claim
		c.row.Attempt--
		return ""
	})
}

// toldSteps are what P tells an owner about a claim, repeated until it is so.
func (w *world) toldSteps(i int, step stepper) {
	o := &w.owners[i]
	if !o.alive || o.run == nil {
		return
	}
	r, row := o.run, &w.row
	same := r.Task.Claim == row.Claim
	if same && row.CancelRequested() && row.State.AtGateway() && r.stop != messages.StopCancel {
		step(fmt.Sprintf("P tells o%d to stop", i), fair, func(c *world) string { return c.decide(i, StopRequested{At: t0}) })
	}
	held := same && row.State == messages.Held
	gone := !same || row.State == messages.Queued || row.State.Terminal() && r.watching
	if w.current(i) && (held && !r.watching || gone && !r.gone) { // an old owner learns it from its fence
		step(fmt.Sprintf("P withdraws from o%d", i), fair, func(c *world) string {
			return c.decide(i, Withdrawn{Claim: r.Task.Claim, Held: held})
		})
	}
	if o.proof && held {
		step("P takes the proof", fair, func(c *world) string {
			c.row.State = messages.Succeeded
			return ""
		})
	}
}
