package openclawtest

import (
	"testing"
	"time"
)

// A timer that has fired waits for the gateway's lock and cannot be stopped any
// more: whoever holds the lock may end the run meanwhile.
func TestATimerThatFiredDuringTheEndOfItsRunDoesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	c := dial(t, b.g)
	c.startRun("r1", "s1", "[[delay=60000]] x", nil)
	eventually(t, "the model call", func() bool {
		b.g.mu.Lock()
		defer b.g.mu.Unlock()
		r := b.g.life.runs["r1"]
		return r != nil && r.state == stateModel
	})
	late := make(chan struct{}, 1)
	func() {
		b.g.mu.Lock()
		defer b.g.mu.Unlock()
		l := b.g.life
		r := l.runs["r1"]
		b.g.arm(l, r, 0, func() { late <- struct{}{}; b.g.answer(l, r) })
		fired := make(chan struct{})
		time.AfterFunc(20*time.Millisecond, func() { close(fired) })
		<-fired // and so has the run's, which now waits for the lock
		b.g.finish(l, r, aborted())
	}()
	c.must("health", nil)
	c.run("r2", "s2", "y", nil)
	select {
	case <-late:
		t.Error("the model answered after the run's end")
	default:
	}
}
