package gateway_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// knowing is a link to a gateway that knows how each run ended.
type knowing struct {
	*link
	frames chan string
}

func newKnowing(boot string) *knowing {
	return &knowing{link: newLink(boot), frames: make(chan string, 10000)}
}

func (k *knowing) dial(context.Context, openclaw.Config, openclaw.Handler) (gateway.Link, error) {
	return k, nil
}

func (k *knowing) Agent(q openclaw.AgentRequest, on func(openclaw.AgentAnswer)) error {
	k.frames <- q.RunID
	on(openclaw.AgentAnswer{Kind: openclaw.AnswerAccepted, RunID: q.RunID})
	return nil
}

func (k *knowing) Wait(_ context.Context, run string, _ time.Duration) (openclaw.RunStatus, error) {
	return openclaw.RunStatus{RunID: run, Status: "ok", Ended: time.Now(), Text: "of " + run, HasText: true}, nil
}

// move brings a claimed row on, as an earlier life of the owner did.
func (r *rig) move(t messages.Task, to messages.TaskState, change ...func(*messages.Task)) messages.Task {
	r.t.Helper()
	next := t
	next.State, next.BootID = to, "b1"
	if to == messages.Running {
		next.StartedAt = messages.Now()
	}
	for _, f := range change {
		f(&next)
	}
	out, err := r.store.Commit(r.t.Context(), []persistence.Op{{
		Fences: []messages.Fence{r.fence}, Update: &persistence.TaskUpdate{Task: next, From: t.State, FromClaim: t.Claim},
	}})
	if err != nil || out[0].Status != persistence.OK {
		r.t.Fatalf("%s to %s: %v %v", t.ID, to, out, err)
	}
	return next
}

func lists(d messages.Demand, id string) bool {
	return slices.Contains(d.Running, messages.ClaimRef{Task: id, Claim: 1})
}

// TestARunThatThePoolMissesIsTakenUp: the pool's owner finds a RUNNING row that
// no Demand lists and assigns it again. It is not sent, its end is asked for.
func TestARunThatThePoolMissesIsTakenUp(t *testing.T) {
	t.Parallel()
	l := newKnowing("b1")
	r := newRig(t, func(c *gateway.Config) { c.Dial = l.dial })
	await(r, "a window", open)
	run := r.move(r.row("t1", "").task, messages.Running)
	r.system.Root.RequestWithCustomSender(r.pid, &messages.Assign{Task: run}, r.pool)
	e := await(r, "the end", func(*messages.Ended) bool { return true })
	if e.Task.State != messages.Succeeded || e.Task.Result.GetText() != "of t1.1" || e.Task.Claim != 1 {
		t.Errorf("ended as %s %v", e.Task.State, e.Task.Result)
	}
	if len(l.frames) > 0 {
		t.Errorf("the frame of %s was written again", <-l.frames)
	}

	// One that has ended since is not begun again.
	ended := r.move(r.row("t2", "").task, messages.Running)
	r.move(ended, messages.Succeeded, func(t *messages.Task) { t.FinishedAt = messages.Now() })
	r.system.Root.RequestWithCustomSender(r.pid, &messages.Assign{Task: ended}, r.pool)
	await(r, "the demand without it", func(d messages.Demand) bool { return !lists(d, "t2") })
	limit := time.Now().Add(10 * time.Second)
	for len(r.inspect().Running) > 0 {
		if time.Now().After(limit) {
			t.Fatal("it keeps a run that has ended")
		}
		<-time.After(2 * time.Millisecond)
	}
}

// TestASuspectThatIsTakenUpStaysAlone: nothing new comes beside a run under
// which gateways died, whoever told of it.
func TestASuspectThatIsTakenUpStaysAlone(t *testing.T) {
	t.Parallel()
	l := newLink("b1")
	r := newRig(t, func(c *gateway.Config) { c.Dial = dialer(l) })
	await(r, "a window", func(d messages.Demand) bool { return d.Window > 1 })
	run := r.move(r.row("t1", "").task, messages.Running, func(t *messages.Task) {
		for range messages.SuspectAfter {
			t.CountDeath(messages.Now(), false)
		}
	})
	r.system.Root.RequestWithCustomSender(r.pid, &messages.Assign{Task: run}, r.pool)
	if d := await(r, "the run", func(d messages.Demand) bool { return lists(d, "t1") }); d.Window != 1 {
		t.Errorf("window %d beside a suspect, want 1", d.Window)
	}
}

// TestARestartTakesUpEveryOpenRow, of every state that is at a gateway, and more
// of them than one page of the store holds.
func TestARestartTakesUpEveryOpenRow(t *testing.T) {
	t.Parallel()
	const many = 1100 // two pages of 500 and a rest
	var r *rig
	waiting := make(chan struct{})
	r = newRig(t, func(c *gateway.Config) {
		c.Dial = dialer()
		c.Store = later{Store: c.Store, from: waiting}
	})
	want := map[string]messages.TaskState{}
	for i := range many {
		id := fmt.Sprintf("t%04d", i)
		task := r.row(id, "").task
		switch i % 4 {
		case 1:
			task = r.move(task, messages.Running)
		case 2:
			task = r.move(task, messages.Cancelling, func(t *messages.Task) { t.Stopping = messages.StopDeadline })
		case 3:
			task = r.move(r.move(task, messages.Running), messages.Recovering)
		}
		want[id] = task.State
	}
	close(waiting)
	d := await(r, "a demand", func(messages.Demand) bool { return true })
	for id, state := range want {
		if !lists(d, id) {
			t.Errorf("%s, which is %s, is not listed", id, state)
			if len(want) > 10 {
				t.FailNow()
			}
		}
	}
	if len(d.Running) != many {
		t.Errorf("%d runs are listed, want %d", len(d.Running), many)
	}
}

// later is a store that answers when the test has filled it.
type later struct {
	gateway.Store
	from <-chan struct{}
}

func (l later) Tasks(ctx context.Context, f persistence.TaskFilter, cursor string, limit int) ([]messages.Task, string, error) {
	<-l.from
	return l.Store.Tasks(ctx, f, cursor, limit)
}

// TestAClaimOfAnEarlierLifeCountsAsSent: nobody knows whether its frame left, so
// the gateway is asked before anything is sent, and it is never given back.
func TestAClaimOfAnEarlierLifeCountsAsSent(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 100)
	l := newKnowing("b1")
	l.session = func() (openclaw.Session, bool, error) {
		asked <- struct{}{}
		if len(l.frames) > 0 {
			t.Error("the frame was written before the session was read")
		}
		return openclaw.Session{}, false, nil
	}
	waiting := make(chan struct{})
	r := newRig(t, func(c *gateway.Config) {
		c.Dial = l.dial
		c.Store = later{Store: c.Store, from: waiting}
	})
	r.row("t1", "")
	close(waiting)
	d := await(r, "a demand", func(messages.Demand) bool { return true })
	if !lists(d, "t1") || len(d.Returned) > 0 {
		t.Fatalf("running %v, returned %v", d.Running, d.Returned)
	}
	select {
	case <-asked:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody asked the gateway")
	}
}

// TestTheSameAssignTwice: the pool repeats an assignment until it is listed; it
// is one run, with one frame, in one slot.
func TestTheSameAssignTwice(t *testing.T) {
	t.Parallel()
	l := newKnowing("b1")
	r := newRig(t, func(c *gateway.Config) { c.Dial = l.dial })
	await(r, "a window", open)
	task := r.row("t1", "").task
	for range 5 {
		r.system.Root.RequestWithCustomSender(r.pid, &messages.Assign{Task: task}, r.pool)
	}
	select {
	case run := <-l.frames:
		if run != "t1.1" {
			t.Fatalf("the frame of %s was written", run)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no frame was written")
	}
	s := r.inspect() // behind the repetitions
	if len(s.Running) != 1 || s.Status.Running != 1 {
		t.Errorf("running %+v, %d slots", s.Running, s.Status.Running)
	}
	if _, ok := r.system.ProcessRegistry.GetLocal(r.pid.Id + "/session-2"); ok {
		t.Error("a second session actor was started")
	}
	if len(l.frames) > 0 {
		t.Errorf("the frame of %s was written again", <-l.frames)
	}
	d := await(r, "the demand", func(d messages.Demand) bool { return len(d.Running) > 0 })
	if len(d.Running) != 1 {
		t.Errorf("it lists %v", d.Running)
	}
}

// TestAFencedOwnerLetsGo: another node has taken the gateway. The first write
// that is fenced ends this owner, and it says so.
func TestAFencedOwnerLetsGo(t *testing.T) {
	t.Parallel()
	l := newKnowing("b1")
	lost := make(chan string, 1)
	r := newRig(t, func(c *gateway.Config) {
		c.Dial = l.dial
		c.Lost = func(id string) { lost <- id }
	})
	await(r, "a window", open)
	if err := r.store.Release(t.Context(), r.fence); err != nil {
		t.Fatal(err)
	}
	if f, err := r.store.Take(t.Context(), messages.GatewayScope, "gw", "n-2"); err != nil || f.Epoch != r.fence.Epoch+1 {
		t.Fatal(f, err)
	}
	r.system.Root.Send(r.pid, gateway.Drain{}) // it writes its state
	if id := <-lost; id != "gw" {
		t.Errorf("lost %q", id)
	}
	limit := time.Now().Add(10 * time.Second)
	for _, runs := r.system.ProcessRegistry.GetLocal(r.pid.Id); runs; _, runs = r.system.ProcessRegistry.GetLocal(r.pid.Id) {
		if time.Now().After(limit) {
			t.Fatal("the former owner goes on")
		}
		<-time.After(2 * time.Millisecond)
	}
}
