package session

import (
	"testing"

	"github.com/dash-fleet/dash/messages"
)

// answeredWith drives a run to its answer, with two sub-agents at work, and to RUNNING.
func answeredWith(t *testing.T) Run {
	t.Helper()
	r, _ := drive(t, Start(claimedTask(), idleSession(), "", true), Connected{Conn: 1, BootID: "b1"}, Sent{1}, Answer{Conn: 1, RunID: "t.1", Kind: Accepted})
	r, out := drive(t, r, Answer{Conn: 1, RunID: "t.1", Kind: Success, Spawned: 2,
		Result: &messages.TaskResult{Text: "I have asked two", Usage: &messages.Usage{Input: 7}}})
	for _, e := range out {
		if c, ok := e.(*Commit); ok {
			t.Fatalf("commit %+v while sub-agents are at work", c)
		}
	}
	r, out = drive(t, r, Fired{RunningTimer})
	c := find[*Commit](t, out)
	if c.Task.State != messages.Running {
		t.Fatalf("commit %+v, want RUNNING", c)
	}
	r, out = drive(t, r, Committed{Op: c.Op, Status: CommitOK})
	find[ReadSession](t, out)
	return r
}

func readOf(conn Conn, agents, failed int, late ...string) SessionRead {
	return SessionRead{Conn: conn, Key: "agent:main:dash:default:s:0", SubAgents: agents, FailedSubAgents: failed,
		Turns: []Turn{{RunID: "t.1", Reply: &messages.TaskResult{Text: "I have asked two"}, Late: late}}}
}

func endsWith(t *testing.T, out []Effect, text string, unfinished int64) {
	t.Helper()
	c := find[*Commit](t, out)
	if c.Task.State != messages.Succeeded || c.Task.Result.GetText() != text || c.Task.Result.GetUnfinishedSubAgents() != unfinished {
		t.Fatalf("%s with %v, want %q and %d unfinished", c.Task.State, c.Task.Result, text, unfinished)
	}
}

func TestATaskEndsWithItsSubAgents(t *testing.T) {
	t.Parallel()
	r := answeredWith(t)
	r, _ = drive(t, r, readOf(1, 2, 0))
	// What the gateway runs meanwhile is no run of the task.
	busy := readOf(1, 1, 0, "the first says A")
	busy.Busy = true
	r, out := drive(t, r, Fired{PollTimer})
	find[ReadSession](t, out)
	r, _ = drive(t, r, busy, Fired{PollTimer})
	_, out = drive(t, r, readOf(1, 0, 0, "the first says A", "the second says B"))
	endsWith(t, out, "I have asked two\n\nthe first says A\n\nthe second says B", 0)
	if u := find[*Commit](t, out).Task.Result.GetUsage(); u.GetInput() != 7 {
		t.Errorf("usage %v, want that of the answer", u)
	}
}

func TestSubAgentsOverAReconnect(t *testing.T) {
	t.Parallel()
	r := answeredWith(t)
	r, out := drive(t, r, readOf(1, 2, 0), Disconnected{1})
	if a := find[Arm](t, out); a != (Arm{PollTimer, blindLimit}) {
		t.Errorf("armed %+v", a)
	}
	// It comes back: nothing is lost.
	again, out := drive(t, r, Connected{Conn: 2, BootID: "b1"})
	find[ReadSession](t, out)
	_, out = drive(t, again, readOf(2, 0, 0, "A", "B"))
	endsWith(t, out, "I have asked two\n\nA\n\nB", 0)
	// It does not: the answer counts, before the task is taken away.
	_, out = drive(t, r, Fired{PollTimer})
	endsWith(t, out, "I have asked two", 2)
	// The gateway's process died: its sub-agents have failed, and nobody tells the session.
	r, out = drive(t, r, Connected{Conn: 2, BootID: "b2"})
	c := find[*Commit](t, out)
	if c.Task.State != messages.Recovering {
		t.Fatalf("commit %+v", c)
	}
	r, _ = drive(t, r, Committed{Op: c.Op, Status: CommitOK})
	// Not even its transcript is left: the answer counts all the same.
	_, out = drive(t, r, SessionRead{Conn: 2, Key: "agent:main:dash:default:s:0"})
	endsWith(t, out, "I have asked two", 0)
	for range untoldRounds - 1 {
		r, _ = drive(t, r, readOf(2, 0, 2), Fired{PollTimer})
	}
	r, out = drive(t, r, readOf(2, 0, 2))
	endsWith(t, out, "I have asked two", 2)
	if r.send == sendAsked {
		t.Error("sent again although it has answered")
	}
}

func TestAStopEndsTheWaitForSubAgents(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]Event{"cancel": StopRequested{At: t0}, "deadline": Fired{DeadlineTimer}} {
		r, _ := drive(t, answeredWith(t), readOf(1, 1, 0, "A"))
		r, out := drive(t, r, stop)
		c := find[*Commit](t, out)
		if c.Task.State != messages.Cancelling {
			t.Fatalf("%s: commit %+v", name, c)
		}
		r, out = drive(t, r, Committed{Op: c.Op, Status: CommitOK})
		find[Abort](t, out)
		stopped, _ := drive(t, r, AbortAnswer{Conn: 1})
		_, out = drive(t, stopped, readOf(1, 0, 0, "A"))
		endsWith(t, out, "I have asked two\n\nA", 1)
		// The gateway does not say that they stopped.
		_, out = drive(t, r, Fired{StopTimer})
		endsWith(t, out, "I have asked two", 1)
	}
}

// A run that is taken over has only what the session shows.
func TestATakenOverRunWaitsForSubAgents(t *testing.T) {
	t.Parallel()
	task := claimedTask()
	task.State, task.BootID, task.StartedAt = messages.Running, "b1", t0
	r, out := drive(t, Start(task, idleSession(), "", false), Connected{Conn: 1, BootID: "b1"})
	find[ReadSession](t, out)
	r, out = drive(t, r, readOf(1, 1, 0))
	for _, e := range out {
		if _, ok := e.(*Commit); ok {
			t.Fatalf("ended while a sub-agent is at work: %+v", e)
		}
	}
	r.ask, r.step = askNone, stepFirst
	r, _ = drive(t, r, Fired{PollTimer})
	r.ask = askRead
	_, out = drive(t, r, readOf(1, 0, 0, "A"))
	endsWith(t, out, "I have asked two\n\nA", 0)
}

func TestLateResultsAreBounded(t *testing.T) {
	t.Parallel()
	half := make([]byte, maxResult/2)
	for i := range half {
		half[i] = 'x'
	}
	got := withLate(&messages.TaskResult{Text: string(half)}, []string{string(half), "é"})
	if len(got.GetText()) > maxResult || got.GetCutFrom() != int64(maxResult+2+2+2) {
		t.Errorf("%d bytes of %d", len(got.GetText()), got.GetCutFrom())
	}
	if got := withLate(nil, []string{"late"}); got.GetText() != "late" || got.GetCutFrom() != 0 {
		t.Errorf("a late result without an answer: %v", got)
	}
}
