package dispatch

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// put writes a row that the pool's owner did not write itself.
func (b *bench) put(tasks ...messages.Task) {
	b.Helper()
	ops := make([]persistence.Op, len(tasks))
	for i, t := range tasks {
		t.Pool, t.CreatedAt = "default", messages.Now()
		ops[i].Insert = &persistence.TaskInsert{Task: t}
	}
	if _, err := b.store.Commit(b.ctx(), ops); err != nil {
		b.Fatal(err)
	}
}

// queued are n queued tasks with rising ids and places.
func queued(n int) []messages.Task {
	tasks := make([]messages.Task, n)
	for i := range tasks {
		tasks[i] = newTask(messages.Low, "")
		tasks[i].State, tasks[i].Seq = messages.Queued, int64(i+1)
	}
	return tasks
}

// TestSweepTurnsItsPages: more healthy rows than one sweep reads stand before
// the row that memory does not know.
func TestSweepTurnsItsPages(t *testing.T) {
	t.Parallel()
	store := newMemory()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{TB: t, store: store}
		healthy := queued(sweepPages*loadPage + 1)
		b.put(healthy...)
		b = openBench(t, store, nil)
		b.stats() // it serves
		lost := newTask(messages.Critical, "")
		lost.State, lost.Seq = messages.Queued, 1<<40
		b.put(lost)
		time.Sleep(5 * (sweepEvery + time.Second))
		synctest.Wait()
		if n := b.stats().Open; n != len(healthy)+1 {
			t.Fatalf("%d tasks are known, want all %d", n, len(healthy)+1)
		}
		if n := testutil.ToFloat64(b.metrics.corrections.WithLabelValues("default", "unknown_task")); n != 1 {
			t.Errorf("%v rows were taken in, want the one", n)
		}
		g := b.gateway("gw-1")
		g.demand(1)
		if a := g.assign(); a.Task.ID != lost.ID {
			t.Errorf("assigned %s, want the task behind the first pages", a.Task.ID)
		}
	})
}

// TestATaskWithoutARowIsForgotten: its row was removed behind the owner's back.
// It holds no slot, no place and no credit for ever.
func TestATaskWithoutARowIsForgotten(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		running, waiting := b.submit(newTask(messages.High, "")), b.submit(newTask(messages.Low, ""))
		g := b.gateway("gw-1")
		g.demand(1)
		a := g.assign()
		b.store.set(func(m *memory) { delete(m.tasks, running.ID) })
		delete(g.running, messages.ClaimRef{Task: a.Task.ID, Claim: a.Task.Claim})
		b.pass(14*time.Second, g)
		got := g.assign()
		for got.Task.ID == running.ID { // repeated while the pool believes in it
			delete(g.running, messages.ClaimRef{Task: running.ID, Claim: 1})
			got = g.assign()
		}
		if got.Task.ID != waiting.ID {
			t.Fatalf("assigned %s, want the task that waited for the slot", got.Task.ID)
		}
		if s := b.stats(); s.Open != 1 || s.Gateways[0].InFlight != 1 {
			t.Errorf("at rest: %+v", s)
		}
	})
}

// TestAnUnlistedRunIsHandedOver: by its row a run goes on, but the owner of its
// gateway does not list it. It is given to that owner again, as the store has it.
func TestAnUnlistedRunIsHandedOver(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		task := b.submit(newTask(messages.High, ""))
		g := b.gateway("gw-1")
		g.demand(1)
		a := g.assign()
		run := a.Task
		run.State, run.StartedAt = messages.Running, messages.Now()
		if out, err := b.store.Commit(b.ctx(), []persistence.Op{{
			Update: &persistence.TaskUpdate{Task: run, From: messages.Claimed, FromClaim: 1},
		}}); err != nil || out[0].Status != persistence.OK {
			t.Fatal(out, err)
		}
		b.pass(20*time.Second, g) // listed: the sweep takes over that it runs, and nothing is repeated
		none[*messages.Assign](g)

		delete(g.running, messages.ClaimRef{Task: task.ID, Claim: 1})
		b.pass(14*time.Second, g)
		again := g.assign()
		if again.Task.ID != task.ID || again.Task.Claim != 1 || again.Task.State != messages.Running {
			t.Errorf("assigned %+v, want the run again", again.Task)
		}
		if row := b.row(task.ID); row.State != messages.Running || row.Attempt != 1 {
			t.Errorf("the row is %s, attempt %d", row.State, row.Attempt)
		}
		if n := testutil.ToFloat64(b.metrics.corrections.WithLabelValues("default", "unlisted_run")); n == 0 {
			t.Error("nobody counted it")
		}
		for len(g.got) > 0 {
			<-g.got
		}
		b.pass(20*time.Second, g)
		none[*messages.Assign](g)
	})
}

// TestSweepSeesAnotherClaim of the same task in the same state at the same
// gateway: the store is right.
func TestSweepSeesAnotherClaim(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		task := b.submit(newTask(messages.High, ""))
		g := b.gateway("gw-1")
		g.demand(1)
		g.assign()
		b.store.set(func(m *memory) {
			row := m.tasks[task.ID]
			row.Claim = 2
			m.tasks[task.ID] = row
		})
		b.pass(8*time.Second, g) // which lists claim 1 all the time
		if w := nextOf[messages.Withdraw](g); w.Task != task.ID || w.Claim != 1 {
			t.Errorf("withdrawn: %+v, want claim 1", w)
		}
		delete(g.running, messages.ClaimRef{Task: task.ID, Claim: 1})
		b.pass(2*time.Second, g)
		if a := g.assign(); a.Task.Claim != 2 {
			t.Errorf("assigned claim %d, want 2", a.Task.Claim)
		}
	})
}

// TestReadsBackEverySession, also those behind the first page that have no task
// which would have them read: one that was busy when the owner before died is
// idle again.
func TestReadsBackEverySession(t *testing.T) {
	t.Parallel()
	store := newMemory()
	for i := range loadPage + 1 {
		s := messages.Session{Tenant: "default", ID: fmt.Sprintf("s%06d", i), Pool: "default", State: messages.SessionIdle}
		if i == loadPage {
			s.State, s.Gateway = messages.SessionBusy, "gw-1"
		}
		store.sessions[sessionID(s.Tenant, s.ID)] = s
	}
	synctest.Test(t, func(t *testing.T) {
		b := openBench(t, store, nil)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if s, err := store.Session(b.ctx(), "default", fmt.Sprintf("s%06d", loadPage)); err != nil || s.State != messages.SessionIdle {
			t.Errorf("the last session is %s (%v), want idle", s.State, err)
		}
	})
}
