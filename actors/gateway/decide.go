package gateway

import (
	"fmt"
	"slices"
	"time"

	"github.com/dash-fleet/dash/actors/supervise"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// decide is the life cycle as a pure function: one event changes the life, and
// the effects say what to do. An event that names another connection, process
// or try is ignored, so that repeating one is harmless. The states are those of
// messages.GatewayTransitions: a step that has no row there is refused.
func decide(l life, in input) (life, []effect) {
	d := decision{life: l, input: in}
	if d.state != messages.GatewayRemoved {
		d.take(in.event)
	}
	if d.asks {
		d.do(demand{})
	}
	if d.over {
		d.do(end{})
	}
	return d.life, d.effects
}

// decision is a life while one event is decided.
type decision struct {
	life
	input
	effects []effect
	asks    bool // the pool's owner is to hear of it
	over    bool
}

func (d *decision) do(e effect) { d.effects = append(d.effects, e) }

func (d *decision) take(e any) {
	switch e := e.(type) {
	case registered:
		d.become("register", "", "")
	case known:
		d.known()
	case tick:
		d.tick()
	case freed:
		d.freed()
	case judged:
		d.judge()
	case served:
		d.unwell = ""

	case hello:
		d.hello(e)
	case refused:
		d.refused(e)
	case recorded:
		d.recorded(e)
	case linkLost:
		d.linkLost(e)
	case settled:
		d.settled(e)
	case reconnect:
		if e.n == d.attempts && !d.linked && d.state == messages.GatewayUnreachable {
			d.connect()
		}

	case started:
		d.started(e)
	case exited:
		d.exited(e)
	case stopped:
		d.stopped(e)
	case reloaded:
		d.reloaded(e)
	case explained:
		d.managed.starts = d.managed.starts[min(e.deaths, len(d.managed.starts)):]

	case Drain:
		d.drain()
	case Resume:
		d.resume()
	case Restart:
		d.restart()
	case Configure:
		d.configure(&e.Gateway)
	case Remove:
		d.remove()
	}
}

// become takes the step of the state table that the event stands for; it is
// false, and nothing changes, if there is none. In the state that the event
// leads to, only the words are new.
func (d *decision) become(event, reason, next string) bool {
	return d.becomeWith(moved{event: event, reason: reason, next: next})
}

func (d *decision) becomeWith(m moved) bool {
	m.from = d.state
	to, ok := messages.Step(messages.GatewayTransitions, d.state, m.event)
	if !ok {
		d.do(refusedStep{from: d.state, event: m.event})
		return false
	}
	if m.to = to; to == m.from && m.reason == d.reason {
		return true
	}
	d.state, d.reason = to, m.reason
	d.do(m)
	return true
}

// home reports whether there is a process that this node may stop: none is
// somebody else's, or that of another home.
func (d *decision) home() bool { return d.daemon && d.away == "" }

func (d *decision) known() {
	d.loaded, d.asks = true, true
	if d.draining && d.held == 0 {
		d.drainedIfEmpty() // the last life may have ended before its process
		return
	}
	d.connect()
}

// freed goes on with what waited for the end of a claim.
func (d *decision) freed() {
	if d.state == messages.GatewayRecovering && d.open && d.recovering == 0 {
		d.ready()
		d.asks = true
	}
	d.drainedIfEmpty()
}

func (d *decision) tick() {
	if d.linked && d.now.Sub(d.linkedAt) >= d.timing.StableAfter {
		d.attempts = 0
	}
	d.judge()
	d.leave()
}

// ready also says when the gateway itself takes less than is configured.
func (d *decision) ready() {
	event := "hello"
	switch d.state {
	case messages.GatewayDraining, messages.GatewayDrained:
		event = "resume"
	case messages.GatewayRecovering:
		event = "settled"
	case messages.GatewayDegraded:
		event = "healthy"
	}
	d.become(event, d.limited, "")
}

// judge moves the gateway between READY and DEGRADED, and says why anew when
// another trouble followed the first.
func (d *decision) judge() {
	if d.state != messages.GatewayReady && d.state != messages.GatewayDegraded {
		return
	}
	switch {
	case d.paused != "":
		d.become("slow", d.paused, fmt.Sprintf(next.MendProvider, d.gw.ID))
	case d.misfit != "":
		d.become("slow", d.misfit, fmt.Sprintf(next.SetManagedConfig, d.gw.ID))
	case d.unwell != "":
		d.become("slow", d.unwell, fmt.Sprintf(next.SetManagedConfig, d.gw.ID))
	case d.reduced != "":
		d.become("slow", d.reduced, next.NothingToDoRecovers)
	case d.state == messages.GatewayDegraded:
		d.ready()
	}
}

// quarantine waits for an operator.
func (d *decision) quarantine(event, reason, advice string) {
	d.missed()
	if advice == "" {
		advice = next.MendCause
	}
	d.become(event, reason, fmt.Sprintf(next.ThenRestartGateway, advice, d.gw.ID))
	d.asks = true
}

// missed: it is of no use from now on.
func (d *decision) missed() {
	if d.since.IsZero() {
		d.since = d.now
	}
}

// unreachable waits and tries again.
func (d *decision) unreachable(reason, advice string, after time.Duration) {
	d.missed()
	d.attempts++
	delay := max(after, supervise.Delay(d.timing.ReconnectMin, d.timing.ReconnectMax, d.attempts, d.rand))
	event := "lost"
	if d.state == messages.GatewayStarting {
		event = "start_failed"
	}
	d.become(event, reason, advice)
	d.do(retry{after: min(delay, d.timing.ReconnectMax), n: d.attempts})
	d.asks = true
}

// recentStarts counts the starts inside the retry window.
func (d *decision) recentStarts() int {
	d.managed.starts = slices.DeleteFunc(slices.Clone(d.managed.starts), func(t time.Time) bool {
		return d.now.Sub(t) >= d.timing.RetryWindow
	})
	return len(d.managed.starts)
}
