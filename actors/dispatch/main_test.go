package dispatch

import (
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// taken are the steps of tasks and sessions that the tests of this package made
// durable: pairs of states.
var taken sync.Map

// TestMain also checks that all tests together take every row of the tables that
// is the pool owner's. Those of a run are checked in actors/session.
func TestMain(m *testing.M) {
	code := m.Run()
	if flag.Lookup("test.run").Value.String() == "" && code == 0 && !takenAll() {
		code = 1
	}
	os.Exit(code)
}

func takenAll() bool {
	ofRun := map[string]bool{ // and what of a session follows from one
		"accepted": true, "cancel_unsent": true, "success": true, "retryable_error": true, "provider_paused": true, "final_error": true,
		"boot_changed": true, "rerun_seen": true, "grace_over": true, "alone": true, "gateway_crashed": true, "stop": true,
		"stopped": true, "unconfirmed": true, "deadline_retry": true, "deadline_final": true,
		"fail": true, "give_up": true, // TestFailingSessionIsParked in actors/gateway
	}
	ok := true
	missed := func(from, to fmt.Stringer, event string) {
		if _, done := taken.Load([2]any{from, to}); !done && !ofRun[event] {
			ok = false
			fmt.Printf("no test takes the step %v -> %v by %q\n", from, to, event)
		}
	}
	for _, r := range messages.TaskTransitions {
		missed(r.From, r.To, r.Event)
	}
	for _, r := range messages.SessionTransitions {
		missed(r.From, r.To, r.Event)
	}
	return ok
}

// TestTakenFromAnAwayGateway: whatever the run has come to, the task follows its
// policy, and its bound.
func TestTakenFromAnAwayGateway(t *testing.T) {
	for _, at := range []messages.TaskState{messages.Claimed, messages.Running, messages.Recovering} {
		for _, to := range []messages.TaskState{messages.Queued, messages.Held, messages.DeadLetter} {
			if at == messages.Claimed && to == messages.DeadLetter {
				continue // TestCancelComesBeforeTheBounds
			}
			t.Run(at.String()+" to "+to.String(), func(t *testing.T) {
				play(t, nil, func(t *testing.T, b *bench) {
					task := newTask(messages.Low, "")
					if to == messages.Held {
						task.Spec.OnUnknown = string(messages.Hold)
					}
					task = b.submit(task)
					g := b.gateway("gw-1")
					g.demand(1)
					row := g.assign().Task
					row.State, row.BootID = at, "boot"
					if to == messages.DeadLetter { // no attempt is left, and no more is given back
						row.Trials = &messages.Trials{GivenBack: messages.MaxGivenBack}
						row.Attempt = row.Spec.MaxAttempts
					}
					b.store.set(func(m *memory) { m.tasks[row.ID] = row })
					g.away = messages.Now()
					b.pass(2*time.Minute, g)
					if got := b.row(task.ID); got.State != to {
						t.Errorf("it is %s (%v), want %s", got.State, got.Error, to)
					}
				})
			})
		}
	}
}

// TestWaitingTaskEndsWithoutARun: by a cancel or by its time.
func TestWaitingTaskEndsWithoutARun(t *testing.T) {
	for name, end := range map[string]messages.TaskState{"cancel": messages.Cancelled, "not after": messages.Expired} {
		for _, at := range []messages.TaskState{messages.Scheduled, messages.Queued, messages.RetryWait} {
			t.Run(at.String()+" "+name, func(t *testing.T) {
				play(t, nil, func(t *testing.T, b *bench) {
					task := newTask(messages.Low, "")
					task.NotAfter = messages.Now().Add(time.Minute)
					if at == messages.Scheduled {
						task.DueAt = messages.Now().Add(time.Hour)
					}
					task = b.submit(task)
					if at == messages.RetryWait {
						g := b.gateway("gw-1")
						g.demand(1)
						g.end(g.assign(), at, func(t *messages.Task) { t.DueAt = messages.Now().Add(time.Hour) })
					}
					b.eventually("the task waits", func() bool { return b.row(task.ID).State == at })
					if end == messages.Cancelled {
						if _, err := b.client.Cancel(b.ctx(), "default", task.ID, ""); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(2 * time.Minute)
					if got := b.row(task.ID); got.State != end {
						t.Errorf("it is %s, want %s", got.State, end)
					}
				})
			})
		}
	}
}

// TestSessionIsClosedFromEveryState that it can be in without an open task. That
// of a turn that has just ended is BUSY, or MOVING, until the pool's next tick.
func TestSessionIsClosedFromEveryState(t *testing.T) {
	for state := messages.SessionIdle; state < messages.SessionRemoved; state++ {
		if state == messages.SessionFailed || state == messages.SessionRecovering {
			continue // in no row
		}
		t.Run(state.String(), func(t *testing.T) {
			play(t, nil, func(t *testing.T, b *bench) {
				if state == messages.SessionBusy || state == messages.SessionMoving {
					g := b.gateway("gw-1")
					g.demand(1)
					b.submit(newTask(messages.Low, "s"))
					a := g.assign()
					if state == messages.SessionMoving {
						if _, err := b.client.MoveSession(b.ctx(), "default", "s", "gw-1", false); err != nil {
							t.Fatal(err)
						}
					}
					g.end(a, messages.Succeeded)
				} else {
					row := messages.Session{Tenant: "default", ID: "s", Pool: "default", State: state, UpdatedAt: messages.Now()}
					out, err := b.store.Commit(b.ctx(), []persistence.Op{{Session: &persistence.SessionWrite{Session: row, FromGeneration: -1}}})
					if err != nil || out[0].Status != persistence.OK {
						t.Fatal(out, err)
					}
				}
				if got, err := b.client.CloseSession(b.ctx(), "default", "s"); err != nil || got.State != messages.SessionClosed {
					t.Errorf("%s, %v", got.State, err)
				}
			})
		})
	}
}

// TestSessionRefusesAnUnlawfulStep: the session keeps its state, what else was
// to be written is.
func TestSessionRefusesAnUnlawfulStep(t *testing.T) {
	t.Parallel()
	for from := messages.SessionIdle; from <= messages.SessionClosed; from++ {
		b := &broker{s: &shared{Config: Config{Metrics: NewMetrics(nil), Logger: quiet()}}}
		s := &session{row: messages.Session{ID: "s", State: from, Generation: 1}}
		next := s.row
		next.Generation, next.State = 2, messages.SessionSuspended
		w, events := b.sessionWrite(s, next)
		want := from
		if from == messages.SessionBusy {
			want = messages.SessionSuspended
		}
		if w.Session.State != want || w.Session.Generation != 2 || len(events) != 1 || events[0].GetSession().State != want.String() {
			t.Errorf("from %s: %s, events %v", from, w.Session.State, events)
		}
	}
}
