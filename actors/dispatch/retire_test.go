package dispatch

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

const month = 30 * time.Minute // a short one: each second is played

// retire hands the pool all sessions of the store, as the node does.
func (b *bench) retire(unused, closed time.Duration) Retired {
	b.Helper()
	m := RetireSessions{}
	if unused > 0 {
		m.UnusedSince = time.Now().Add(-unused)
	}
	if closed > 0 {
		m.ClosedSince = time.Now().Add(-closed)
	}
	for _, s := range b.store.sessionsNow() {
		m.Sessions = append(m.Sessions, s)
	}
	r, err := b.client.RetireSessions(b.ctx(), "default", m)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func (b *bench) closeSession(id string) {
	b.Helper()
	if _, err := b.client.CloseSession(b.ctx(), "default", id); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) runs(g *fakeGateway, session string) *messages.Assign {
	b.Helper()
	b.submit(newTask(messages.Low, session))
	a := g.assign()
	g.end(a, messages.Succeeded)
	b.pass(2*time.Second, g)
	return a
}

// TestClosedSessionsAreRemoved, and nothing else: not the open ones, not those
// closed a moment ago. Their watchers are told.
func TestClosedSessionsAreRemoved(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		g := b.gateway("gw-1")
		g.demand(4)
		for _, id := range []string{"old", "open", "young"} {
			b.runs(g, id)
		}
		b.closeSession("old")
		b.pass(month, g)
		b.closeSession("young")
		if r := b.retire(0, month-time.Minute); r.Removed != 1 || r.Closed != 0 {
			t.Fatalf("%+v, want one removed", r)
		}
		if _, err := b.store.Session(b.ctx(), "default", "old"); !errors.Is(err, persistence.ErrNotFound) {
			t.Errorf("its row is there: %v", err)
		}
		if s := b.session("open"); s.State != messages.SessionIdle {
			t.Errorf("the open one is %v", s.State)
		}
		if s := b.session("young"); s.State != messages.SessionClosed {
			t.Errorf("the one closed just now is %v", s.State)
		}
		last := b.store.events[len(b.store.events)-1]
		if c := last.GetSession(); last.Subject != "old" || c.GetState() != "removed" || c.GetFrom() != "closed" {
			t.Errorf("the last event is %v", last)
		}
		if r := b.retire(0, month-time.Minute); r != (Retired{}) {
			t.Errorf("once more: %+v", r)
		}
		if s := b.stats(); s.Sessions != 1 { // open
			t.Errorf("%d sessions in memory", s.Sessions)
		}
	})
}

// TestUnusedSessionsAreClosed when a node is told so: never one with a task.
func TestUnusedSessionsAreClosed(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		g := b.gateway("gw-1")
		g.demand(4)
		b.runs(g, "unused")
		b.submit(newTask(messages.Low, "busy"))
		busy := g.assign()
		held := newTask(messages.Low, "held")
		b.submit(held)
		a := g.assign()
		g.end(a, messages.Held, func(t *messages.Task) { t.DueAt = messages.Now().Add(10 * month) })
		later := newTask(messages.Low, "scheduled")
		later.State, later.DueAt = messages.Scheduled, messages.Now().Add(10*month)
		b.submit(later)
		b.pass(15*time.Minute, g)
		if r := b.retire(10*time.Minute, 0); r.Closed != 1 || r.Removed != 0 {
			t.Fatalf("%+v, want one closed", r)
		}
		if s := b.session("unused"); s.State != messages.SessionClosed || s.Reason == "" {
			t.Errorf("%+v", s)
		}
		for _, id := range []string{"busy", "held", "scheduled"} {
			if s := b.session(id); s.State == messages.SessionClosed {
				t.Errorf("%s was closed under its task", id)
			}
		}
		g.end(busy, messages.Succeeded)
	})
}

// TestARemovedIdIsANewSession: it knows nothing of the one before, has a key
// that was never used, and is not told what was said there.
func TestARemovedIdIsANewSession(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		g, other := b.gateway("gw-1"), b.gateway("gw-2")
		g.demand(4)
		before := b.runs(g, "s")
		b.closeSession("s")
		if _, _, err := b.client.Submit(b.ctx(), "default", Submit{Task: newTask(messages.Low, "s")}); messages.CodeOf(err) != messages.CodeWrongState {
			t.Fatalf("submit to a closed session: %v", err)
		}
		b.pass(2*time.Minute, g)
		if r := b.retire(0, time.Minute); r.Removed != 1 {
			t.Fatalf("%+v", r)
		}
		after := b.runs(g, "s")
		if after.Session.Replay || after.History != "" || after.Task.SessionKey() == before.Task.SessionKey() {
			t.Errorf("the new session has key %s after %s and history %q", after.Task.SessionKey(), before.Task.SessionKey(), after.History)
		}
		other.demand(4)
		synctest.Wait()
		if _, err := b.client.MoveSession(b.ctx(), "default", "s", "gw-2", false); err != nil {
			t.Fatal(err)
		}
		b.submit(newTask(messages.Low, "s"))
		if a := other.assign(); strings.Count(a.History, "User: hello") != 1 {
			t.Errorf("the history after a move is %q, want the one turn of the new session", a.History)
		}
	})
}

// TestASubmitMeetsTheEndOfItsSession: while the close or the removal is being
// written, a task for the session comes. It is refused or runs; it never waits
// for ever in a closed session.
func TestASubmitMeetsTheEndOfItsSession(t *testing.T) {
	for name, end := range map[string]func(b *bench){
		"close": func(b *bench) {
			_, _ = b.client.CloseSession(b.ctx(), "default", "s")
		},
		"retire unused": func(b *bench) {
			_, _ = b.client.RetireSessions(b.ctx(), "default", RetireSessions{Sessions: []messages.Session{b.store.sessionsNow()[sessionID("default", "s")]}, UnusedSince: time.Now().Add(-time.Minute)})
		},
	} {
		for _, fails := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				play(t, nil, func(t *testing.T, b *bench) {
					g := b.gateway("gw-1")
					g.demand(4)
					b.runs(g, "s")
					b.pass(2*time.Minute, g)
					hold := make(chan struct{})
					b.store.set(func(m *memory) { m.hold = hold })
					go end(b)
					synctest.Wait()
					answer := make(chan error, 1)
					go func() {
						_, _, err := b.client.Submit(b.ctx(), "default", Submit{Task: newTask(messages.Low, "s")})
						answer <- err
					}()
					synctest.Wait()
					b.store.set(func(m *memory) {
						m.hold = nil
						if fails {
							m.lose = 1 // it is made, and nobody knows
						}
					})
					close(hold)
					if err := <-answer; messages.CodeOf(err) != messages.CodeWrongState {
						t.Errorf("the submit was answered %v, want that the session is closed", err)
					}
					b.pass(2*time.Second, g)
					if s := b.session("s"); s.State != messages.SessionClosed || b.stats().Open != 0 {
						t.Errorf("session %v with %d open tasks", s.State, b.stats().Open)
					}
				})
			})
		}
	}
}
