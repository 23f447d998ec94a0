package dispatch

import (
	"reflect"
	"slices"
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

// TestEveryWriteHearsOfDoubt: whatever a client asks for while nobody knows
// what the store has taken, it is answered within a second; also what would
// wait behind another operation, on the same session or the same task.
func TestEveryWriteHearsOfDoubt(t *testing.T) {
	type world struct {
		*bench
		queued, held, dead messages.Task
	}
	send := func(w *world, session string) error {
		_, _, err := w.client.Submit(w.ctx(), "default", Submit{Task: newTask(messages.High, session)})
		return err
	}
	writes := map[string]func(w *world) error{
		"Submit":                func(w *world) error { return send(w, "") },
		"Submit, new session":   func(w *world) error { return send(w, "new") },
		"Submit, known session": func(w *world) error { return send(w, "s") },
		"Cancel": func(w *world) error {
			_, err := w.client.Cancel(w.ctx(), "default", w.queued.ID, "")
			return err
		},
		"Release": func(w *world) error {
			_, err := w.client.Release(w.ctx(), "default", w.held.ID, ReleaseFail)
			return err
		},
		"Replay": func(w *world) error { _, _, err := w.client.Replay(w.ctx(), "default", w.dead.ID, ""); return err },
		"ReplayAll": func(w *world) error {
			_, _, err := w.client.ReplayAll(w.ctx(), persistence.TaskFilter{}, "", false)
			return err
		},
		"OpenSession": func(w *world) error {
			_, _, err := w.client.OpenSession(w.ctx(), "default", "default", "new", nil)
			return err
		},
		"CloseSession": func(w *world) error { _, err := w.client.CloseSession(w.ctx(), "default", "s"); return err },
		"MoveSession":  func(w *world) error { _, err := w.client.MoveSession(w.ctx(), "default", "s", "", false); return err },
		"RetireSessions": func(w *world) error { // each time others: those under way are left alone
			_, err := w.client.RetireSessions(w.ctx(), "default", RetireSessions{UnusedSince: time.Now(), Sessions: []messages.Session{
				{Tenant: "default", ID: messages.NewID(), Pool: "default", State: messages.SessionIdle},
			}})
			return err
		},
		"UnparkSession": func(w *world) error { _, err := w.client.UnparkSession(w.ctx(), "default", "parked"); return err },
	}
	others := []string{"SetPool", "QueueStats", "Explain"} // in memory alone
	for i, typ := 0, reflect.TypeFor[*Client](); i < typ.NumMethod(); i++ {
		if name := typ.Method(i).Name; writes[name] == nil && !slices.Contains(others, name) {
			t.Errorf("nobody tries %s while the store is in doubt", name)
		}
	}
	for name, write := range writes {
		t.Run(name, func(t *testing.T) {
			play(t, nil, func(t *testing.T, b *bench) {
				w := &world{bench: b, queued: b.submit(newTask(messages.Low, "")), held: newTask(messages.Low, ""), dead: newTask(messages.Low, "")}
				w.held.State, w.dead.State = messages.Held, messages.DeadLetter
				b.put(w.held, w.dead)
				for id, state := range map[string]messages.SessionState{"s": messages.SessionIdle, "parked": messages.SessionParked} {
					b.store.set(func(m *memory) {
						m.sessions[sessionID("default", id)] = messages.Session{Tenant: "default", ID: id, Pool: "default", State: state}
					})
				}
				b.pass(3 * time.Minute) // the sweep finds the held one
				b.store.set(func(m *memory) { m.err = persistence.ErrUnknown })
				first := make(chan error, 1)
				began := time.Now()
				go func() { first <- write(w) }()
				if err := <-first; messages.CodeOf(err) != messages.CodeTimeout || time.Since(began) > time.Second {
					t.Errorf("after %v: %v, want that nobody knows", time.Since(began), err)
				}
				began = time.Now()
				if err := write(w); err == nil || time.Since(began) > time.Second {
					t.Errorf("once more, after %v: %v", time.Since(began), err)
				}
				b.store.set(func(m *memory) { m.err = nil })
				b.pass(5 * time.Second)
			})
		})
	}
}
