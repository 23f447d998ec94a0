package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// TestClientHearsOfDoubt: who submits into an outcome that nobody knows is told
// so at once, and finds the task under the same key when the store can tell.
func TestClientHearsOfDoubt(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		b.stats() // it serves
		b.store.set(func(m *memory) { m.err = persistence.ErrUnknown })
		m := Submit{Task: newTask(messages.High, ""), IdemKey: "k", IdemHash: []byte("a")}
		began := time.Now()
		if _, _, err := b.client.Submit(b.ctx(), "default", m); messages.CodeOf(err) != messages.CodeTimeout || time.Since(began) > time.Second {
			t.Fatalf("after %v: %v", time.Since(began), err)
		}
		again := m
		again.Task = newTask(messages.High, "")
		if _, _, err := b.client.Submit(b.ctx(), "default", again); messages.CodeOf(err) != messages.CodeUnavailable {
			t.Fatalf("while it is in doubt: %v", err)
		}
		b.store.set(func(m *memory) { m.err = nil })
		b.eventually("the task under its key", func() bool {
			got, existing, err := b.client.Submit(b.ctx(), "default", again)
			return err == nil && existing && got.ID == m.Task.ID
		})
		if s := b.stats(); s.Open != 1 {
			t.Fatalf("%d tasks are open, want the one", s.Open)
		}
		g := b.gateway("gw-1")
		g.demand(1)
		if a := g.assign(); a.Task.ID != m.Task.ID {
			t.Fatalf("%s is assigned", a.Task.ID)
		}
	})
}

// TestClaimWaitsForItsInsert: the claim of a task whose insert is in doubt waits
// for the same answer. Were it refused, its session would have to be read from
// a store that is away, and a later task would be claimed before it.
func TestClaimWaitsForItsInsert(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		if _, _, err := b.client.OpenSession(b.ctx(), "default", "default", "s", nil); err != nil {
			t.Fatal(err)
		}
		hang := make(chan struct{})
		defer close(hang)
		b.store.set(func(m *memory) { m.err, m.reads = persistence.ErrUnknown, hang })
		first := newTask(messages.Low, "s")
		if _, _, err := b.client.Submit(b.ctx(), "default", Submit{Task: first}); messages.CodeOf(err) != messages.CodeTimeout {
			t.Fatalf("in doubt: %v", err)
		}
		g := b.gateway("gw-1")
		g.demand(1)
		synctest.Wait()
		b.store.set(func(m *memory) { m.err = nil })
		b.eventually("the store takes tasks again", func() bool {
			_, _, err := b.client.Submit(b.ctx(), "default", Submit{Task: newTask(messages.Low, "")})
			return err == nil
		})
		if a := g.assign(); a.Task.ID != first.ID {
			t.Fatal("the later task was claimed first")
		}
	})
}
