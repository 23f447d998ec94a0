package gateway

import (
	"log/slog"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// connect brings the gateway up: a managed one's process first. One that was
// drained stays so until it is resumed.
func (d *decision) connect() {
	switch {
	case d.linked, d.removed, d.managed.stopping, d.atRest():
	case d.away != "":
		d.stayAway()
	case d.daemon && !d.managed.up:
		d.startProcess()
	default:
		d.dial()
	}
}

// stayAway: the gateway's home is another node. To start or dial it here would
// be another process, in which the same work runs a second time. Its claims end
// by the pool's away policy, or when its home is the owner again.
func (d *decision) stayAway() {
	d.missed()
	d.conn++ // a dial under way is void
	d.become("elsewhere", d.away, d.awayNext)
	d.asks = true
}

// dial opens a connection. A gateway that was lost stays UNREACHABLE until it
// answers: a try is no news.
func (d *decision) dial() {
	if d.state != messages.GatewayUnreachable || d.attempts == 0 {
		d.become("connect", "", "")
	}
	d.conn++
	d.do(dial{conn: d.conn})
}

func (d *decision) refused(e refused) {
	switch {
	case e.conn != d.conn || d.linked:
	case e.permanent:
		d.quarantine("refused", e.reason, e.next)
	default:
		d.unreachable(e.reason, next.TriedAgainCheckURL, e.after)
	}
}

// hello: nothing is sent before the boot id is durable.
func (d *decision) hello(e hello) {
	if e.conn != d.conn || d.linked {
		return
	}
	d.linked, d.linkedAt, d.dropped = true, d.now, ""
	old := d.boot
	d.boot = e.boot
	if old != e.boot {
		d.do(forget{})
	}
	if old != "" && old != e.boot {
		d.deaths++
		if old != d.ended {
			d.do(died{})
		}
		d.note(slog.LevelInfo, "gateway was restarted since the last connection", slog.String("boot_id", e.boot), slog.String("old_boot_id", old))
		// The state changes with the boot id, in one write.
		if d.claims > 0 && d.becomeWith(moved{event: "boot_changed", reason: "the gateway process was restarted while it held tasks", conn: d.conn}) {
			return
		}
	}
	d.do(write{conn: d.conn})
}

// recorded: the boot id is durable, so sessions may look and send. The re-runs
// of claims held here do what a warm-up turn would.
func (d *decision) recorded(e recorded) {
	switch {
	case e.conn != d.conn || !d.linked:
	case e.err != nil:
		d.hangUp("the gateway's boot id could not be recorded: " + e.err.Error())
	default:
		d.do(greet{})
		d.do(settle{warm: d.managed.cold && d.claims == 0 && !d.draining})
	}
}

// hangUp ends the connection; linkLost follows.
func (d *decision) hangUp(why string) {
	d.dropped = why
	d.do(hangUp{why: why})
}

func (d *decision) linkLost(e linkLost) {
	if e.conn != d.conn || !d.linked {
		return
	}
	d.part()
	if announced(e.err) {
		d.ended = d.boot // in good order, whoever wanted it
	}
	if d.now.Sub(d.linkedAt) >= d.timing.StableAfter {
		d.attempts = 0
	}
	if d.removed || d.managed.stopping {
		return
	}
	reason := "the connection to the gateway was lost"
	switch {
	case d.dropped != "":
		reason = "Dash closed the connection: " + d.dropped
	case e.err != nil:
		reason = e.err.Error()
	}
	d.managed.up = false // Ensure looks whether it still lives
	if d.draining && d.held == 0 {
		d.drainedIfEmpty()
		return
	}
	d.unreachable(reason, next.TriedAgainCheckURL, 0)
}

func (d *decision) part() {
	d.linked, d.open = false, false
	d.do(part{conn: d.conn})
}

// settled: the gateway is fit for work.
func (d *decision) settled(e settled) {
	if e.conn != d.conn || !d.linked {
		return
	}
	if e.err != nil {
		d.hangUp("sessions left behind could not be stopped: " + e.err.Error())
		return
	}
	d.warmed(e.warm)
	d.open = true
	d.since = time.Time{}
	switch {
	case d.draining:
		if d.state != messages.GatewayDrained {
			d.toDraining()
		}
		d.drainedIfEmpty()
	case d.state == messages.GatewayRecovering && d.recovering > 0:
	default:
		d.ready()
		d.judge()
	}
	d.asks = true
	d.do(sweep{})
	d.refresh()
}

// warmed notes the end of a warm-up turn. One that failed is not repeated: the
// gateway is DEGRADED, with its words, until a run succeeds.
func (d *decision) warmed(w *warmth) {
	d.managed.cold = false
	if w == nil {
		return
	}
	d.unwell = ""
	if w.tidy != nil {
		d.note(slog.LevelInfo, "the session of the warm-up turn was not deleted", slog.Any("err", w.tidy))
	}
	took := slog.Float64("took_seconds", w.took.Seconds())
	if w.err == nil {
		d.note(slog.LevelInfo, "gateway process is warm", took)
		return
	}
	d.unwell = "its first turn failed: " + w.err.Error()
	d.note(slog.LevelWarn, "warm-up turn failed, the first run may be slow", took, slog.Any("err", w.err))
}

func (d *decision) note(level slog.Level, text string, attrs ...slog.Attr) {
	d.do(note{level: level, text: text, attrs: attrs})
}
