package dispatch

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dash-fleet/dash/messages"
)

func wantRow(b *bench, id string, state messages.TaskState, attempt int32) messages.Task {
	b.Helper()
	synctest.Wait()
	row := b.row(id)
	if row.State != state || row.Attempt != attempt {
		b.Fatalf("task is %s with attempt %d, want %s with %d", row.State, row.Attempt, state, attempt)
	}
	return row
}

func TestScheduledTaskGetsItsPlaceWhenDue(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		later := newTask(messages.High, "")
		later.DueAt = messages.Now().Add(time.Hour)
		later = b.submit(later)
		first := b.submit(newTask(messages.High, ""))
		wantRow(b, later.ID, messages.Scheduled, 0)
		time.Sleep(time.Hour)
		row := wantRow(b, later.ID, messages.Queued, 0)
		if row.Seq <= first.Seq {
			t.Fatalf("seq %d is not after %d", row.Seq, first.Seq)
		}
		g := b.gateway("gw-1")
		g.demand(2)
		if a, c := g.assign(), g.assign(); a.Task.ID != first.ID || c.Task.ID != later.ID {
			t.Fatal("the scheduled task did not come second")
		}
	})
}

func TestRetryKeepsItsSeqAndTakesTheLoadOffFirst(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		task := b.submit(newTask(messages.Low, ""))
		other := b.submit(newTask(messages.Low, ""))
		g := b.gateway("gw-1")
		g.demand(1)
		a := g.assign()
		g.end(a, messages.RetryWait, func(t *messages.Task) {
			t.DueAt = messages.Now().Add(30 * time.Second)
			t.Error = &messages.TaskError{Code: "provider_unavailable", Retryable: true}
		})
		c := g.assign() // the slot is free at once
		if c.Task.ID != other.ID {
			t.Fatalf("%s was assigned, want %s", c.Task.ID, other.ID)
		}
		third := b.submit(newTask(messages.Low, ""))
		b.pass(31*time.Second, g)
		row := wantRow(b, task.ID, messages.Queued, 1)
		if row.Seq != task.Seq {
			t.Fatalf("seq %d, want %d", row.Seq, task.Seq)
		}
		g.end(c, messages.Succeeded)
		if again := g.assign(); again.Task.ID != task.ID || again.Task.Claim != 2 || again.Task.Attempt != 2 {
			t.Fatalf("after the retry: %+v, want claim 2 of %s before %s", again.Task, task.ID, third.ID)
		}
	})
}

func TestExpiry(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		task := newTask(messages.Low, "")
		task.NotAfter = messages.Now().Add(time.Minute)
		task = b.submit(task)
		both := newTask(messages.Low, "")
		both.DueAt, both.NotAfter = messages.Now().Add(time.Hour), messages.Now().Add(2*time.Minute)
		both = b.submit(both)
		time.Sleep(3 * time.Minute)
		wantRow(b, task.ID, messages.Expired, 0)
		wantRow(b, both.ID, messages.Expired, 0)
		if s := b.stats(); s.Open != 0 || s.Classes[3].Bytes != 0 {
			t.Fatalf("stats %+v, want nothing open", s)
		}
		past := newTask(messages.Low, "")
		past.NotAfter = messages.Now().Add(-time.Second)
		_, _, err := b.client.Submit(b.ctx(), "default", Submit{Task: past})
		if messages.CodeOf(err) != messages.CodeInvalid {
			t.Fatalf("not_after in the past: %v", err)
		}
	})
}

func TestRefusedClaimIsTakenBack(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		task := b.submit(newTask(messages.Low, ""))
		b.submit(newTask(messages.Low, ""))
		g := b.gateway("gw-1")
		g.demand(1)
		a := g.assign()
		ref := messages.ClaimRef{Task: task.ID, Claim: a.Task.Claim}
		delete(g.running, ref)
		returned := func(d *messages.Demand) { d.Returned = []messages.Returned{{ClaimRef: ref, Reason: "draining"}} }
		g.demand(0, returned)
		if taken := nextOf[messages.Taken](g); len(taken.Claims) != 1 || taken.Claims[0] != ref {
			t.Fatalf("taken %+v", taken)
		}
		row := wantRow(b, task.ID, messages.Queued, 0)
		if row.Seq != task.Seq || row.Claim != 1 {
			t.Fatalf("row %+v, want seq %d and claim 1", row, task.Seq)
		}
		g.demand(1, returned) // the evidence is old now and only acknowledged
		if again := g.assign(); again.Task.ID != task.ID || again.Task.Claim != 2 || again.Task.Attempt != 1 {
			t.Fatalf("assigned again as %+v", again.Task)
		}
		g.demand(0, returned) // it tells of claim 1, and claim 2 goes on
		wantRow(b, task.ID, messages.Claimed, 1)
	})
}

// TestEvidenceOfAFormerOwnerIsVoid: by the time P writes, another owner has the
// gateway and may have sent the claim again.
func TestEvidenceOfAFormerOwnerIsVoid(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		task := b.submit(newTask(messages.Low, ""))
		g := b.gateway("gw-1")
		g.demand(1)
		ref := messages.ClaimRef{Task: task.ID, Claim: g.assign().Task.Claim}
		b.store.set(func(m *memory) {
			m.fences["gw-1"] = messages.Fence{Scope: messages.GatewayScope, Key: "gw-1", Owner: "node-2", Epoch: 2}
		})
		clear(g.running)
		g.demand(1, func(d *messages.Demand) { d.Returned = []messages.Returned{{ClaimRef: ref, Reason: "not sent"}} })
		none[messages.Taken](g)
		wantRow(b, task.ID, messages.Claimed, 1)
	})
}

// TestThrowAwayKeysAreNeverUsedTwice: the gateway's owner may raise the
// generation as well.
func TestThrowAwayKeysAreNeverUsedTwice(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		b.submit(newTask(messages.Low, ""))
		g := b.gateway("gw-1")
		g.demand(1)
		a := g.assign()
		g.end(a, messages.RetryWait, func(t *messages.Task) { t.Generation += 3 })
		if again := g.assign(); again.Task.Generation <= a.Task.Generation+3 {
			t.Fatalf("generation %d after %d", again.Task.Generation, a.Task.Generation+3)
		}
	})
}

func TestClaimIsRepeatedUntilListed(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		b.submit(newTask(messages.Low, ""))
		g := b.gateway("gw-1")
		g.demand(1)
		first := nextOf[*messages.Assign](g) // and lost by its receiver
		time.Sleep(messages.DemandInterval)
		g.demand(1)
		if again := g.assign(); again.Task.ID != first.Task.ID || again.Task.Claim != first.Task.Claim {
			t.Fatalf("got %+v, want the same claim again", again.Task)
		}
		b.pass(10*time.Second, g)
		none[*messages.Assign](g)
	})
}

func TestDemandRules(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		for range 4 {
			b.submit(newTask(messages.Low, ""))
		}
		g := b.gateway("gw-1")
		g.epoch = 2
		g.demand(1)
		a := g.assign()
		g.epoch = 1
		g.demand(4) // an owner of the past
		none[*messages.Assign](g)
		g.epoch = 2
		g.demand(2)
		g.assign()
		g.demand(1) // the window shrinks below what runs
		g.end(a, messages.Succeeded)
		none[*messages.Assign](g)
		time.Sleep(messages.DemandTimeout + 2*time.Second) // silence closes it
		if s := b.stats(); s.Gateways[0].Window != 0 || !s.Gateways[0].Silent {
			t.Fatalf("silent gateway: %+v", s.Gateways[0])
		}
	})
}

func TestFencedGatewayGetsNothingAndItsTaskStaysQueued(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		task := b.submit(newTask(messages.Low, ""))
		b.store.set(func(m *memory) {
			m.fences["gw-1"] = messages.Fence{Scope: messages.GatewayScope, Key: "gw-1", Owner: "node-1", Epoch: 2}
		})
		g := b.gateway("gw-1")
		g.demand(1)
		none[*messages.Assign](g)
		wantRow(b, task.ID, messages.Queued, 0)
		g.demand(1) // the former owner again: it would be fenced with every claim
		if w := b.stats().Gateways[0].Window; w != 0 {
			t.Fatalf("window %d, want 0 until another epoch speaks", w)
		}
		g.epoch = 2
		g.demand(1)
		if a := g.assign(); a.Task.Claim != 1 {
			t.Fatalf("claim %d, want 1", a.Task.Claim)
		}
	})
}

func TestPoolStopsWhenItsShardIsTaken(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		b.submit(newTask(messages.Low, ""))
		b.store.set(func(m *memory) {
			m.fences["7"] = messages.Fence{Scope: messages.ShardScope, Key: "7", Owner: "node-2", Epoch: 2}
		})
		_, _, err := b.client.Submit(b.ctx(), "default", Submit{Task: newTask(messages.Low, "")})
		if messages.CodeOf(err) != messages.CodeUnavailable {
			t.Fatalf("submit to a lost pool: %v", err)
		}
		if m := <-b.parent; m != (Fenced{Pool: "default"}) {
			t.Fatalf("parent heard %v", m)
		}
		synctest.Wait()
		if _, runs := b.system.ProcessRegistry.GetLocal(b.pool.Id); runs {
			t.Fatal("the pool goes on")
		}
	})
}

// TestBytesAreBoundedToo: what a class may hold of inputs is a limit of its own.
func TestBytesAreBoundedToo(t *testing.T) {
	limits := map[messages.Class]messages.ClassLimit{messages.Low: {Count: 100, Bytes: 12}}
	play(t, func(c *Config) { c.Pool.Limits = limits }, func(t *testing.T, b *bench) {
		submit := func(bytes int) error {
			task := newTask(messages.Low, "")
			task.Spec.Message = strings.Repeat("x", bytes)
			_, _, err := b.client.Submit(b.ctx(), "default", Submit{Task: task})
			return err
		}
		if err := submit(10); err != nil {
			t.Fatal(err)
		}
		var full *messages.Error
		if err := submit(3); !errors.As(err, &full) || full.Code != messages.CodeQueueFull || full.RetryAfter <= 0 {
			t.Errorf("13 bytes of 12: %v", err)
		}
		if err := submit(2); err != nil {
			t.Errorf("12 bytes of 12: %v", err)
		}
		if err := submit(1); messages.CodeOf(err) != messages.CodeQueueFull {
			t.Errorf("13 bytes of 12: %v", err)
		}
	})
}

func TestPoolCapAndLimitsChangeAtOnce(t *testing.T) {
	play(t, func(c *Config) { c.Pool.MaxConcurrency = 1 }, func(t *testing.T, b *bench) {
		for range 4 {
			b.submit(newTask(messages.Low, ""))
		}
		g := b.gateway("gw-1")
		g.demand(8)
		g.assign()
		none[*messages.Assign](g)
		p := messages.Pool{ID: "default", Tenant: "default", MaxConcurrency: 2, Limits: map[messages.Class]messages.ClassLimit{messages.Low: {Count: 1}}}
		if err := b.client.SetPool(b.ctx(), p); err != nil {
			t.Fatal(err)
		}
		g.assign()
		none[*messages.Assign](g)
		synctest.Wait()
		_, _, err := b.client.Submit(b.ctx(), "default", Submit{Task: newTask(messages.Low, "")})
		if messages.CodeOf(err) != messages.CodeQueueFull {
			t.Fatalf("over the new limit: %v", err)
		}
	})
}

func TestReservedSlotsAndAging(t *testing.T) {
	play(t, func(c *Config) { c.Pool.Reserved = map[messages.Class]int{messages.Critical: 1} }, func(t *testing.T, b *bench) {
		for range 3 {
			b.submit(newTask(messages.Low, ""))
		}
		g := b.gateway("gw-1")
		g.demand(2)
		a := g.assign()
		none[*messages.Assign](g) // the other slot is kept for critical work
		urgent := b.submit(newTask(messages.Critical, ""))
		if got := g.assign(); got.Task.ID != urgent.ID {
			t.Fatalf("assigned %s, want the critical task", got.Task.Class)
		}
		if err := b.client.SetPool(b.ctx(), messages.Pool{ID: "default", Tenant: "default", AgingSeconds: 60}); err != nil {
			t.Fatal(err)
		}
		b.pass(3*time.Minute, g)
		high := b.submit(newTask(messages.High, ""))
		g.end(a, messages.Succeeded)
		if a = g.assign(); a.Task.Class != messages.Low {
			t.Fatalf("assigned %s, want low: it has waited for three steps", a.Task.Class)
		}
		critical := b.submit(newTask(messages.Critical, ""))
		g.end(a, messages.Succeeded)
		if a = g.assign(); a.Task.Class != messages.Low {
			t.Fatalf("assigned %s, want low: as critical as the other, and first", a.Task.Class)
		}
		g.end(a, messages.Succeeded)
		if a = g.assign(); a.Task.ID != critical.ID {
			t.Fatalf("assigned %s, want critical before %s", a.Task.Class, high.Class)
		}
	})
}
