package gateway_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// valve is a store that keeps batches waiting which the test wants to wait.
type valve struct {
	persistence.Store

	mu   sync.Mutex
	hold func(persistence.Op) <-chan struct{} // nil, or what to wait for
}

func (v *valve) Commit(ctx context.Context, batch []persistence.Op) ([]persistence.Outcome, error) {
	v.mu.Lock()
	hold := v.hold
	v.mu.Unlock()
	for i := range batch {
		if hold == nil {
			break
		}
		if wait := hold(batch[i]); wait != nil {
			<-wait
		}
	}
	return v.Store.Commit(ctx, batch)
}

// TestNothingHappensBeforeTheBootIDIsDurable: whoever finds the gateway after a
// crash of Dash has to know which process the sends were for, so nothing is
// asked, stopped or sent before that is written.
func TestNothingHappensBeforeTheBootIDIsDurable(t *testing.T) {
	t.Parallel()
	var durable atomic.Bool
	must := func(what string) {
		if !durable.Load() {
			t.Errorf("%s before the boot id was durable", what)
		}
	}
	l := &watched{knowing: newKnowing("b1"), on: must}
	waiting := make(chan struct{})
	r := newRig(t, func(c *gateway.Config) {
		c.Dial = l.dial
		c.Store = later{Store: c.Store, from: waiting}
	})
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.valve.mu.Lock()
	r.valve.hold = func(op persistence.Op) <-chan struct{} {
		if op.Gateway == nil || op.Gateway.BootID != "b1" {
			return nil
		}
		once.Do(func() { close(reached) })
		return release
	}
	r.valve.mu.Unlock()
	r.row("t1", "")
	close(waiting)
	<-reached
	time.Sleep(200 * time.Millisecond) // for what must not happen
	durable.Store(true)
	close(release)
	await(r, "a window", open)
	if status, err := r.store.GatewayStatuses(t.Context()); err != nil || len(status) != 1 || status[0].BootID != "b1" {
		t.Errorf("recorded: %+v, %v", status, err)
	}
}

// watched tells of every call that does something at the gateway.
type watched struct {
	*knowing
	on func(string)
}

func (w *watched) dial(context.Context, openclaw.Config, openclaw.Handler) (gateway.Link, error) {
	return w, nil
}

func (w *watched) Session(ctx context.Context, key string) (openclaw.Session, bool, error) {
	w.on("a session was read")
	return w.knowing.Session(ctx, key)
}

func (w *watched) Sessions(ctx context.Context, q openclaw.SessionQuery) (openclaw.SessionPage, error) {
	w.on("sessions were listed")
	return w.knowing.Sessions(ctx, q)
}

func (w *watched) Agent(q openclaw.AgentRequest, on func(openclaw.AgentAnswer)) error {
	w.on("a frame was sent")
	return w.knowing.Agent(q, on)
}

// TestFramesFollowTheirClaims: the first claim has to read its history, the
// second could be sent at once; it waits.
func TestFramesFollowTheirClaims(t *testing.T) {
	t.Parallel()
	l := newKnowing("b1")
	asked, history := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(c *gateway.Config) {
		c.Dial = l.dial
		c.History = func(context.Context, string, string) (string, error) {
			close(asked)
			<-history
			return "what was said before", nil
		}
	})
	await(r, "a window", open)
	first := r.row("t1", "s1")
	first.session.Replay = true
	r.system.Root.RequestWithCustomSender(r.pid, &messages.Assign{Task: first.task, Session: first.session}, r.pool)
	<-asked
	r.claim("t2", "")
	time.Sleep(200 * time.Millisecond) // for what must not happen
	close(history)
	if a, b := <-l.frames, <-l.frames; a != "t1.1" || b != "t2.1" {
		t.Errorf("frames of %s, then %s; want the order of the claims", a, b)
	}
}

// TestEveryLeftoverIsStopped, on whatever page of the listing it is, and however
// the gateway says that it runs or is about to.
func TestEveryLeftoverIsStopped(t *testing.T) {
	t.Parallel()
	l := newLink("b1")
	for i := range 450 { // pages of 200
		l.rows = append(l.rows, openclaw.Session{Key: fmt.Sprintf("agent:main:dash:default:done-%d:0", i), Status: "done"})
	}
	want := []string{}
	for i, row := range []openclaw.Session{
		{HasActiveRun: true}, {ActiveRunIDs: []string{"x"}}, {AbortedLastRun: true}, {Status: "running"}, {Status: "queued"},
	} {
		row.Key = fmt.Sprintf("agent:main:dash:default:left-%d:0", i)
		l.rows = append(l.rows, row)
		want = append(want, row.Key)
	}
	l.rows = append(l.rows, openclaw.Session{Key: "agent:main:dashboard", Status: "running", HasActiveRun: true})
	r := newRig(t, func(c *gateway.Config) { c.Dial = dialer(l) })
	await(r, "a window", open)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.aborted, want) {
		t.Errorf("stopped %v, want %v", l.aborted, want)
	}
}
