package dispatch

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

func (b *bench) session(id string) messages.Session {
	b.Helper()
	synctest.Wait()
	s, err := b.store.Session(b.ctx(), "default", id)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// renewals is how many new generations the session has had.
func renewals(s *messages.Session) int64 { return s.Generation - messages.FirstGeneration(s.CreatedAt) }

func TestSessionRunsInOrderOneAtATime(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		low1, low2 := b.submit(newTask(messages.Low, "s")), b.submit(newTask(messages.Low, "s"))
		high := b.submit(newTask(messages.High, "s"))
		if s := b.session("s"); s.State != messages.SessionIdle || s.Gateway != "" || s.Pool != "default" {
			t.Fatalf("session %+v", s)
		}
		g, other := b.gateway("gw-1"), b.gateway("gw-2")
		g.demand(4)
		a := g.assign()
		if a.Task.ID != high.ID || a.Session == nil || a.Session.State != messages.SessionBusy || a.Session.Gateway != "gw-1" || a.History != "" {
			t.Fatalf("assigned %+v with session %+v", a.Task, a.Session)
		}
		other.demand(4)
		none[*messages.Assign](g)
		none[*messages.Assign](other) // busy here, and bound there
		if why, err := b.explain(low1.ID); err != nil || why.BlockedBy != high.ID {
			t.Fatalf("explain: %+v, %v", why, err)
		}
		g.end(a, messages.Succeeded)
		a = g.assign()
		if a.Task.ID != low1.ID {
			t.Fatalf("then %s, want %s", a.Task.ID, low1.ID)
		}
		g.end(a, messages.RetryWait, func(t *messages.Task) { t.DueAt = messages.Now().Add(20 * time.Second) })
		none[*messages.Assign](g) // the retry holds the later one back
		if why, _ := b.explain(low2.ID); why.BlockedBy != low1.ID {
			t.Fatalf("explain: %+v", why)
		}
		b.pass(22*time.Second, g, other)
		a = g.assign()
		if a.Task.ID != low1.ID || a.Task.Claim != 2 {
			t.Fatalf("retry is %+v", a.Task)
		}
		g.end(a, messages.Succeeded)
		g.end(g.assign(), messages.Succeeded)
		b.pass(4*time.Second, g)
		if s := b.session("s"); s.State != messages.SessionIdle || s.Gateway != "gw-1" || renewals(&s) != 0 {
			t.Fatalf("session at rest %+v", s)
		}
		none[*messages.Assign](other)
	})
}

func TestSessionRefusals(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		b.store.set(func(m *memory) {
			m.sessions[sessionID("default", "far")] = messages.Session{Tenant: "default", ID: "far", Pool: "other", State: messages.SessionIdle}
			m.sessions[sessionID("default", "parked")] = messages.Session{Tenant: "default", ID: "parked", Pool: "default", State: messages.SessionParked, Reason: "it kept failing"}
			m.sessions[sessionID("default", "closed")] = messages.Session{Tenant: "default", ID: "closed", Pool: "default", State: messages.SessionClosed}
		})
		for id, want := range map[string]messages.Code{
			"far": messages.CodeWrongPool, "parked": messages.CodeSessionParked, "closed": messages.CodeWrongState,
		} {
			_, _, err := b.client.Submit(b.ctx(), "default", Submit{Task: newTask(messages.Low, id)})
			if messages.CodeOf(err) != want {
				t.Errorf("submit to %s: %v, want %s", id, err, want)
			}
		}
		if s := b.stats(); s.Classes[3].Queued != 0 || s.Classes[3].Bytes != 0 {
			t.Fatalf("refused tasks are counted: %+v", s.Classes[3])
		}
		if _, err := b.client.UnparkSession(b.ctx(), "default", "parked"); err != nil {
			t.Fatal(err)
		}
		if s := b.session("parked"); s.State != messages.SessionIdle || s.Generation != 1 || !s.Replay {
			t.Fatalf("resumed %+v", s)
		}
		if _, err := b.client.UnparkSession(b.ctx(), "default", "closed"); messages.CodeOf(err) != messages.CodeWrongState || !strings.Contains(err.Error(), "a session that is closed cannot be resumed") {
			t.Fatalf("resume of a closed one: %v", err)
		}
		b.submit(newTask(messages.Low, "parked"))
		if _, err := b.client.CloseSession(b.ctx(), "default", "parked"); messages.CodeOf(err) != messages.CodeWrongState {
			t.Fatalf("close with an open task: %v", err)
		}
		if _, err := b.client.CloseSession(b.ctx(), "default", "no-such"); messages.CodeOf(err) != messages.CodeNotFound {
			t.Fatalf("close of nothing: %v", err)
		}
		s, created, err := b.client.OpenSession(b.ctx(), "default", "default", "new", map[string]string{"k": "v"})
		if err != nil || !created || s.Labels["k"] != "v" {
			t.Fatalf("open: %+v %v %v", s, created, err)
		}
		if s, created, err = b.client.OpenSession(b.ctx(), "default", "default", "new", nil); err != nil || created || s.Labels["k"] != "v" {
			t.Fatalf("open again: %+v %v %v", s, created, err)
		}
		if s, err = b.client.CloseSession(b.ctx(), "default", "new"); err != nil || s.State != messages.SessionClosed {
			t.Fatalf("close: %+v %v", s, err)
		}
	})
}

// TestCloseIsRefusedUnderAScheduledTask: it would come due in a closed session
// and wait there for ever.
func TestCloseIsRefusedUnderAScheduledTask(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		task := newTask(messages.Low, "s")
		task.State, task.DueAt = messages.Scheduled, messages.Now().Add(time.Minute)
		b.submit(task)
		if _, err := b.client.CloseSession(b.ctx(), "default", "s"); messages.CodeOf(err) != messages.CodeWrongState {
			t.Fatalf("close with a scheduled task: %v", err)
		}
		g := b.gateway("gw-1")
		g.demand(1)
		b.pass(2*time.Minute, g)
		g.end(g.assign(), messages.Succeeded)
		b.pass(2*time.Second, g)
		if s, err := b.client.CloseSession(b.ctx(), "default", "s"); err != nil || s.State != messages.SessionClosed {
			t.Fatalf("close after its end: %+v, %v", s, err)
		}
	})
}

func TestMoveCarriesTheHistoryOnce(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		g, other := b.gateway("gw-1"), b.gateway("gw-2")
		g.demand(4)
		b.submit(newTask(messages.Low, "s"))
		a := g.assign()
		other.demand(4)
		synctest.Wait()
		s, err := b.client.MoveSession(b.ctx(), "default", "s", "gw-2", false)
		if err != nil || s.State != messages.SessionMoving {
			t.Fatalf("move while a turn runs: %+v, %v", s, err)
		}
		b.submit(newTask(messages.Low, "s"))
		b.pass(4*time.Second, g, other)
		none[*messages.Assign](other) // it waits for the turn
		g.end(a, messages.Succeeded)
		b.pass(2*time.Second, g, other)
		a = other.assign()
		if renewals(a.Session) != 1 || !a.Session.Replay || a.Task.Generation != a.Session.Generation {
			t.Fatalf("moved with session %+v", a.Session)
		}
		if !strings.Contains(a.History, "User: hello") || !strings.Contains(a.History, "Assistant: answer to hello") {
			t.Fatalf("history %q", a.History)
		}
		other.end(a, messages.Succeeded)
		b.submit(newTask(messages.Low, "s"))
		if a = other.assign(); a.History != "" || a.Session.Replay || renewals(a.Session) != 1 {
			t.Fatalf("the second turn has history %q and session %+v", a.History, a.Session)
		}
		if _, err = b.client.MoveSession(b.ctx(), "default", "s", "gw-9", false); messages.CodeOf(err) != messages.CodeNotFound {
			t.Fatalf("move to nowhere: %v", err)
		}
		g.demand(0, func(d *messages.Demand) { d.AwaySince = time.Now() })
		synctest.Wait()
		for _, force := range []bool{false, true} {
			if s, err = b.client.MoveSession(b.ctx(), "default", "s", "gw-1", force); messages.CodeOf(err) != messages.CodeWrongState || s.Gateway != "gw-2" {
				t.Fatalf("move to a gateway that cannot be reached: %+v, %v", s, err)
			}
		}
	})
}

func TestForcedMoveTakesTheTurnBack(t *testing.T) {
	for name, wait := range map[string]time.Duration{"by force": 0, "at the deadline": moveWithin} {
		t.Run(name, func(t *testing.T) {
			play(t, nil, func(t *testing.T, b *bench) {
				g, other := b.gateway("gw-1"), b.gateway("gw-2")
				g.demand(4)
				task := b.submit(newTask(messages.Low, "s"))
				g.assign()
				other.demand(4)
				synctest.Wait()
				if _, err := b.client.MoveSession(b.ctx(), "default", "s", "gw-2", wait == 0); err != nil {
					t.Fatal(err)
				}
				b.pass(wait+2*time.Second, g, other)
				if w := nextOf[messages.Withdraw](g); w.Task != task.ID {
					t.Fatalf("withdraw %+v", w)
				}
				if a := other.assign(); a.Task.ID != task.ID || a.Task.Claim != 2 || a.Task.Attempt != 1 || renewals(a.Session) != 1 {
					t.Fatalf("moved as %+v in %+v", a.Task, a.Session)
				}
			})
		})
	}
}

func TestSessionLeavesAGatewayThatIsGone(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		g, other := b.gateway("gw-1"), b.gateway("gw-2")
		g.demand(4)
		first := b.submit(newTask(messages.Low, "s"))
		g.end(g.assign(), messages.Succeeded)
		b.submit(newTask(messages.Low, "idle"))
		g.end(g.assign(), messages.Succeeded)
		second := b.submit(newTask(messages.Low, "s"))
		g.assign()
		third := b.submit(newTask(messages.Low, "s"))
		fourth := b.submit(newTask(messages.High, "idle"))
		g.assign()
		b.pass(75*time.Second, other)
		wantRow(b, second.ID, messages.Queued, 0)
		other.demand(4)
		for range 2 {
			a := other.assign()
			if renewals(a.Session) != 1 || a.History == "" || a.Task.ID == third.ID {
				t.Fatalf("goes on as %+v in %+v", a.Task, a.Session)
			}
		}
		_, _ = first, fourth
		none[*messages.Assign](other) // the third waits for the second
	})
}

func TestGatewayOwnersSessionChangesAreTakenOver(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		g := b.gateway("gw-1")
		g.demand(4)
		b.submit(newTask(messages.Low, "s"))
		a := g.assign()
		// The owner aborts the run: a new generation, failed, in one step with the end.
		next := *a.Session
		next.Generation, next.State, next.Replay = next.Generation+1, messages.SessionFailed, true
		b.store.set(func(m *memory) { m.sessions[sessionID("default", "s")] = next })
		b.system.Root.Send(b.pool, messages.SessionChangedByG{Session: next})
		g.end(a, messages.DeadLetter)
		b.submit(newTask(messages.Low, "s"))
		none[*messages.Assign](g) // a failed session runs nothing
		next.State = messages.SessionIdle
		b.store.set(func(m *memory) { m.sessions[sessionID("default", "s")] = next })
		b.system.Root.Send(b.pool, messages.SessionChangedByG{Session: next})
		if a = g.assign(); a.Task.Generation != next.Generation || a.History != "" {
			t.Fatalf("assigned %+v with history %q, want generation %d and none", a.Task, a.History, next.Generation)
		}
		old := next
		old.Generation, old.State = next.Generation-1, messages.SessionClosed
		b.system.Root.Send(b.pool, messages.SessionChangedByG{Session: old})
		g.end(a, messages.Succeeded)
		b.submit(newTask(messages.Low, "s"))
		g.assign()
	})
}

// TestClaimWithAnOldGenerationIsRepeated: the pool missed a change of the session.
func TestClaimWithAnOldGenerationIsRepeated(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		b.submit(newTask(messages.Low, "s"))
		b.store.set(func(m *memory) {
			s := m.sessions[sessionID("default", "s")]
			s.Generation += 3
			m.sessions[sessionID("default", "s")] = s
		})
		g := b.gateway("gw-1")
		g.demand(1)
		if a := g.assign(); renewals(a.Session) != 3 || a.Task.Generation != a.Session.Generation || a.Task.Claim != 1 {
			t.Fatalf("assigned %+v", a.Task)
		}
	})
}

func TestReplayedHistoryIsBounded(t *testing.T) {
	t.Parallel()
	turn := func(text string) messages.Task {
		return messages.Task{Spec: &messages.TaskSpec{Message: text}, Result: &messages.TaskResult{Text: "re " + text}}
	}
	if got := Replayed(nil); got != "" {
		t.Fatalf("nothing replays as %q", got)
	}
	var turns []messages.Task
	for range 50 {
		turns = append(turns, turn(strings.Repeat("ä", 4000)))
	}
	turns = append(turns, turn("the newest"), turn(strings.Repeat("x", 128<<10)))
	got := Replayed(turns)
	if len(got) > 129<<10 {
		t.Fatalf("%d bytes", len(got))
	}
	for _, want := range []string{"Earlier turns are left out", "the newest", "cut here", "End of the replayed conversation"} {
		if !strings.Contains(got, want) {
			t.Errorf("history lacks %q", want)
		}
	}
}

func TestSessionRowIsMadeAgain(t *testing.T) {
	store := newMemory()
	task := newTask(messages.Low, "lost")
	task.Pool, task.State, task.Seq, task.CreatedAt = "default", messages.Queued, 1, messages.Now()
	if _, err := store.Commit(t.Context(), []persistence.Op{{Insert: &persistence.TaskInsert{Task: task}}}); err != nil {
		t.Fatal(err)
	}
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := openBench(t, store, nil)
		g := b.gateway("gw-1")
		g.demand(1)
		if a := g.assign(); a.Session == nil || a.Session.ID != "lost" {
			t.Fatalf("assigned with session %+v", a.Session)
		}
	})
}

// TestSuspendedSessionGoesOn: its last run could not be stopped; after the
// pool's away time it goes on elsewhere in a new generation.
func TestSuspendedSessionGoesOn(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		g := b.gateway("gw-1")
		g.demand(4)
		b.submit(newTask(messages.Low, "s"))
		a := g.assign()
		next := *a.Session
		next.Generation, next.State, next.UpdatedAt = next.Generation+1, messages.SessionSuspended, messages.Now()
		b.store.set(func(m *memory) { m.sessions[sessionID("default", "s")] = next })
		b.system.Root.Send(b.pool, messages.SessionChangedByG{Session: next})
		g.end(a, messages.Cancelled)
		b.submit(newTask(messages.Low, "s"))
		b.pass(50*time.Second, g)
		none[*messages.Assign](g)
		b.pass(15*time.Second, g)
		if a = g.assign(); renewals(a.Session) != 2 {
			t.Fatalf("goes on in %+v", a.Session)
		}
	})
}
