package gateway

import (
	"fmt"
	"reflect"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

func (d *decision) drain() {
	d.draining = true
	if !d.loaded {
		return // known goes on with it
	}
	switch d.state {
	case messages.GatewayReady, messages.GatewayDegraded, messages.GatewayRecovering:
		d.toDraining()
	}
	d.asks = true
	d.drainedIfEmpty()
}

func (d *decision) toDraining() {
	d.become("drain", "an operator asked for it", fmt.Sprintf(next.ResumeGateway, d.gw.ID))
}

// atRest: it is drained, and nobody has resumed it since.
func (d *decision) atRest() bool { return d.draining && d.state == messages.GatewayDrained }

// drainedIfEmpty ends a drain when the last run has ended, whatever the
// gateway's own state is: a dead one has nothing to wait for. A process is
// stopped whatever is known of it: one that starts, hangs or cannot be used too.
func (d *decision) drainedIfEmpty() {
	if !d.draining || !d.loaded || d.removed || d.held > 0 || d.managed.stopping || d.state == messages.GatewayDrained {
		return
	}
	if d.home() {
		d.stopProcess()
		return
	}
	d.drained()
}

func (d *decision) drained() {
	if !d.linked {
		d.conn++ // a dial under way is void
	}
	d.become("drained", "an operator drained it", fmt.Sprintf(next.ResumeGateway, d.gw.ID))
	d.asks = true
}

// resume opens it again; the pauses are lifted already.
func (d *decision) resume() {
	d.draining, d.asks = false, true
	d.judge()
	switch {
	case !d.loaded, d.managed.stopping: // it is started afterwards
	case d.linked && d.open:
		if d.state == messages.GatewayDraining || d.state == messages.GatewayDrained {
			d.ready()
		}
		d.do(sweep{})
		d.refresh() // what came during a drain that did not come to its end
	case d.state == messages.GatewayDrained:
		d.connect()
	}
}

// restart begins anew: out of quarantine, on a new connection, and for a
// managed gateway with a new process, once its runs have ended.
func (d *decision) restart() {
	d.attempts = 0
	d.managed.starts = nil
	switch {
	case d.home() && d.loaded && d.state != messages.GatewayDrained:
		d.stopProcess() // also one that does not answer, or is not known to run
	case d.linked:
		d.hangUp("an operator asked for a restart")
	case d.state == messages.GatewayQuarantined, d.state == messages.GatewayUnreachable,
		d.state == messages.GatewayConnecting: // what is being dialled may be the old address
		d.connect()
	}
}

// configure replaces the configuration; the window has it already.
func (d *decision) configure(gw *messages.Gateway) {
	old := d.gw
	d.gw = gw
	m := &d.managed
	changed := !reflect.DeepEqual(gw.Managed, old.Managed)
	if changed || gw.URL != old.URL {
		m.renewed = m.renewed || changed && (m.up || m.stopping)
		d.do(lift{}) // it may have another key now
	}
	if changed || gw.Managed != nil && gw.MaxConcurrency != old.MaxConcurrency {
		d.outdated()
		d.misfit = ""
	}
	drained := d.draining || d.state == messages.GatewayDrained // its next start reads it
	switch {
	case (gw.Home != old.Home || gw.Node != old.Node) && d.loaded && !d.linked && !drained && !d.removed:
		d.attempts, m.starts, m.stale = 0, nil, false // its new home starts it as it is wanted now
		d.connect()
	case gw.URL != old.URL || gw.Token != old.Token:
		d.restart()
	default:
		d.refresh()
	}
	d.asks = true
}

// leaveLimit bounds the wait for the end of a removed gateway's claims, and of
// what they left: a cancel that is under way may take the session's stop limit
// of 60 s.
const leaveLimit = 75 * time.Second

// remove ends the gateway. The pool's owner is told that it is gone, and
// withdraws its claims; their runs are stopped before the connection ends.
func (d *decision) remove() {
	if d.removed {
		return
	}
	d.removed, d.leaving = true, d.now
	d.asks = true
	if d.loaded && d.claims == 0 && !d.tidying {
		d.depart()
		return
	}
	d.do(sweep{})
}

// leave ends a removed gateway when its claims have ended and it is left tidy,
// and two ticks more for claims that were on their way.
func (d *decision) leave() {
	if !d.removed || d.managed.stopping {
		return
	}
	d.quiet++
	if !d.loaded || d.held > 0 || d.tidying {
		d.quiet = 0
	}
	late := d.now.Sub(d.leaving) >= leaveLimit
	if d.quiet > 2 && !d.unwatched {
		// Nobody will see a proof any more: the runs of HELD tasks are stopped, and
		// what was said there is kept.
		d.unwatched = true
		d.do(unwatch{})
		if d.claims > 0 && !late {
			d.quiet = 0
			return
		}
	}
	if d.quiet > 2 || late {
		d.depart()
	}
}

func (d *decision) depart() {
	if d.home() {
		d.stopProcess() // also one that is starting or does not answer
		return
	}
	d.gone()
}

func (d *decision) gone() {
	d.become("remove", "an operator removed it", "")
	d.over = true
}
