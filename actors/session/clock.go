package session

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// clock keeps the machine's timers on one timer of the runtime, which lives as
// long as the actor: most timers are disarmed again before they are due.
type clock struct {
	ring  func() // tells the actor to look at what is due
	timer *time.Timer
	at    time.Time // when it rings, zero: not at all
	due   [RunningTimer + 1]time.Time
}

// rung tells one incarnation of the actor that the first timer may be due.
type rung struct{ of *session }

// arm starts a timer; it replaces one of the same kind.
func (c *clock) arm(k TimerKind, now time.Time, after time.Duration) {
	c.due[k] = now.Add(after)
	c.wind(now)
}

func (c *clock) disarm(k TimerKind, now time.Time) {
	c.due[k] = time.Time{}
	c.wind(now)
}

// reset disarms everything.
func (c *clock) reset() {
	c.due = [RunningTimer + 1]time.Time{}
	c.wind(time.Time{})
}

// next is the first armed timer, 0 if there is none.
func (c *clock) next() (first TimerKind) {
	for k, at := range c.due {
		if !at.IsZero() && (first == 0 || at.Before(c.due[first])) {
			first = TimerKind(k)
		}
	}
	return first
}

// wind makes the runtime's timer ring no later than the first of ours.
func (c *clock) wind(now time.Time) {
	k := c.next()
	switch {
	case k == 0:
		if !c.at.IsZero() {
			c.timer.Stop()
			c.at = time.Time{}
		}
	case c.at.IsZero() || c.due[k].Before(c.at):
		c.at = c.due[k]
		if c.timer == nil {
			c.timer = time.AfterFunc(c.at.Sub(now), c.ring)
			return
		}
		c.timer.Reset(c.at.Sub(now))
	}
}

// rang takes the next timer that is due off; 0: none is.
func (c *clock) rang(now time.Time) TimerKind {
	k := c.next()
	if k == 0 || c.due[k].After(now) {
		return 0
	}
	c.due[k] = time.Time{}
	return k
}

func (s *session) rung(ctx actor.Context, m rung) {
	if m.of != s {
		return
	}
	s.clock.at = time.Time{}
	now := time.Now()
	for k := s.clock.rang(now); k != 0; k = s.clock.rang(now) {
		s.decide(ctx, Fired{Timer: k})
	}
	s.clock.wind(now)
}
