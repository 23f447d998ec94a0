package openclawtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestBusySessionQueuesInOrder(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	c := dial(t, b.g)
	const key = "agent:main:q"
	first := c.startRun("q0", key, "zero [[delay=3000]]", nil)
	var last string
	for i := 1; i <= 5; i++ {
		last = c.startRun(fmt.Sprint("q", i), key, fmt.Sprint("msg ", i), nil)
	}
	if f := c.call("agent.wait", obj{"runId": "q5", "timeoutMs": 60_000}); f.get(t, "status") != "pending" || f.get(t, "timeoutPhase") != "queue" || f.get(t, "providerStarted") != false || f.get(t, "endedAt") != nil {
		t.Fatalf("wait for a queued run: %s", f.raw)
	}
	c.answer(first, 1)
	if got := replyText(t, c.answer(last, 1)); got != "ECHO(6): msg 5" {
		t.Fatalf("last reply %q", got)
	}
	var order []string
	for _, l := range b.log.lines(t) {
		if l.Event == LogStarted {
			order = append(order, l.RunID)
		}
	}
	if want := []string{"q0", "q1", "q2", "q3", "q4", "q5"}; !slices.Equal(order, want) {
		t.Fatalf("order %v", order)
	}
}

func TestLaneLimitIsFIFO(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "openclaw.json")
	b := setup(t, func(c *Config) { c.MaxConcurrent, c.ConfigPath = 2, path })
	c := dial(t, b.g)
	for i := range 6 {
		c.startRun(fmt.Sprint("l", i), fmt.Sprint("agent:main:l", i), "[[delay=60000]]", nil)
	}
	lanes := c.must("diagnostics.lanes", obj{})
	if lanes.get(t, "lanes.0.activeCount") != 2.0 || lanes.get(t, "lanes.0.queuedCount") != 4.0 || lanes.get(t, "lanes.0.maxConcurrent") != 2.0 {
		t.Fatalf("lanes %s", lanes.raw)
	}
	// A raised limit takes effect as soon as the file is seen.
	raw, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, bytes.Replace(raw, []byte(`"maxConcurrent":2`), []byte(`"maxConcurrent":3`), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the raised limit", func() bool { return c.must("diagnostics.lanes", obj{}).get(t, "lanes.0.maxConcurrent") == 3.0 })
	c.must("sessions.abort", obj{"key": "agent:main:l0"})
	c.must("sessions.abort", obj{"key": "agent:main:l4"})
	c.must("sessions.abort", obj{"key": "agent:main:l1"})
	var order []string
	for _, l := range b.log.lines(t) {
		if l.Event == LogStarted {
			order = append(order, l.RunID)
		}
	}
	if want := []string{"l0", "l1", "l2", "l3", "l5"}; !slices.Equal(order, want) {
		t.Fatalf("started %v, want %v", order, want)
	}
}

func TestAgentWaitRows(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	c := dial(t, b.g)
	wait := func(runID string, ms int) frame { return c.must("agent.wait", obj{"runId": runID, "timeoutMs": ms}) }
	bare := func(name string, f frame) {
		t.Helper()
		if m := f.object(t); len(m) != 2 || m["status"] != "timeout" {
			t.Errorf("%s: %s", name, f.raw)
		}
	}
	bare("unknown", wait("w-unknown", 10))
	c.run("w-ok", "agent:main:w", "hi", nil)
	if f := wait("w-ok", 0); f.get(t, "status") != "ok" || f.get(t, "endedAt") == nil || f.get(t, "terminalReply.text") != "ECHO(1): hi" {
		t.Errorf("finished: %s", f.raw)
	}
	c.run("w-fail", "agent:main:w", "[[fail=400]]", nil)
	if f := wait("w-fail", 0); f.get(t, "status") != "error" || f.get(t, "endedAt") == nil || f.get(t, "error") == nil {
		t.Errorf("failed: %s", f.raw)
	}
	c.startRun("w-run", "agent:main:w", "[[delay=60000]]", nil)
	bare("running", wait("w-run", 10))
	waiting := c.start("agent.wait", obj{"runId": "w-run", "timeoutMs": 60_000})
	c.must("sessions.abort", obj{"key": "agent:main:w"})
	if f := c.answer(waiting, 0); f.get(t, "status") != "error" || f.get(t, "stopReason") != "rpc" || f.get(t, "endedAt") == nil || f.get(t, "error") != nil {
		t.Errorf("aborted: %s", f.raw)
	}
	final := c.run("w-time", "agent:main:w2", "[[fail=hang]]", obj{"timeout": 1})
	if final.get(t, "status") != "timeout" || final.get(t, "summary") != "aborted" || final.get(t, "result.payloads.0.isError") != true {
		t.Errorf("timed out final: %s", final.raw)
	}
	if f := wait("w-time", 0); f.get(t, "status") != "timeout" || f.get(t, "endedAt") == nil || f.get(t, "timeoutPhase") != "provider" || f.get(t, "error") == nil {
		t.Errorf("timed out: %s", f.raw)
	}
	other := dial(t, b.g)
	if f := other.must("agent.wait", obj{"runId": "w-ok"}); f.get(t, "status") != "ok" {
		t.Errorf("from another connection: %s", f.raw)
	}
}

func history(t testing.TB, c *client, key string) (roles, keys []string, f frame) {
	t.Helper()
	f = c.must("chat.history", obj{"sessionKey": key})
	messages, _ := f.get(t, "messages").([]any)
	for _, m := range messages {
		item := m.(map[string]any)
		roles = append(roles, item["role"].(string))
		if k, ok := item["idempotencyKey"].(string); ok {
			keys = append(keys, k)
		}
	}
	return roles, keys, f
}

func TestAbortedTextLeadsTheNextPrompt(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	c := dial(t, b.g)
	const key = "agent:main:left"
	id := c.startRun("a1", key, "secret plan [[delay=60000]]", nil)
	if f := c.must("sessions.abort", obj{"key": key, "runId": "a1"}); f.get(t, "status") != "aborted" || f.get(t, "abortedRunId") != "a1" {
		t.Fatalf("abort %s", f.raw)
	}
	if f := c.answer(id, 1); f.get(t, "status") != "timeout" || f.get(t, "stopReason") != "rpc" {
		t.Fatalf("final %s", f.raw)
	}
	if got := b.log.story(t, "a1"); got != "accepted started aborted" {
		t.Fatalf("log %q", got)
	}
	_, _, h := history(t, c, key)
	if h.get(t, "pendingInputs.total") != 0.0 {
		t.Fatalf("pending inputs %s", h.raw)
	}
	reply := replyText(t, c.run("a2", key, "[[delay=0]] next", nil))
	if !strings.HasPrefix(reply, "ECHO(1): [Queued user message from a previous active turn") || !strings.Contains(reply, "secret plan") || !strings.HasSuffix(reply, "next") {
		t.Fatalf("reply %q", reply)
	}
	if f := c.must("sessions.abort", obj{"key": key}); f.get(t, "status") != "no-active-run" {
		t.Fatalf("abort of nothing %s", f.raw)
	}
	// No tombstone: an aborted id nobody knows runs later.
	c.must("sessions.abort", obj{"key": key, "runId": "a3"})
	if got := replyText(t, c.run("a3", key, "alive", nil)); got != "ECHO(2): alive" {
		t.Fatalf("reply %q", got)
	}
	c.must("sessions.delete", obj{"key": key})
	if got := replyText(t, c.run("a4", key, "fresh", nil)); got != "ECHO(1): fresh" {
		t.Fatalf("reply after a deletion %q", got)
	}
}

func TestSessionsAbortClearsTheQueue(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	c := dial(t, b.g)
	const key = "agent:main:clear"
	run := c.startRun("c1", key, "[[delay=60000]]", nil)
	queued := c.startRun("c2", key, "never", nil)
	if f := c.must("sessions.abort", obj{"key": key, "clearQueued": true}); f.get(t, "abortedRunId") != "c1" || f.get(t, "status") != "aborted" {
		t.Fatalf("abort %s", f.raw)
	}
	for _, id := range []string{run, queued} {
		if f := c.answer(id, 1); f.get(t, "summary") != "aborted" {
			t.Fatalf("final %s", f.raw)
		}
	}
	if got := b.log.story(t, "c2"); got != "accepted aborted" {
		t.Fatalf("log of the queued run %q", got)
	}
	row := c.must("sessions.list", obj{"search": "clear"})
	if row.get(t, "sessions.0.hasActiveRun") != false || row.get(t, "sessions.0.status") != "timeout" {
		t.Fatalf("row %s", row.raw)
	}
}

func TestListKnowsRunsAndDescribeDoesNot(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2026.8.2", "2026.9.6"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			listAndDescribe(t, setup(t, func(c *Config) { c.Version, c.MaxConcurrent = version, 1 }), version == "2026.8.2")
		})
	}
}

// listAndDescribe: rows name a running turn in old releases only, histories in
// new ones only; a turn that waits for a slot and an idle session are told alike.
func listAndDescribe(t *testing.T, b bundle, old bool) {
	c := dial(t, b.g)
	c.startRun("r1", "rows", "[[delay=60000]][[reply=abcdefgh]]", nil)
	list := c.must("sessions.list", obj{})
	if list.get(t, "sessions.0.key") != "agent:main:rows" || list.get(t, "sessions.0.hasActiveRun") != true ||
		list.get(t, "sessions.0.status") != "running" {
		t.Fatalf("list %s", list.raw)
	}
	if got := strings.Contains(string(list.raw), `"activeRunIds":["r1"]`); got != old || strings.Contains(string(list.raw), "activeRunIds") != old {
		t.Fatalf("the row names the run: %t, want %t: %s", got, old, list.raw)
	}
	h := c.must("chat.history", obj{"sessionKey": "rows"})
	if got := strings.Contains(string(h.raw), `"inFlightRun"`); got == old {
		t.Fatalf("the history names the run: %t, want %t: %s", got, !old, h.raw)
	}
	if !old && (h.get(t, "inFlightRun.runId") != "r1" || h.get(t, "inFlightRun.text") != "" || h.get(t, "sessionInfo.hasActiveRun") != true) {
		t.Fatalf("history %s", h.raw)
	}
	c.startRun("r2", "waits", "[[delay=60000]]", nil)
	if row := listRow(t, c, "agent:main:waits"); fmt.Sprint(row["activeRunIds"]) != "[r2]" {
		t.Fatalf("row of a turn that waits for a slot %v", row)
	}
	if h := c.must("chat.history", obj{"sessionKey": "waits"}); strings.Contains(string(h.raw), "inFlightRun") {
		t.Fatalf("history of a turn that waits for a slot %s", h.raw)
	}
	described := c.must("sessions.describe", obj{"key": "rows"})
	row := described.get(t, "session").(map[string]any)
	if _, has := row["hasActiveRun"]; has || row["status"] != "running" {
		t.Fatalf("describe %s", described.raw)
	}
	if f := c.must("sessions.describe", obj{"key": "agent:main:none"}); f.get(t, "session") != nil {
		t.Fatalf("describe of nothing %s", f.raw)
	}
	if f := c.must("sessions.delete", obj{"key": "agent:main:none"}); f.get(t, "deleted") != false {
		t.Fatalf("delete of nothing %s", f.raw)
	}
	if f := c.call("sessions.delete", obj{"key": "agent:main:main"}); f.OK {
		t.Fatalf("main session was deleted")
	}
	if f := c.must("sessions.delete", obj{"key": "rows"}); f.get(t, "deleted") != true {
		t.Fatalf("delete %s", f.raw)
	}
	c.must("sessions.delete", obj{"key": "waits"})
	if n := b.g.Stats().Sessions; n != 0 {
		t.Fatalf("%d sessions left", n)
	}
}

func TestProviderFailures(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.TimeScale = 0.001 })
	c := dial(t, b.g)
	rows := []struct{ mode, text string }{{"500", "HTTP 500"}, {"429", "rate limit"}, {"cut", "timed out"}, {"reset", "network connection error"}, {"400", "rejected the request"}, {"404", "not found"}}
	for _, r := range rows {
		begin := time.Now()
		f := c.run("p-"+r.mode, "agent:main:p-"+r.mode, "[[fail="+r.mode+"]]", nil)
		if f.OK || f.Error.Code != "UNAVAILABLE" || f.Error.Retryable || !strings.Contains(f.Error.Message, r.text) {
			t.Errorf("%s: %s", r.mode, f.raw)
		}
		if took := time.Since(begin); r.mode[0] != '4' && took < 60*time.Millisecond {
			t.Errorf("%s was not hidden behind retries: %s", r.mode, took)
		}
	}
	if roles, _, _ := history(t, c, "agent:main:p-500"); !slices.Equal(roles, []string{"user", "custom"}) {
		t.Errorf("history after a failure: %v", roles)
	}
}

// The answers are those of a real gateway, 2026.9.6.
func TestSoftFailures(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.TimeScale = 0.001 })
	c := dial(t, b.g)
	for _, r := range []struct{ mode, kind, why string }{
		{"empty", "incomplete_turn", "couldn't generate a response"},
		{"filter", "incomplete_turn", "finish_reason: content_filter"},
		{"refuse", "incomplete_turn", "refused this request"},
		{"overflow", "context_overflow", "maximum context length"},
		{"423", "incomplete_turn", "423 fake provider failure"},
	} {
		f := c.run("s-"+r.mode, "agent:main:s-"+r.mode, "[[fail="+r.mode+"]]", nil)
		if !f.OK || f.get(t, "status") != "error" || f.get(t, "summary") != "failed" || f.get(t, "result.payloads.0.isError") != true ||
			f.get(t, "result.meta.error.kind") != r.kind || !strings.Contains(f.get(t, "result.meta.error.message").(string), r.why) {
			t.Errorf("%s: %s", r.mode, f.raw)
		}
	}
}

func TestResetCommands(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	c := dial(t, b.g)
	for i, text := range []string{"/reset", " \n/NEW", "\ufeff/new", "\u00a0/Reset"} {
		if f := c.run(fmt.Sprint("r", i), "agent:main:r", text, nil); f.get(t, "result.payloads.0.text") != resetText {
			t.Errorf("%q: %s", text, f.raw)
		}
	}
	if f := c.run("rest", "agent:main:r", "/new what is left", nil); f.get(t, "result.payloads.0.text") != "ECHO(1): what is left" {
		t.Errorf("with a rest: %s", f.raw)
	}
	for i, text := range []string{"/newer", "/status", "\u200b/new", "x /new", "Task:\n/new"} {
		if f := c.run(fmt.Sprint("n", i), "agent:main:r", text, nil); f.get(t, "result.payloads.0.text") == resetText {
			t.Errorf("%q was taken for a command", text)
		}
	}
}

func TestOne401DisablesTheProviderForAll(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.TimeScale = 0.1 })
	c := dial(t, b.g)
	if f := c.run("u1", "agent:main:u1", "[[fail=401]]", nil); f.OK || !strings.Contains(f.Error.Message, "401") {
		t.Fatalf("first: %s", f.raw)
	}
	if f := c.run("u2", "agent:main:u2", "innocent", nil); f.OK || !strings.Contains(f.Error.Message, "temporarily disabled") {
		t.Fatalf("second: %s", f.raw)
	}
	n := 2
	eventually(t, "provider enabled again", func() bool {
		n++
		return c.run(fmt.Sprint("u", n), fmt.Sprint("agent:main:u", n), "later", nil).OK
	})
}

func TestDeltasAreMergedAndSeqHasNoGap(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	c := dial(t, b.g)
	id := c.startRun("d1", "agent:main:d", "[[reply=abcdefghijklmnopqrstuvwxyz]] [[chunks=26]] [[chunkms=40]]", nil)
	c.answer(id, 1)
	_, end := c.await("final event", 0, func(f frame) bool { return f.Event == "chat" && f.get(t, "state") == "final" })
	c.mu.Lock()
	frames := slices.Clone(c.frames[:end+1])
	c.mu.Unlock()
	var seq uint64
	text, deltas := "", 0
	for _, f := range frames {
		if f.Type != "event" {
			continue
		}
		if seq++; f.Seq != seq {
			t.Fatalf("seq %d, want %d", f.Seq, seq)
		}
		if f.Event == "chat" && f.get(t, "state") == "delta" {
			deltas++
			all := f.get(t, "message.content.0.text").(string)
			text += f.get(t, "deltaText").(string)
			if text != all {
				t.Fatalf("deltas give %q, text so far is %q", text, all)
			}
		}
	}
	if deltas < 2 || deltas > 26 {
		t.Fatalf("%d deltas", deltas)
	}
}

func TestCutStreamTakesItsTextBack(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.TimeScale = 0.001 })
	c := dial(t, b.g)
	c.run("cut", "agent:main:cut", "[[fail=cut]]", nil)
	c.await("taken back", 0, func(f frame) bool {
		return f.Event == "agent" && f.get(t, "stream") == "assistant" && f.get(t, "data.replace") == true && f.get(t, "data.text") == ""
	})
}

func TestTaskRowsAndEvents(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	c := dial(t, b.g)
	c.run("task1", "agent:main:t", "x", nil)
	c.await("task event", 0, func(f frame) bool {
		return f.Event == "task" && f.get(t, "task.status") == "completed" && f.get(t, "task.runId") == "task1"
	})
	if f := c.must("tasks.list", obj{}); f.get(t, "tasks.0.runId") != "task1" || f.get(t, "tasks.0.status") != "completed" {
		t.Fatalf("tasks %s", f.raw)
	}
}

func TestModelRunKeepsNoHistory(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	c := dial(t, b.g)
	if got := replyText(t, c.run("m1", "agent:main:m", "bare", obj{"modelRun": true, "promptMode": "none"})); got != "ECHO(1): bare" {
		t.Fatalf("reply %q", got)
	}
	if f := c.call("agent", obj{"message": "x", "idempotencyKey": "m2", "promptMode": "none"}); f.OK {
		t.Fatal("promptMode none alone was accepted")
	}
	if n := b.g.Stats().Sessions; n != 0 {
		t.Fatalf("%d sessions", n)
	}
}
