package session

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dash-fleet/dash/messages"
)

// TestDecideIsPureAndThorough: Decide leaves its argument as it was and leaves
// nothing undone that a further input would set off.
func TestDecideIsPureAndThorough(t *testing.T) {
	t.Parallel()
	for _, b := range []bounds{
		{claims: 2, gateways: 1, budget: budget{crashes: 1, errors: 1, cancels: 1, refusals: 1}},
		{claims: 2, gateways: 1, budget: budget{deadlines: 1, storeErrors: 1, losses: 1}},
		{claims: 1, gateways: 1, hold: true, budget: budget{crashes: 1, aways: 1, losses: 1}},
	} {
		b.pure = true
		if f := explore(b, 10_000); f.bad > 0 {
			t.Errorf("%v", f)
		}
	}
}

// TestForeignInputsAreIgnored: events of another connection, run, claim or
// commit change nothing.
func TestForeignInputsAreIgnored(t *testing.T) {
	t.Parallel()
	base := Start(claimedTask(), idleSession(), "", true)
	runs := map[string][]Event{
		"claimed":    {Connected{Conn: 1, BootID: "b1"}, Disconnected{1}, Connected{Conn: 5, BootID: "b1"}},
		"sent":       {Connected{Conn: 1, BootID: "b1"}, Sent{1}, Disconnected{1}, Connected{Conn: 5, BootID: "b1"}, SessionRead{Conn: 5, Key: "agent:main:dash:default:s:0"}},
		"committing": {Connected{Conn: 5, BootID: "b1"}, Sent{5}, Answer{Conn: 5, RunID: "t.1", Kind: Accepted}},
	}
	for name, events := range runs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _ := drive(t, base, events...)
			for _, e := range []Event{
				Connected{Conn: 5, BootID: "b1"}, Connected{Conn: 4, BootID: "b9"}, Disconnected{4}, Disconnected{0}, Sent{4}, NotSent{4}, NotSent{0},
				Answer{Conn: 4, RunID: "t.1", Kind: Success}, Answer{Conn: 5, RunID: "t.2", Kind: Success}, Answer{Conn: 5, RunID: "u.1", Kind: Success},
				WaitAnswer{Conn: 4, RunID: "t.1", Kind: Success}, WaitAnswer{Conn: 5, RunID: "t.9", Kind: Success},
				AbortAnswer{Conn: 4, Runs: []string{"t.1"}}, AbortAnswer{Conn: 5, Runs: []string{"t.1"}}, AskFailed{4},
				SessionRead{Conn: 4, Key: "agent:main:dash:default:s:0"}, RunEnded{5, "u.1"}, RunEnded{4, "t.1"},
				Committed{Op: 99, Status: CommitOK}, Withdrawn{Claim: 7}, Fired{StopTimer}, Fired{GraceTimer},
			} {
				next, effects := Decide(r, Input{Now: t0, Event: e})
				var before, after keyWriter
				before.run(&r, 5)
				after.run(&next, 5)
				if len(effects) > 0 || !bytes.Equal(before.b, after.b) {
					t.Errorf("%T %+v was not ignored: %v", e, e, effects)
				}
			}
		})
	}
}

// TestAnyInputs: whatever a gateway, a store or an owner says, in any order,
// the machine takes lawful steps only, one commit at a time, sends nothing
// before it read the session of a connection, and says nothing after Release.
func TestAnyInputs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, anyInputs)
}

func anyInputs(t *rapid.T) {
	task := claimedTask()
	fresh := rapid.Bool().Draw(t, "fresh")
	if !fresh {
		task.State = rapid.SampledFrom([]messages.TaskState{messages.Claimed, messages.Running, messages.Recovering,
			messages.Cancelling, messages.Held}).Draw(t, "state")
		task.BootID = rapid.SampledFrom([]string{"", "b1", "b2"}).Draw(t, "boot")
	}
	sess := idleSession()
	if rapid.Bool().Draw(t, "throwAway") {
		sess, task.Session = nil, ""
	}
	p := probe{run: Start(task, sess, "", fresh), now: t0, readOn: map[Conn]bool{}, armed: map[TimerKind]bool{}}
	for range rapid.IntRange(1, 60).Draw(t, "inputs") {
		p.now = p.now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "pause")) * time.Second)
		p.feed(t, p.draw(t))
	}
}

type probe struct {
	run    Run
	now    time.Time
	conn   Conn
	commit *Commit
	readOn map[Conn]bool
	armed  map[TimerKind]bool
}

func (p *probe) draw(t *rapid.T) Event {
	if p.conn == 0 || rapid.IntRange(0, 9).Draw(t, "reconnect") == 0 {
		p.conn++
		return Connected{Conn: p.conn, BootID: rapid.SampledFrom([]string{"b1", "b2", "b3"}).Draw(t, "boot")}
	}
	kind := Kind(rapid.IntRange(0, 9).Draw(t, "kind"))
	ids := rapid.SliceOfN(rapid.SampledFrom([]string{"t.1", "rr-1", "u.1", ""}), 0, 2)
	switch rapid.IntRange(0, 12).Draw(t, "event") {
	case 0:
		return Sent{p.conn}
	case 1:
		return NotSent{p.conn}
	case 2, 3:
		return Answer{Conn: p.conn, RunID: "t.1", Kind: kind}
	case 4:
		return WaitAnswer{Conn: p.conn, RunID: p.run.tracked(), Kind: kind}
	case 5:
		return AbortAnswer{Conn: p.conn, Runs: ids.Draw(t, "runs")}
	case 6, 7:
		r := SessionRead{Conn: p.conn, Key: p.run.Task.SessionKey(), ActiveRuns: ids.Draw(t, "active"), Pending: ids.Draw(t, "pending"),
			Busy: rapid.Bool().Draw(t, "busy"), AbortedLastRun: rapid.Bool().Draw(t, "aborted")}
		for _, id := range ids.Draw(t, "turns") {
			turn := Turn{RunID: id, Bare: rapid.Bool().Draw(t, "bare")}
			if !turn.Bare && rapid.Bool().Draw(t, "reply") {
				turn.Reply = &messages.TaskResult{}
			}
			r.Turns = append(r.Turns, turn)
		}
		return r
	case 8, 9:
		if p.commit != nil {
			c := Committed{Op: p.commit.Op, Status: CommitStatus(rapid.IntRange(1, 4).Draw(t, "status"))}
			if c.Status == CommitConflict {
				row := p.run.Task
				row.State = messages.TaskState(rapid.IntRange(1, 12).Draw(t, "row"))
				row.Claim += int64(rapid.IntRange(0, 1).Draw(t, "claims"))
				c.Current = &row
			}
			return c
		}
		return AskFailed{p.conn}
	case 10:
		return Fired{TimerKind(rapid.IntRange(1, 5).Draw(t, "timer"))}
	case 11:
		return rapid.SampledFrom([]Event{StopRequested{}, Withdrawn{Claim: 1, Held: true}, Withdrawn{Claim: 1},
			RunEnded{p.conn, "t.1"}}).Draw(t, "order")
	}
	return Disconnected{p.conn}
}

func (p *probe) feed(t *rapid.T, e Event) {
	was := p.run.Over()
	switch e := e.(type) {
	case Committed:
		p.commit = nil
	case SessionRead:
		p.readOn[e.Conn] = true
	case Fired:
		if !p.armed[e.Timer] {
			return // a timer that is not armed does not fire
		}
		p.armed[e.Timer] = false
	}
	untouched := p.run.untouched()
	var effects []Effect
	p.run, effects = Decide(p.run, Input{Now: p.now, Rand: 0.5, Event: e})
	for i, eff := range effects {
		if bad := p.judge(eff, untouched, i == len(effects)-1); was || bad != "" {
			t.Fatalf("after %T %+v: %T %+v: over before %v; %s", e, e, eff, eff, was, bad)
		}
	}
}

func (p *probe) judge(e Effect, untouched, last bool) string {
	switch e := e.(type) {
	case *Commit:
		if p.commit != nil {
			return "a commit is under way"
		}
		if !messages.Lawful(messages.TaskTransitions, e.From, e.Task.State) {
			return fmt.Sprintf("unlawful step %v -> %v", e.From, e.Task.State)
		}
		p.commit = e
	case Send:
		if e.Conn != p.conn || !untouched && !p.readOn[e.Conn] {
			return "sent without a look at the session"
		}
		if p.run.Task.State != messages.Claimed {
			return "sent in state " + p.run.Task.State.String()
		}
	case Arm:
		if e.After < 0 {
			return "negative time"
		}
		p.armed[e.Timer] = true
	case Disarm:
		p.armed[e.Timer] = false
	case Release:
		if !last || !p.run.Over() {
			return "not the last effect"
		}
		for timer, on := range p.armed {
			if on {
				return fmt.Sprintf("timer %d is left armed", timer)
			}
		}
	}
	return ""
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	b := &messages.Backoff{InitialSeconds: 2, MaxSeconds: 30, Factor: 3, Jitter: 0.5}
	for _, c := range []struct {
		b       *messages.Backoff
		attempt int32
		rand    float64
		want    time.Duration
	}{
		{nil, 1, 0.5, time.Second}, {nil, 1, 0, 800 * time.Millisecond}, {nil, 2, 0.75, 2200 * time.Millisecond}, {nil, 99, 0.5, time.Minute},
		{nil, 99, 0.999, time.Minute}, {nil, 99, 0, 48 * time.Second},
		{b, 1, 0.5, 2 * time.Second}, {b, 2, 0.5, 6 * time.Second}, {b, 2, 0, 3 * time.Second}, {b, 2, 0.75, 7500 * time.Millisecond},
		{b, 3, 0.5, 18 * time.Second}, {b, 4, 0.5, 30 * time.Second}, {b, 4, 0.999, 30 * time.Second}, {b, 1 << 30, 0.5, 30 * time.Second},
		{&messages.Backoff{InitialSeconds: 1e300, MaxSeconds: 2}, 1, 0.5, 2 * time.Second},
	} {
		if got := Backoff(c.b, c.attempt, c.rand); got != c.want {
			t.Errorf("Backoff(%v, %d, %v) = %v, want %v", c.b, c.attempt, c.rand, got, c.want)
		}
	}
}
