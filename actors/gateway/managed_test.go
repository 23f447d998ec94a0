package gateway_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
)

// turns is a link that takes note of its turns and of what is deleted.
type turns struct {
	*link
	mu      sync.Mutex
	keys    []string
	deleted []string
}

func newTurns(boot string, answer func(openclaw.AgentRequest, func(openclaw.AgentAnswer))) *turns {
	t := &turns{link: newLink(boot)}
	t.onAgent = func(q openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
		t.mu.Lock()
		t.keys = append(t.keys, q.SessionKey)
		t.mu.Unlock()
		on(openclaw.AgentAnswer{Kind: openclaw.AnswerAccepted, RunID: q.RunID})
		answer(q, on)
	}
	return t
}

func (t *turns) DeleteSession(_ context.Context, key string) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deleted = append(t.deleted, key)
	return true, nil
}

func (t *turns) seen() (keys, deleted []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.keys...), append([]string(nil), t.deleted...)
}

func (t *turns) aborts() []string {
	t.link.mu.Lock()
	defer t.link.mu.Unlock()
	return append([]string(nil), t.aborted...)
}

func ok(q openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
	on(openclaw.AgentAnswer{Kind: openclaw.AnswerFinal, RunID: q.RunID, Text: "ok"})
}

// dialling returns links one after the other.
func dialling(links ...gateway.Link) gateway.DialFunc {
	next := make(chan gateway.Link, len(links))
	for _, l := range links {
		next <- l
	}
	return func(context.Context, openclaw.Config, openclaw.Handler) (gateway.Link, error) {
		select {
		case l := <-next:
			return l, nil
		default:
			return nil, &openclaw.RefusedError{Reason: openclaw.ReasonUnreachable, Message: "nothing listens"}
		}
	}
}

func TestNewProcessIsWarmedUpBeforeItGetsWork(t *testing.T) {
	t.Parallel()
	begun, finish := make(chan struct{}), make(chan struct{})
	l := newTurns("b1", func(q openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
		close(begun)
		<-finish
		ok(q, on)
	})
	r := newRig(t, func(c *gateway.Config) { c.Process, c.Dial = &daemon{}, dialling(l) })
	<-begun
	if s := r.inspect(); s.Status.State != messages.GatewayConnecting || s.Status.Window != 0 {
		t.Errorf("while warming up: state %s, window %d", s.Status.State, s.Status.Window)
	}
	close(finish)
	await(r, "a window", open)
	keys, deleted := l.seen()
	if len(keys) != 1 || !strings.HasPrefix(keys[0], "agent:main:dash:default:") {
		t.Fatalf("turns on %v, want one on a throw-away key", keys)
	}
	if len(deleted) != 1 || deleted[0] != keys[0] || len(l.aborts()) != 0 {
		t.Errorf("deleted %v, aborted %v, want %v deleted", deleted, l.aborts(), keys)
	}
}

func TestWarmUpDoesNotKeepTheGatewayClosed(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(openclaw.AgentRequest, func(openclaw.AgentAnswer)){
		"failed": func(q openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
			on(openclaw.AgentAnswer{Kind: openclaw.AnswerFailed, RunID: q.RunID, Failure: &openclaw.Failure{Class: openclaw.ClassProvider, Message: "HTTP 500"}})
		},
		"hangs": func(openclaw.AgentRequest, func(openclaw.AgentAnswer)) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newTurns("b1", answer)
			r := newRig(t, func(c *gateway.Config) {
				c.Process, c.Dial = &daemon{}, dialling(l)
				c.Timing.WarmUp = 20 * time.Millisecond
			})
			await(r, "a window", open)
			keys, _ := l.seen()
			if aborts := l.aborts(); name == "hangs" && (len(aborts) != 1 || aborts[0] != keys[0]) {
				t.Errorf("aborted %v, want the warm-up's own %v", aborts, keys)
			}
			s := r.until(messages.GatewayDegraded)
			if !strings.Contains(s.Status.Reason, "first turn") || !strings.Contains(s.Status.NextStep, "dash gateway set gw --config") {
				t.Errorf("it says %q and %q", s.Status.Reason, s.Status.NextStep)
			}
		})
	}
}

// TestNewConfigurationStartsTheProcessAgain: also one of a gateway whose first
// turn failed, which is well once a run succeeds.
func TestNewConfigurationStartsTheProcessAgain(t *testing.T) {
	t.Parallel()
	noModel := func(q openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
		on(openclaw.AgentAnswer{Kind: openclaw.AnswerFailed, RunID: q.RunID, Failure: &openclaw.Failure{Class: openclaw.ClassInvalid, Message: "Unknown model: x/y"}})
	}
	first, second := newTurns("b1", noModel), newTurns("b2", ok)
	d := &daemon{stop: func(context.Context) error { return nil }}
	gw := messages.Gateway{ID: "gw", Tenant: "default", Pool: "default", MaxConcurrency: 8, Managed: &messages.Managed{}}
	r := newRig(t, func(c *gateway.Config) { c.Gateway, c.Process, c.Dial = gw, d, dialling(first, second) })
	if s := r.until(messages.GatewayDegraded); !strings.Contains(s.Status.Reason, "Unknown model: x/y") {
		t.Errorf("it says %q", s.Status.Reason)
	}
	gw.MaxConcurrency = 7
	r.system.Root.Send(r.pid, gateway.Configure{Gateway: gw})
	gw.Managed = &messages.Managed{Config: map[string]any{"models": "z"}}
	r.system.Root.Send(r.pid, gateway.Configure{Gateway: gw})
	r.until(messages.GatewayReady)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.starts != 2 || len(d.config) != 2 || d.config[1].Managed.Config["models"] != "z" {
		t.Errorf("%d starts, configured %v: want one start more, for the configuration alone", d.starts, d.config)
	}
}

// TestConfigurationOfADrainHoldsAfterResume: a drain that was taken back before
// its end has not stopped the process, which then runs what it was started with.
func TestConfigurationOfADrainHoldsAfterResume(t *testing.T) {
	t.Parallel()
	first, second := newLink("b1"), newTurns("b2", ok)
	first.onAgent = func(q openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
		kind := openclaw.AnswerAccepted
		if strings.Contains(q.Message, "warm-up") {
			kind = openclaw.AnswerFinal
		}
		on(openclaw.AgentAnswer{Kind: kind, RunID: q.RunID})
	}
	d := &daemon{stop: func(context.Context) error { first.Close(); return nil }}
	gw := messages.Gateway{ID: "gw", Tenant: "default", Pool: "default", MaxConcurrency: 8, Managed: &messages.Managed{}}
	r := newRig(t, func(c *gateway.Config) { c.Gateway, c.Process, c.Dial = gw, d, dialling(first, second) })
	await(r, "a window", open)
	r.claim("t1", "")
	await(r, "the run", func(d messages.Demand) bool { return len(d.Running) == 1 })
	r.system.Root.Send(r.pid, gateway.Drain{})
	r.until(messages.GatewayDraining)
	gw.Managed = &messages.Managed{Config: map[string]any{"models": "z"}}
	r.system.Root.Send(r.pid, gateway.Configure{Gateway: gw})
	r.system.Root.Send(r.pid, gateway.Resume{})
	await(r, "the next process", func(d messages.Demand) bool { return d.BootID == "b2" })
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.starts != 2 {
		t.Errorf("%d starts, want one more for the configuration", d.starts)
	}
}

// TestLostConnectionIsNoStart: a process that lives on is neither warmed up
// again nor counted as started.
func TestLostConnectionIsNoStart(t *testing.T) {
	t.Parallel()
	links := []gateway.Link{newTurns("b1", ok)}
	for range 5 {
		links = append(links, newTurns("b1", ok))
	}
	d := &daemon{}
	r := newRig(t, func(c *gateway.Config) {
		c.Process, c.Dial = d, dialling(links...)
		c.Timing.RetryLimit = 3
	})
	for i, l := range links {
		await(r, "a window", open)
		keys, _ := l.(*turns).seen()
		if want := map[bool]int{true: 1}[i == 0]; len(keys) != want {
			t.Errorf("connection %d had turns %v, want %d", i, keys, want)
		}
		if i == len(links)-1 {
			break
		}
		l.Close()
		await(r, "the loss", func(d messages.Demand) bool { return d.Window == 0 })
	}
}

func TestAdoptedProcessIsNotWarmedUp(t *testing.T) {
	t.Parallel()
	l := newTurns("b1", ok)
	r := newRig(t, func(c *gateway.Config) { c.Process, c.Dial = &daemon{adopted: true}, dialling(l) })
	await(r, "a window", open)
	if keys, _ := l.seen(); len(keys) != 0 {
		t.Errorf("turns on %v", keys)
	}
}

// TestRemoveStopsAProcessThatIsNotUp: removed while it starts or cannot be
// reached, a managed process must not live on unowned.
func TestRemoveStopsAProcessThatIsNotUp(t *testing.T) {
	t.Parallel()
	stops := make(chan struct{}, 10)
	d := &daemon{fail: errors.New("busy"), stop: func(context.Context) error { stops <- struct{}{}; return nil }}
	r := newRig(t, func(c *gateway.Config) { c.Process, c.Dial = d, dialling() })
	r.until(messages.GatewayUnreachable)
	r.system.Root.Send(r.pid, gateway.Remove{})
	select {
	case <-stops:
	case <-time.After(10 * time.Second):
		t.Fatal("removed and not stopped")
	}
}

// TestDrainStopsAProcessThatIsNotUp: one that lives and cannot be used, or is
// looked for again in a moment, must not live on beside a drained gateway.
func TestDrainStopsAProcessThatIsNotUp(t *testing.T) {
	t.Parallel()
	stops := make(chan struct{}, 10)
	d := &daemon{
		fail: &gateway.StartError{Permanent: true, Reason: "process 42 runs with a token that is not known any more", Err: errors.New("x")},
		stop: func(context.Context) error { stops <- struct{}{}; return nil },
	}
	r := newRig(t, func(c *gateway.Config) { c.Process, c.Dial = d, dialling() })
	r.until(messages.GatewayQuarantined)
	r.system.Root.Send(r.pid, gateway.Drain{})
	r.until(messages.GatewayDrained)
	select {
	case <-stops:
	default:
		t.Error("drained and not stopped")
	}
}

// TestHangingProcessIsKilledOnRestart: what does not drain within its budget is
// killed, and a new one started.
func TestHangingProcessIsKilledOnRestart(t *testing.T) {
	t.Parallel()
	d := &daemon{stop: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
	r := newRig(t, func(c *gateway.Config) {
		c.Process, c.Dial = d, dialling(newTurns("b1", ok), newTurns("b2", ok))
		c.Timing.StopTimeout = 50 * time.Millisecond
	})
	await(r, "a window", open)
	r.system.Root.Send(r.pid, gateway.Restart{})
	await(r, "the end of work", func(d messages.Demand) bool { return d.Window == 0 })
	await(r, "a window again", open)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kills != 1 || d.starts != 2 {
		t.Errorf("%d kills, %d starts, want 1 and 2", d.kills, d.starts)
	}
}

// TestStopThatCannotBeDoneDoesNotKill: runs are not cut because of a full disk.
func TestStopThatCannotBeDoneDoesNotKill(t *testing.T) {
	t.Parallel()
	d := &daemon{stop: func(context.Context) error { return errors.New("no space left") }}
	r := newRig(t, func(c *gateway.Config) { c.Process, c.Dial = d, dialling(newTurns("b1", ok), newTurns("b1", ok)) })
	await(r, "a window", open)
	r.system.Root.Send(r.pid, gateway.Restart{})
	await(r, "the end of work", func(d messages.Demand) bool { return d.Window == 0 })
	await(r, "a window again", open)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kills != 0 {
		t.Errorf("%d kills", d.kills)
	}
}

// TestSessionsOfADrainAreRemovedAfterwards: a daemon that is about to stop
// refuses to remove sessions, so that has to wait.
func TestSessionsOfADrainAreRemovedAfterwards(t *testing.T) {
	t.Parallel()
	finish := make(chan struct{})
	first, second := newTurns("b1", func(q openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
		<-finish
		ok(q, on)
	}), newTurns("b2", ok)
	d := &daemon{adopted: true, stop: func(context.Context) error { first.Close(); return nil }}
	r := newRig(t, func(c *gateway.Config) { c.Process, c.Dial = d, dialling(first, second) })
	await(r, "a window", open)
	task := r.claim("t1", "")
	await(r, "the run", func(d messages.Demand) bool { return len(d.Running) == 1 })
	r.system.Root.Send(r.pid, gateway.Drain{})
	r.until(messages.GatewayDraining)
	close(finish)
	r.until(messages.GatewayDrained)
	if _, deleted := first.seen(); len(deleted) != 0 {
		t.Errorf("deleted %v while draining", deleted)
	}
	r.system.Root.Send(r.pid, gateway.Resume{})
	for limit := time.Now().Add(10 * time.Second); ; <-time.After(time.Millisecond) {
		if _, deleted := second.seen(); len(deleted) == 1 && deleted[0] == task.SessionKey() {
			return
		} else if time.Now().After(limit) {
			t.Fatalf("deleted %v, want %s", deleted, task.SessionKey())
		}
	}
}
