package dispatch

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dash-fleet/dash/messages"
)

func TestExplainSaysWhyATaskWaits(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		why := b.why
		plain := b.submit(newTask(messages.Low, ""))
		why(plain.ID, "no_gateway", "the pool default has no gateway: add one with `dash gateway add ID --url ws://HOST:PORT --token-file FILE --pool default --tenant default`")

		needs := func(change func(*messages.Task)) messages.Task {
			task := newTask(messages.Low, "")
			change(&task)
			return b.submit(task)
		}
		tenant := needs(func(t *messages.Task) { t.Tenant = "acme" })
		region := needs(func(t *messages.Task) { t.Spec.Region = "mars" })
		able := needs(func(t *messages.Task) { t.Spec.Capabilities = []string{"vision", "gpu"} })
		g := b.gateway("gw-1")
		g.demand(0)
		why(tenant.ID, "no_gateway", "no gateway of the pool default serves tenant acme: add one with `dash gateway add`")
		why(region.ID, "no_gateway", "no gateway of the pool default is in region mars: add one with `dash gateway add`")
		why(able.ID, "no_gateway", "no gateway of the pool default has the capabilities gpu, vision together: add one with `dash gateway add`")
		why(plain.ID, "window", "no gateway that fits takes work now: look at `dash gateway list`")

		g.demand(1)
		g.assign()
		why(plain.ID, "", "") // it runs
		second := b.submit(newTask(messages.Low, ""))
		why(second.ID, "window", "every gateway that fits is busy")
	})
}

// TestExplainNamesReservedSlots: a class that other classes' slots keep out
// says so, and for ever is told from for now.
func TestExplainNamesReservedSlots(t *testing.T) {
	play(t, func(c *Config) { c.Pool.Reserved = map[messages.Class]int{messages.Critical: 2, messages.High: 1} }, func(t *testing.T, b *bench) {
		g := b.gateway("gw-1")
		g.demand(3)
		low := b.submit(newTask(messages.Low, ""))
		why := b.why
		never := "reserved: the pool has 3 slots and keeps 3 for other classes (critical 2, high 1), so that no low task starts"
		why(low.ID, "reserved", never+": add gateways, or keep fewer slots free with `dash pool set default --reserved CLASS=SLOTS`")
		for _, c := range b.stats().Classes {
			if want := map[messages.Class]string{messages.Low: never}[c.Class]; c.Class != messages.Medium && c.Starved != want {
				t.Errorf("%s is starved: %q, want %q", c.Class, c.Starved, want)
			}
		}
		g.demand(4)
		g.assign()
		second := b.submit(newTask(messages.Low, ""))
		why(second.ID, "reserved", "reserved: the free slots, 3, are kept for other classes")
		for _, c := range b.stats().Classes {
			if c.Starved != "" {
				t.Errorf("%s is starved: %q", c.Class, c.Starved)
			}
		}
	})
}

// TestAListLooksAtTheGatewaysOnce: what keeps many tasks that wait for the same
// does not cost a look at every gateway for each of them, during which nothing
// is handed out. It is not parallel: it counts what is allocated.
func TestAListLooksAtTheGatewaysOnce(t *testing.T) {
	const gateways, tasks = 200, 1000
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		for i := range gateways {
			b.gateway(fmt.Sprint("gw-", i)).demand(0)
		}
		var refs []TaskRef
		for range tasks {
			task := newTask(messages.Low, "")
			task.Spec.Region = "mars"
			refs = append(refs, TaskRef{ID: b.submit(task).ID})
		}
		synctest.Wait()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out, err := b.client.Explain(b.ctx(), "default", refs...)
		runtime.ReadMemStats(&after)
		if err != nil || len(out) != tasks || out[refs[tasks-1].ID].Code != messages.WaitsNoGateway {
			t.Fatalf("%d answers, %v", len(out), err)
		}
		if n := after.Mallocs - before.Mallocs; n > 2*tasks {
			t.Errorf("%d allocations for %d tasks", n, tasks)
		}
	})
}

// explain asks about one task, as a caller of all tenants.
func (b *bench) explain(id string) (Explanation, error) {
	synctest.Wait()
	x, err := b.client.Explain(b.ctx(), "default", TaskRef{ID: id})
	return x[id], err
}

// why fails the test unless a task waits for what is wanted, in code and words.
func (b *bench) why(id string, code messages.WaitingCode, words string) {
	b.Helper()
	if x, err := b.explain(id); err != nil || x.Code != code || x.Reason != words {
		b.Errorf("%s: %q, %v, want %s: %q", x.Code, x.Reason, err, code, words)
	}
}

// TestExplainTellsKindsOfWaitingApart: what a client does about them differs.
func TestExplainTellsKindsOfWaitingApart(t *testing.T) {
	play(t, func(c *Config) { c.Pool.MaxConcurrency = 1 }, func(t *testing.T, b *bench) {
		g := b.gateway("gw-1")
		g.demand(0, func(d *messages.Demand) { d.Draining = true })
		first := b.submit(newTask(messages.Low, "s"))
		b.why(first.ID, "draining", "every gateway that fits is drained: let one take work with `dash gateway resume ID`")
		g.demand(0, func(d *messages.Demand) { d.AwaySince = time.Now() })
		b.why(first.ID, "away", "no gateway that fits can be reached: look at `dash gateway list`")
		other := b.gateway("gw-2")
		other.demand(0, func(d *messages.Demand) { d.Draining = true })
		b.why(first.ID, "away", "the gateways that fit are drained or cannot be reached: look at `dash gateway list`")
		other.demand(0)
		b.why(first.ID, "window", "no gateway that fits takes work now: look at `dash gateway list`")

		g.demand(2)
		g.assign()
		b.why(first.ID, "", "")
		away := time.Now()
		g.demand(0, func(d *messages.Demand) { d.AwaySince = away })
		b.why(first.ID, "away", "its gateway gw-1 cannot be reached; if it stays away, the pool takes the task back after "+
			away.Add(time.Minute).UTC().Format(time.RFC3339)+": look at `dash gateway list`")
		g.demand(2)
		b.why(first.ID, "", "")
		second := b.submit(newTask(messages.Low, "s"))
		third := b.submit(newTask(messages.Low, "s"))
		b.why(second.ID, "session_busy", "an earlier task of the same session has not ended")
		free := b.submit(newTask(messages.Low, ""))
		b.why(free.ID, "cap", "the pool runs as many tasks as it may at once, 1")
		later := newTask(messages.Low, "u")
		later.DueAt = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
		later = b.submit(later)
		b.why(later.ID, "due", "it is due at 2100-01-01T00:00:00Z")

		x, err := b.client.Explain(b.ctx(), "default", TaskRef{ID: first.ID}, TaskRef{ID: second.ID, Tenant: "acme"}, TaskRef{ID: third.ID, Tenant: "default"}, TaskRef{ID: "gone"}, TaskRef{ID: later.ID})
		if err != nil || len(x) != 2 || x[third.ID].BlockedBy != first.ID || x[later.ID].Code != messages.WaitsDue {
			t.Errorf("%+v, %v, want what keeps the third and the later task: the first runs, the second is another tenant's", x, err)
		}
	})
}

// TestExplainBlocked: behind a task that does not run itself.
func TestExplainBlocked(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		first := b.submit(newTask(messages.Low, "s"))
		second := b.submit(newTask(messages.Low, "s"))
		b.why(second.ID, "blocked", "an earlier task of the same session has not ended")
		b.why(first.ID, "no_gateway", "the pool default has no gateway: add one with `dash gateway add ID --url ws://HOST:PORT --token-file FILE --pool default --tenant default`")
	})
}

// TestAQuestionNobodyWaitsForIsNotAnswered: those that came too late do not pile up.
func TestAQuestionNobodyWaitsForIsNotAnswered(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		task := b.submit(newTask(messages.Low, ""))
		pid, err := b.client.Pool(b.ctx(), "default")
		if err != nil {
			t.Fatal(err)
		}
		for late, want := range map[time.Duration]int{-time.Second: 0, time.Second: 1} {
			ch := make(chan map[string]Explanation, 1)
			b.client.Send.Send(pid, Explain{Tasks: []TaskRef{{ID: task.ID}}, Until: time.Now().Add(late), Reply: ch})
			synctest.Wait()
			if len(ch) != want {
				t.Errorf("asked until %v from now: %d answers, want %d", late, len(ch), want)
			}
		}
	})
}
