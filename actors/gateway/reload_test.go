package gateway_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
)

// watcher is a gateway's word about its configuration file: what it says before
// and after the file was written.
type watcher struct {
	mu    sync.Mutex
	files int
	after openclaw.ConfigState
	err   error
}

func (w *watcher) written() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files++
}

func (w *watcher) state() (openclaw.ConfigState, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.files == 0 {
		return openclaw.ConfigState{Hash: "h0", Revision: "r0", Applied: "r0"}, nil
	}
	s := w.after
	s.Hash += strings.Repeat("+", w.files)
	return s, w.err
}

var (
	taken   = openclaw.ConfigState{Hash: "h1", Revision: "r1", Applied: "r1"}
	refused = openclaw.ConfigState{Hash: "h1", Applied: "r0", Problem: "gateway: Unrecognized key: \"nonsense\""}
	pending = openclaw.ConfigState{Hash: "h1", Revision: "r1", Applied: "r0"}
)

// reloads is a rig whose managed gateway says after once its file was written.
func reloads(t *testing.T, d *daemon, after openclaw.ConfigState, links ...*turns) (*rig, messages.Gateway, *watcher) {
	t.Helper()
	w := &watcher{after: after}
	d.rewrite = w.written
	var all []gateway.Link
	for _, l := range links {
		l.config = w.state
		all = append(all, l)
	}
	gw := messages.Gateway{ID: "gw", Tenant: "default", Pool: "default", MaxConcurrency: 8, Managed: &messages.Managed{}}
	r := newRig(t, func(c *gateway.Config) {
		c.Gateway, c.Process, c.Dial = gw, d, dialling(all...)
		c.Timing.Reload, c.Timing.ReloadLook = 15*time.Second, time.Millisecond
		if d.impatient {
			c.Timing.Reload = 50 * time.Millisecond
		}
	})
	return r, gw, w
}

// uptake waits until the process has come to its configuration in that way.
func (r *rig) uptake(want gateway.ConfigUptake) gateway.Snapshot {
	r.t.Helper()
	for limit := time.Now().Add(10 * time.Second); ; <-time.After(time.Millisecond) {
		if s := r.inspect(); s.Config == want {
			return s
		} else if time.Now().After(limit) {
			r.t.Fatalf("its configuration is %q, want %q (%s: %s)", s.Config, want, s.Status.State, s.Status.Reason)
		}
	}
}

func (d *daemon) tried() (starts, written int, taken []bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.starts, d.written, slices.Clone(d.taken)
}

// TestConfigurationIsTakenWhileItRuns: neither the process nor its run ends, and
// a new limit of the gateway counts at once.
func TestConfigurationIsTakenWhileItRuns(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*messages.Gateway){
		"config":          func(g *messages.Gateway) { g.Managed = &messages.Managed{Config: map[string]any{"models": "z"}} },
		"max concurrency": func(g *messages.Gateway) { g.MaxConcurrency = 6 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			finish := make(chan struct{})
			l := newTurns("b1", func(q openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
				if strings.Contains(q.Message, "warm-up") {
					ok(q, on)
					return
				}
				go func() { <-finish; ok(q, on) }()
			})
			d := &daemon{}
			r, gw, _ := reloads(t, d, taken, l)
			await(r, "a window", func(d messages.Demand) bool { return d.Window == 4 })
			if s := r.inspect(); s.Config != gateway.ConfigStarted {
				t.Errorf("a process that was started says %q", s.Config)
			}
			r.claim("t1", "")
			await(r, "the run", func(d messages.Demand) bool { return len(d.Running) == 1 })
			l.link.mu.Lock()
			l.lane = 6
			l.link.mu.Unlock()
			change(&gw)
			r.system.Root.Send(r.pid, gateway.Configure{Gateway: gw})
			await(r, "the new limit", func(d messages.Demand) bool { return d.Window == 6 && len(d.Running) == 1 })
			if s := r.uptake(gateway.ConfigHot); s.Status.State != messages.GatewayReady {
				t.Errorf("it is %s", s.Status.State)
			}
			if starts, written, told := d.tried(); starts != 1 || written != 1 || !slices.Equal(told, []bool{true}) {
				t.Errorf("%d starts, %d files, told %v: want one start, one file that was taken", starts, written, told)
			}
			close(finish)
			await(r, "the end of the run", func(e *messages.Ended) bool { return e.Task.State == messages.Succeeded })
			r.saidOf(t, "took its new configuration while it ran")
		})
	}
}

// saidOf waits for an event of the gateway with these words.
func (r *rig) saidOf(t *testing.T, words string) {
	t.Helper()
	for limit := time.Now().Add(5 * time.Second); ; <-time.After(time.Millisecond) {
		events, _, err := r.store.Events(t.Context(), 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(events, func(e *messages.Event) bool { return e.GetGateway().GetReason() == words }) {
			return
		} else if time.Now().After(limit) {
			t.Fatalf("no event says %q", words)
		}
	}
}

// TestRefusedConfigurationLeavesTheGatewayAtWork: it goes on with the one
// before, and says why.
func TestRefusedConfigurationLeavesTheGatewayAtWork(t *testing.T) {
	t.Parallel()
	d := &daemon{}
	r, gw, w := reloads(t, d, refused, newTurns("b1", ok))
	await(r, "a window", open)
	gw.Managed = &messages.Managed{Config: map[string]any{"models": "z"}}
	r.system.Root.Send(r.pid, gateway.Configure{Gateway: gw})
	r.uptake(gateway.ConfigRefused)
	s := r.until(messages.GatewayDegraded)
	if !strings.Contains(s.Status.Reason, "Unrecognized key") || !strings.Contains(s.Status.NextStep, "dash gateway set gw --config") {
		t.Errorf("it says %q and %q", s.Status.Reason, s.Status.NextStep)
	}
	if starts, _, told := d.tried(); starts != 1 || !slices.Equal(told, []bool{false}) {
		t.Errorf("%d starts, told %v: want the file put back and no start", starts, told)
	}
	// Back to the one that it runs with: there is nothing to refuse any more.
	d.mu.Lock()
	d.same = gateway.FileUnneeded
	d.mu.Unlock()
	gw.Managed = &messages.Managed{}
	r.system.Root.Send(r.pid, gateway.Configure{Gateway: gw})
	r.uptake(gateway.ConfigStarted)
	r.until(messages.GatewayReady)
	d.mu.Lock()
	d.same = 0
	d.mu.Unlock()
	w.mu.Lock()
	w.after = taken
	w.mu.Unlock()
	gw.Managed = &messages.Managed{Config: map[string]any{"models": "y"}}
	r.system.Root.Send(r.pid, gateway.Configure{Gateway: gw})
	r.uptake(gateway.ConfigHot)
	r.until(messages.GatewayReady)
}

// TestConfigurationThatCannotBeGiven: a start with it would fail, so that what
// works is not stopped for it.
func TestConfigurationThatCannotBeGiven(t *testing.T) {
	t.Parallel()
	d := &daemon{adopted: true, stale: true, wrong: errors.New("the program is not there"), stop: func(context.Context) error { return errors.New("nobody asked for it") }}
	r, _, _ := reloads(t, d, taken, newTurns("b1", ok))
	r.uptake(gateway.ConfigRefused)
	if s := r.until(messages.GatewayDegraded); !strings.Contains(s.Status.Reason, "the program is not there") || s.Status.Window != 4 {
		t.Errorf("it says %q with window %d", s.Status.Reason, s.Status.Window)
	}
}

// TestConfigurationThatNeedsAStart: what the gateway does not take while it runs
// it gets by a start, and what no file brings at once.
func TestConfigurationThatNeedsAStart(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]*daemon{"not taken": {impatient: true}, "command": {start: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, gw, _ := reloads(t, d, pending, newTurns("b1", ok), newTurns("b2", ok))
			await(r, "a window", open)
			gw.Managed = &messages.Managed{Config: map[string]any{"env": "z"}}
			r.system.Root.Send(r.pid, gateway.Configure{Gateway: gw})
			await(r, "the next process", func(d messages.Demand) bool { return d.BootID == "b2" && d.Window > 0 })
			r.uptake(gateway.ConfigRestarted)
			if starts, _, told := d.tried(); starts != 2 || len(told) != 0 {
				t.Errorf("%d starts, told %v: want one start more", starts, told)
			}
		})
	}
}

// TestAdoptedProcessGetsItsConfiguration: Dash died between the row and the file.
func TestAdoptedProcessGetsItsConfiguration(t *testing.T) {
	t.Parallel()
	d := &daemon{adopted: true, stale: true}
	r, _, _ := reloads(t, d, taken, newTurns("b1", ok))
	r.uptake(gateway.ConfigHot)
	if starts, written, told := d.tried(); starts != 1 || written != 1 || !slices.Equal(told, []bool{true}) {
		t.Errorf("%d looks, %d files, told %v", starts, written, told)
	}
}

// TestFileThatNobodySawTaken: Dash died between the file and its record. Only a
// start is sure to bring what it says.
func TestFileThatNobodySawTaken(t *testing.T) {
	t.Parallel()
	stops := make(chan struct{}, 1)
	d := &daemon{adopted: true, stale: true, same: gateway.FileUnchanged, stop: func(context.Context) error { stops <- struct{}{}; return nil }}
	r, _, _ := reloads(t, d, taken, newTurns("b1", ok))
	r.uptake(gateway.ConfigRestarting)
	<-stops
}

// TestConfigurationThatSaysTheSame changes nothing, and nothing is restarted.
func TestConfigurationThatSaysTheSame(t *testing.T) {
	t.Parallel()
	d := &daemon{same: gateway.FileUnneeded, stop: func(context.Context) error { return errors.New("nobody asked for it") }}
	r, gw, _ := reloads(t, d, taken, newTurns("b1", ok))
	await(r, "a window", open)
	gw.Managed = &messages.Managed{Config: map[string]any{"plugins": map[string]any{"enabled": false}}}
	r.system.Root.Send(r.pid, gateway.Configure{Gateway: gw})
	r.inspect()
	if s := r.uptake(gateway.ConfigStarted); s.Status.State != messages.GatewayReady {
		t.Errorf("it is %s", s.Status.State)
	}
}

// TestGatewayThatRestartsByItself: it knew that the change needs that, and is
// not stopped for it once more.
func TestGatewayThatRestartsByItself(t *testing.T) {
	t.Parallel()
	first, second := newTurns("b1", ok), newTurns("b2", ok)
	d := &daemon{adopted: true, stop: func(context.Context) error { return errors.New("nobody asked for it") }}
	r, gw, w := reloads(t, d, pending, first, second)
	await(r, "a window", open)
	d.mu.Lock()
	d.rewrite = func() {
		w.written()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.after = taken
		w.err = errors.New("UNAVAILABLE: config.get unavailable during gateway restart")
		d.stale, d.same = true, gateway.FileUnchanged // the caller holds d.mu
		first.Close()
	}
	d.mu.Unlock()
	second.config = func() (openclaw.ConfigState, error) { return taken, nil }
	gw.Managed = &messages.Managed{Config: map[string]any{"env": "z"}}
	r.system.Root.Send(r.pid, gateway.Configure{Gateway: gw})
	await(r, "the next life", func(d messages.Demand) bool { return d.BootID == "b2" && d.Window > 0 })
	r.uptake(gateway.ConfigRestarted)
	r.saidOf(t, "took its new configuration by a restart of its own")
	if _, written, told := d.tried(); written != 1 || !slices.Equal(told, []bool{true}) {
		t.Errorf("%d files, told %v", written, told)
	}
}

// TestConfigurationThatChangesMeanwhile is given again.
func TestConfigurationThatChangesMeanwhile(t *testing.T) {
	t.Parallel()
	d := &daemon{}
	r, gw, w := reloads(t, d, taken, newTurns("b1", ok))
	await(r, "a window", open)
	hold, second := make(chan struct{}), gw
	d.mu.Lock()
	d.rewrite = func() {
		w.written()
		if d.written == 1 { // the caller holds d.mu
			close(hold)
			w.mu.Lock()
			w.after = pending
			w.mu.Unlock()
		}
	}
	d.mu.Unlock()
	gw.Managed = &messages.Managed{Config: map[string]any{"models": "y"}}
	r.system.Root.Send(r.pid, gateway.Configure{Gateway: gw})
	<-hold
	second.Managed = &messages.Managed{Config: map[string]any{"models": "z"}}
	r.system.Root.Send(r.pid, gateway.Configure{Gateway: second})
	r.inspect() // it has been seen
	w.mu.Lock()
	w.after = taken
	w.mu.Unlock()
	r.uptake(gateway.ConfigHot)
	if starts, written, told := d.tried(); starts != 1 || written != 2 || !slices.Equal(told, []bool{true, true}) {
		t.Errorf("%d starts, %d files, told %v: want two files, both taken", starts, written, told)
	}
}
