package adaptertest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dash-fleet/dash/actors/openclaw"
)

func testListAndDescribe(b *bench) {
	c, _ := b.dial()
	key := b.session()
	if _, found, err := c.Describe(b.ctx, key); err != nil || found {
		b.Errorf("describe of nothing: %v %v", found, err)
	}
	r := b.send(c, key, runID(), delay(long, "busy")).accepted().working(c)
	b.until("the list row is busy", patience, func() bool {
		s := b.row(c, key)
		return s.HasActiveRun && s.Status == "running"
	})
	// The row may keep the id to itself, but must not name another.
	if s := b.row(c, key); s.ActiveRunIDs != nil && !slices.Contains(s.ActiveRunIDs, r.id) {
		b.Errorf("list row %+v, want run %s or none named", s, r.id)
	}
	if f := b.history(c, key).InFlight; f != nil && f.RunID != r.id {
		b.Errorf("history names %q in flight, want %q or nothing", f.RunID, r.id)
	}
	d, found, err := c.Describe(b.ctx, key)
	b.ok("describe", err)
	if !found || d.Status != "running" || d.HasActiveRun || len(d.ActiveRunIDs) != 0 {
		b.Errorf("describe of a busy session %+v, want a status only", d)
	}
	b.abort(c, key)
	r.failed(openclaw.ClassAborted)
	b.until("the row is idle", patience, func() bool { return !b.row(c, key).HasActiveRun })
	if s := b.row(c, key); len(s.ActiveRunIDs) != 0 || s.Status == "running" {
		b.Errorf("list row after the abort %+v", s)
	}
}

func testQueue(b *bench) {
	c, _ := b.dial()
	key := b.session()
	first := b.send(c, key, runID(), delay(b.Unit, "first of two")).accepted()
	second := b.send(c, key, runID(), "second of two").accepted()
	if s := b.wait(c, second.id); s.Over() {
		b.Errorf("the second run is over before the first: %+v", s)
	}
	first.final()
	if a := second.final(); !strings.HasPrefix(a.Text, "ECHO(2): ") {
		b.Errorf("second reply %q, want it to follow the first turn", a.Text)
	}
	h := b.history(c, key)
	if tr := h.Trace(first.id); !tr.Answered || tr.LastTurn {
		b.Errorf("first run %+v", tr)
	}
	if tr := h.Trace(second.id); !tr.Answered || !tr.LastTurn {
		b.Errorf("second run %+v", tr)
	}
}

func testLaneLimit(b *bench) {
	c, _ := b.dial()
	var runs []*run
	for range b.MaxConcurrent + 2 {
		runs = append(runs, b.send(c, b.session(), runID(), delay(long, "fills the lane")).accepted())
	}
	b.until("the lane is full and two wait", patience, func() bool {
		l := b.mainLane(c)
		return l.Active == b.MaxConcurrent && l.Queued == 2
	})
	for _, r := range runs {
		b.abort(c, r.key)
	}
	for _, r := range runs {
		r.failed(openclaw.ClassAborted)
	}
	b.until("the lane is empty", patience, func() bool {
		l := b.mainLane(c)
		return l.Active == 0 && l.Queued == 0
	})
}

func testDelete(b *bench) {
	c, _ := b.dial()
	r := b.send(c, b.session(), runID(), "to be deleted")
	r.final()
	for i, want := range []bool{true, false} {
		got, err := c.DeleteSession(b.ctx, r.key)
		b.ok("delete", err)
		if got != want {
			b.Errorf("delete %d: %v, want %v", i+1, got, want)
		}
	}
	if h := b.history(c, r.key); len(h.Items) != 0 {
		b.Errorf("history of a deleted session %+v", h.Items)
	}
	if _, found, err := c.Describe(b.ctx, r.key); err != nil || found {
		b.Errorf("describe of a deleted session: %v %v", found, err)
	}
}

// testTeardown: what runs in a session is stopped and the session deleted; to do
// so again is harmless.
func testTeardown(b *bench) {
	c, _ := b.dial()
	r := b.send(c, b.session(), runID(), delay(long, "to be torn down")).accepted().working(c)
	for i := range 2 {
		report := c.Teardown(b.ctx, openclaw.TeardownRequest{SessionKey: r.key, Dispose: true})
		if err := report.Err(); err != nil || !report.Stopped || !report.Removed {
			b.Errorf("teardown %d: %+v", i+1, report)
		}
	}
	r.failed(openclaw.ClassAborted)
	if _, found, err := c.Describe(b.ctx, r.key); err != nil || found {
		b.Errorf("describe of a session that was torn down: %v %v", found, err)
	}
}

func testAbortRunning(b *bench) {
	c, rec := b.dial()
	key := b.session()
	r := b.send(c, key, runID(), delay(long, "unfinished business")).accepted().working(c)
	if a := b.abort(c, key); !a.Stopped() || a.RunID != r.id {
		b.Errorf("abort %+v, want run %s stopped", a, r.id)
	}
	if f := r.failed(openclaw.ClassAborted); f.StopReason != "rpc" && f.StopReason != "aborted" {
		b.Errorf("failure %+v", f)
	}
	b.until("the end is told", patience, func() bool {
		_, _, ends := rec.of(r.id)
		return len(ends) > 0
	})
	if tr := b.history(c, key).Trace(r.id); tr.Answered || tr.Pending {
		b.Errorf("trace of the aborted run %+v", tr)
	}
	// What an abort leaves behind: the text is still there for the next turn.
	// It brings its marks along, hence one that overrides them.
	text := b.send(c, key, runID(), "next business [[delay=0]]").final().Text
	// 2026.9.6 puts it into the same user message, 2026.8.2 sends it before.
	if strings.HasPrefix(text, "ECHO(1): ") && !strings.Contains(text, "unfinished business") {
		b.Errorf("next reply %q does not show the aborted text", text)
	}
}

func testAbortUnknown(b *bench) {
	c, _ := b.dial()
	key, id := b.session(), runID()
	a, err := c.AbortSession(b.ctx, key, id, true)
	b.ok("abort", err)
	if a.Stopped() {
		b.Errorf("abort of an unknown run %+v", a)
	}
	// No tombstone: the id runs when it comes later.
	b.send(c, key, id, "runs all the same").final()
}

func testClearQueued(b *bench) {
	c, _ := b.dial()
	key := b.session()
	first := b.send(c, key, runID(), delay(long, "runs")).accepted().working(c)
	second := b.send(c, key, runID(), "waits behind").accepted()
	if a := b.abort(c, key); !a.Stopped() {
		b.Errorf("abort %+v", a)
	}
	first.failed(openclaw.ClassAborted)
	second.failed(openclaw.ClassAborted)
	if tr := b.history(c, key).Trace(second.id); tr.Answered {
		b.Errorf("the queued run was run: %+v", tr)
	}
}

// testSubAgents: an agent that a run has started goes on after the run's answer,
// is listed as long as its result is not brought to the session, and that comes
// in a run of the gateway's own, whose text is the transcript's end.
func testSubAgents(b *bench) {
	c, rec := b.dial()
	key := b.session()
	r := b.send(c, key, runID(), fmt.Sprintf("ask another [[spawn=look it up {{delay=%d}}{{reply=found it}}]]", b.Unit.Milliseconds()))
	a := r.final()
	if a.Spawned != 1 || !strings.HasPrefix(a.Text, "ECHO(1): ") {
		b.Fatalf("answer %q, %d sub-agents, want one", a.Text, a.Spawned)
	}
	if s := b.subAgents(c, key); s != (openclaw.SubAgents{Working: 1}) {
		b.Errorf("sub-agents at work: %+v, want one", s)
	}
	if s := b.row(c, key); s.HasActiveRun || s.Status == "running" {
		b.Errorf("the session itself is busy: %+v", s)
	}
	b.until("the result is brought to the session", patience, func() bool { return b.subAgents(c, key) == openclaw.SubAgents{} })
	h := b.history(c, key)
	last := h.Items[len(h.Items)-1]
	if h.Active || !last.IsReply() || last.Text != "found it" || !openclaw.Announces(last.By) {
		b.Errorf("the transcript ends with %+v", last)
	}
	if tr := h.Trace(r.id); !tr.Answered || tr.Text == last.Text {
		b.Errorf("the run's own answer %+v", tr)
	}
	if got := rec.subAgents(key); len(got) < 2 || !got[0].Working || got[len(got)-1].Working || got[0].Key != got[len(got)-1].Key {
		b.Errorf("told of sub-agents: %+v", got)
	}
	if a := b.send(c, key, runID(), "and now").final(); !strings.HasPrefix(a.Text, "ECHO(2): ") {
		b.Errorf("next reply %q, want one to the second message: nobody said the result", a.Text)
	}
}

// testStopSubAgents: an abort of the session stops its sub-agents too.
func testStopSubAgents(b *bench) {
	c, _ := b.dial()
	key := b.session()
	b.send(c, key, runID(), fmt.Sprintf("ask another [[spawn=take your time {{delay=%d}}]]", long.Milliseconds())).final()
	b.until("the sub-agent works", patience, func() bool { return b.subAgents(c, key).Working == 1 })
	b.abort(c, key)
	b.until("it has ended", patience, func() bool { return b.subAgents(c, key) == openclaw.SubAgents{} })
}

func (b *bench) subAgents(c *openclaw.Conn, key string) openclaw.SubAgents {
	b.Helper()
	s, err := c.SubAgents(b.ctx, key)
	b.ok("sub-agents", err)
	return s
}
