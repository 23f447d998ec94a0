package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// TestGroupSeesWhatItsPastAskedFor: an insert is on its way to the store when
// the group fails; the new incarnation waits for it before it reads.
func TestGroupSeesWhatItsPastAskedFor(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		b.submit(newTask(messages.Low, ""))
		hold := make(chan struct{})
		b.store.set(func(m *memory) { m.hold = hold })
		task := newTask(messages.High, "")
		b.system.Root.Send(b.pool, &Submit{Task: task})
		synctest.Wait()
		b.crash(0)
		time.Sleep(time.Second)
		g := b.gateway("gw-1")
		g.demand(1)
		b.store.set(func(m *memory) { m.hold = nil })
		close(hold)
		if a := g.assign(); a.Task.ID != task.ID {
			t.Fatalf("assigned %s of class %s, want the one that was on its way", a.Task.ID, a.Task.Class)
		}
	})
}

// TestLostAnswerOfAClaim: the claim was written, its answer was lost; the
// repetition finds its own row and goes on at once.
func TestLostAnswerOfAClaim(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		task, inSession := b.submit(newTask(messages.High, "")), b.submit(newTask(messages.Low, "s"))
		g := b.gateway("gw-1")
		for _, want := range []messages.Task{task, inSession} {
			b.store.set(func(m *memory) { m.lose = 1 })
			g.demand(1)
			a := g.assign()
			if a.Task.ID != want.ID || a.Task.Claim != 1 || a.Task.Attempt != 1 {
				t.Fatalf("assigned %+v", a.Task)
			}
			g.demand(0)
			g.end(a, messages.Succeeded)
			synctest.Wait()
		}
		if n := testutil.CollectAndCount(b.metrics.corrections); n != 0 {
			t.Fatalf("%d kinds of corrections", n)
		}
	})
}

func TestSweepAdoptsAnUnknownTask(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		known := b.submit(newTask(messages.Low, ""))
		task := newTask(messages.High, "")
		task.Pool, task.State, task.Seq, task.CreatedAt = "default", messages.Queued, 50, messages.Now()
		if _, err := b.store.Commit(b.ctx(), []persistence.Op{{Insert: &persistence.TaskInsert{Task: task}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2*sweepEvery + time.Second)
		g := b.gateway("gw-1")
		g.demand(1)
		if a := g.assign(); a.Task.ID != task.ID {
			t.Fatalf("assigned %s, want the task that only the store knew, before %s", a.Task.ID, known.ID)
		}
		if n := testutil.ToFloat64(b.metrics.corrections.WithLabelValues("default", "unknown_task")); n != 1 {
			t.Fatalf("%v corrections, want 1", n)
		}
	})
}

// TestLostEndIsFound: the end of a claim is durable, but nobody told the pool.
func TestLostEndIsFound(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		g := b.gateway("gw-1")
		g.demand(2)
		write := func(a *messages.Assign, state messages.TaskState) {
			end := a.Task
			end.State, end.DueAt = state, messages.Now().Add(time.Hour)
			delete(g.running, messages.ClaimRef{Task: end.ID, Claim: end.Claim})
			if _, err := b.store.Commit(b.ctx(), []persistence.Op{{
				Update: &persistence.TaskUpdate{Task: end, From: messages.Claimed, FromClaim: end.Claim},
			}}); err != nil {
				t.Fatal(err)
			}
		}
		b.submit(newTask(messages.Low, ""))
		b.submit(newTask(messages.Low, ""))
		write(g.assign(), messages.Succeeded)
		write(g.assign(), messages.RetryWait)
		b.pass(14*time.Second, g)
		if s := b.stats(); s.Open != 1 || s.Gateways[0].InFlight != 0 || s.Classes[3].RetryWait != 1 || s.Classes[3].Admitted != 1 {
			t.Fatalf("stats %+v", s)
		}
		if n := testutil.CollectAndCount(b.metrics.corrections); n != 2 {
			t.Fatalf("%d kinds of corrections, want 2", n)
		}
	})
}

func TestMetricsTellTheTruth(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		b.submit(newTask(messages.Low, ""))
		b.submit(newTask(messages.Low, "s"))
		b.submit(newTask(messages.Low, "s"))
		time.Sleep(30 * time.Second)
		low := []string{"default", "low"}
		if n := testutil.ToFloat64(b.metrics.depth.WithLabelValues(low...)); n != 3 {
			t.Errorf("depth %v, want 3", n)
		}
		if n := testutil.ToFloat64(b.metrics.oldest.WithLabelValues(low...)); n < 28 || n > 31 {
			t.Errorf("oldest %v s, want about 30", n)
		}
		g := b.gateway("gw-1")
		g.demand(1)
		g.end(g.assign(), messages.Succeeded)
		g.assign()
		time.Sleep(2 * time.Second)
		if n := testutil.ToFloat64(b.metrics.depth.WithLabelValues(low...)); n != 1 {
			t.Errorf("depth %v, want 1", n)
		}
		for state, want := range map[string]float64{"queued": 3, "claimed": 2, "succeeded": 1} {
			if n := testutil.ToFloat64(b.metrics.tasks.WithLabelValues("low", state)); n != want {
				t.Errorf("%v tasks became %s, want %v", n, state, want)
			}
		}
		reg := prometheus.NewRegistry()
		reg.MustRegister(b.metrics.start)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var starts uint64
		for _, m := range families[0].GetMetric() {
			starts += m.GetHistogram().GetSampleCount()
		}
		if starts != 1 {
			t.Errorf("%d starts observed, want 1", starts)
		}
	})
}
