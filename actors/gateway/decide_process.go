package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// startProcess adopts or starts the daemon; too many starts inside the retry
// window end in quarantine.
func (d *decision) startProcess() {
	if d.managed.starting {
		d.sayStarting()
		return
	}
	if n := d.recentStarts(); n >= d.timing.RetryLimit {
		d.giveUp(n)
		return
	}
	d.sayStarting()
	d.managed.starting = true
	d.conn++ // a dial under way is void: its process is not up
	d.do(start{})
}

// giveUp tells of the last failure where that is known: a start that failed
// before there was a process has written no log.
func (d *decision) giveUp(n int) {
	within := d.timing.RetryWindow
	if e := d.managed.failed; e != nil {
		d.quarantine("give_up", fmt.Sprintf("the gateway process was started %d times within %s in vain; the last time: %s", n, within, e.Reason), e.NextStep)
		return
	}
	file := "gateways/" + d.gw.ID + "/gateway.log in the data folder"
	if m := d.gw.Managed; m != nil && m.StateDir != "" {
		file = m.StateDir + "/gateway.log"
	}
	d.quarantine("give_up", fmt.Sprintf("the gateway process ended %d times within %s", n, within), fmt.Sprintf(next.ReadGatewayLog, file))
}

// sayStarting: a process that is known to live is looked for, not started. One
// that does not answer stays UNREACHABLE for as long as that takes.
func (d *decision) sayStarting() {
	pid := d.managed.endpoint.PID
	switch {
	case d.state != messages.GatewayUnreachable || pid == 0 && !d.managed.hung:
		d.become("start", "", "")
	case pid == 0:
		d.become("lost", "its process runs but does not answer", next.WaitOrRestartGateway)
	default:
		d.become("lost", fmt.Sprintf("its process (pid %d) runs but does not answer", pid), next.WaitOrRestartGateway)
	}
}

// started is the end of a start, or of a look for the process that lives.
func (d *decision) started(e started) {
	m := &d.managed
	m.starting = false
	var failed *StartError
	known := errors.As(e.err, &failed)
	m.hung, m.failed = known && failed.Alive, failed
	switch {
	case e.err == nil:
		d.running(e.endpoint)
		return
	case d.removed || m.stopping || d.atRest():
		return // its stop interrupted the start and goes on by itself
	}
	d.countStart()
	switch {
	case known && failed.Permanent:
		d.quarantine("give_up", failed.Reason, failed.NextStep)
	case known && failed.Alive:
		d.unreachable("its process does not answer: "+failed.Reason, failed.NextStep, 0)
	case known && failed.NextStep != "":
		d.unreachable("the gateway process did not start: "+failed.Reason, failed.NextStep, 0)
	default:
		d.unreachable("the gateway process did not start: "+e.err.Error(), next.TriedAgainCheckURL, 0)
	}
}

func (d *decision) countStart() {
	d.managed.starts = append(slices.Clone(d.managed.starts), d.now)
}

// running: a process is up. One that only the connection was lost to comes
// back with its pid.
func (d *decision) running(e Endpoint) {
	m := &d.managed
	if e.PID != m.endpoint.PID {
		m.cold = !e.Adopted
		if !e.Adopted {
			d.newProcess()
		}
		d.do(awaitExit{pid: e.PID})
	}
	m.up, m.endpoint = true, e
	if e.Adopted && e.Stale {
		d.outdated()
	}
	d.note(slog.LevelInfo, "gateway process is up", slog.Int("pid", e.PID), slog.Bool("adopted", e.Adopted))
	if d.atRest() && d.home() { // its start has come behind its stop
		d.stopProcess()
		return
	}
	d.connect()
}

// newProcess: it was started with what is wanted now.
func (d *decision) newProcess() {
	d.countStart()
	d.managed.stale, d.misfit, d.managed.given = false, "", given{}
	how := ConfigStarted
	if d.managed.uptake == ConfigRestarting {
		how = ConfigRestarted
	}
	d.managed.uptake = how
}

// exited: the process is gone, expected or not.
func (d *decision) exited(e exited) {
	m := &d.managed
	if e.pid != m.endpoint.PID {
		return
	}
	m.up, m.endpoint, m.hung = false, Endpoint{}, false
	if m.starting && d.state == messages.GatewayUnreachable { // what was looked for is gone, so that another is started
		d.sayStarting()
	}
	if !d.linked && !m.stopping && d.state == messages.GatewayConnecting {
		d.conn++ // the dial under way is void
		d.unreachable("the gateway process ended", next.TriedAgainCheckURL, 0)
	}
}

// stopProcess drains and ends the process; it waits for the runs by itself.
func (d *decision) stopProcess() {
	if d.managed.stopping {
		return
	}
	d.managed.stopping, d.managed.stale = true, false
	d.ended = d.boot
	d.asks = true
	d.do(stop{})
}

// stopped goes on as is wanted now, which may be something else than when the
// stop began.
func (d *decision) stopped(e stopped) {
	m := &d.managed
	if e.err != nil {
		d.note(slog.LevelError, "gateway process did not stop as asked", slog.Any("err", e.err))
	}
	m.stopping, m.up, m.endpoint, m.hung = false, false, Endpoint{}, false
	m.starts = nil // an end that was asked for is no crash
	if m.renewed {
		m.renewed = false
		d.do(lift{}) // those that its last runs met, too
	}
	if d.removed {
		d.gone()
		return
	}
	if d.linked {
		d.hangUp("the gateway process was stopped")
		d.part()
	}
	d.conn++ // a dial under way is void
	switch {
	case d.draining && d.held == 0:
		d.drained()
	case d.state == messages.GatewayQuarantined, d.state == messages.GatewayRegistered:
		d.connect()
	default: // one that is to drain does so once it is known to be well
		words := "the gateway process is being restarted"
		if m.uptake == ConfigRestarting {
			words += " for its new configuration"
		}
		d.unreachable(words, next.TriedAgainCheckURL, 0)
	}
}

// outdated notes that the process runs with something else than is wanted.
func (d *decision) outdated() {
	if !d.managed.stale {
		d.managed.stale, d.managed.before = true, d.boot
	}
}

// refresh brings the process to the configuration that is wanted now: by itself
// while it runs, where it can, else by a start after its runs.
func (d *decision) refresh() {
	m := &d.managed
	switch {
	case !m.stale || d.removed || m.stopping || !d.home():
		return
	case d.draining || d.state == messages.GatewayDrained:
		return // the next start reads it
	case m.reloading:
		m.again = true
		return
	case !d.linked:
		d.restartForConfig("it is not connected")
		return
	case !d.open:
		return // once the connection is settled
	}
	if m.uptake != ConfigApplying && m.uptake != ConfigRefused {
		m.prior = m.uptake
	}
	m.reloading, m.uptake = true, ConfigApplying
	d.do(give{warm: d.unwell != ""}) // a first turn that failed is tried again with the new one
}

// reloaded is the end of a try to give the process its configuration.
func (d *decision) reloaded(e reloaded) {
	m := &d.managed
	again := m.again
	m.reloading, m.again, m.given = false, false, e.given
	if e.err != nil {
		d.note(slog.LevelWarn, "what became of the new configuration could not be written down; it is given again at the next connection", slog.Any("err", e.err))
	}
	switch {
	case d.removed || m.stopping: // the next start reads it
		return
	case !d.linked:
		return // the next connection goes on with it
	case again:
		d.refresh()
		return
	case e.conn != d.conn || e.uptake == "":
		return
	}
	switch e.uptake {
	case ConfigSame:
		m.stale, m.renewed, m.uptake = false, false, m.prior
	case ConfigHot:
		d.tookHot(e)
	case ConfigRefused:
		m.stale, m.uptake = false, ConfigRefused
		d.misfit = "it goes on with its configuration before, the new one is refused: " + e.why
		d.note(slog.LevelWarn, "gateway refuses its new configuration", slog.String("reason", e.why))
		d.judge()
	case ConfigRestarting:
		d.restartForConfig(e.why)
	}
	d.asks = true
}

// tookHot is followed by judged: the window and the pauses change.
func (d *decision) tookHot(e reloaded) {
	m := &d.managed
	m.stale, m.renewed, d.misfit = false, false, ""
	how, words := ConfigHot, "took its new configuration while it ran"
	if m.before != "" && m.before != d.boot { // it knew that it had to
		how, words = ConfigRestarted, "took its new configuration by a restart of its own"
	}
	m.uptake = how
	d.note(slog.LevelInfo, "gateway "+words)
	d.do(announce{words: words})
	d.do(lift{}) // those that runs with the old one met, too
	if e.lane > 0 {
		d.do(resize{lane: e.lane})
	}
	if e.warm != nil {
		d.warmed(e.warm)
	}
}

// restartForConfig starts the process again for its configuration.
func (d *decision) restartForConfig(why string) {
	d.managed.uptake = ConfigRestarting
	d.note(slog.LevelInfo, "gateway is started again for its new configuration, after its runs", slog.String("reason", why))
	d.restart()
}
