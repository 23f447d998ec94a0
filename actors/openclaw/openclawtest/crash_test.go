package openclawtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// lateRerun is a seed whose first throw puts a re-run 9.3 s (scaled) after ready,
// so that a slow machine sees the row before it starts.
const lateRerun = 1

// both runs a test with state in memory and with state on disk.
func both(t *testing.T, f func(t *testing.T, stateDir string)) {
	t.Run("memory", func(t *testing.T) { t.Parallel(); f(t, "") })
	t.Run("disk", func(t *testing.T) { t.Parallel(); f(t, t.TempDir()) })
}

func listRow(t testing.TB, c *client, key string) map[string]any {
	t.Helper()
	rows, _ := c.must("sessions.list", obj{}).get(t, "sessions").([]any)
	for _, r := range rows {
		if m := r.(map[string]any); m["key"] == key {
			return m
		}
	}
	return nil
}

// namesReruns is a release whose list rows tell the id of a re-run.
const namesReruns = "2026.8.2"

// TestARerunIsNamedByTheHistoryOnly: as since 2026.9, and not before it runs.
func TestARerunIsNamedByTheHistoryOnly(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.TimeScale, c.Seed = 0.3, lateRerun })
	c := dial(t, b.g)
	const key = "agent:main:quiet"
	c.startRun("q1.1", key, "work [[delay=1000]]", nil)
	if err := b.g.Restart(testContext(t)); err != nil {
		t.Fatal(err)
	}
	c = dial(t, b.g)
	look := func() (row map[string]any, named string) {
		h := c.must("chat.history", obj{"sessionKey": key})
		if f, ok := h.object(t)["inFlightRun"].(map[string]any); ok {
			named, _ = f["runId"].(string)
		}
		return listRow(t, c, key), named
	}
	row, named := look()
	if _, ids := row["activeRunIds"]; ids || row["status"] != "running" || row["hasActiveRun"] != true || named != "" {
		t.Fatalf("before the re-run: row %v, history names %q", row, named)
	}
	eventually(t, "the history names the re-run", func() bool { row, named = look(); return named != "" })
	if _, ids := row["activeRunIds"]; ids || row["hasActiveRun"] != true || named == "q1.1" || b.log.story(t, named) != "started" {
		t.Fatalf("during the re-run: row %v, history names %q with story %q", row, named, b.log.story(t, named))
	}
	eventually(t, "the re-run is over", func() bool { row, named = look(); return row["hasActiveRun"] == false })
	row, named = look() // the history was read before the row
	if ids, ok := row["activeRunIds"].([]any); !ok || len(ids) != 0 || named != "" {
		t.Fatalf("after the re-run: row %v, history names %q", row, named)
	}
}

func TestCrashDuringTheModelCallIsRunAgain(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, dir string) {
		b := setup(t, func(c *Config) { c.StateDir, c.TimeScale, c.Seed, c.Version = dir, 0.3, lateRerun, namesReruns })
		c := dial(t, b.g)
		const key = "agent:main:crash"
		c.startRun("x1.1", key, "work [[delay=400]]", nil)
		boot := b.g.BootID()
		b.g.Crash()
		if code := c.closeCode(); code != -1 {
			t.Fatalf("close code %d after a crash", code)
		}
		if b.g.BootID() != "" {
			t.Fatal("up after a crash")
		}
		if err := b.g.Start(testContext(t)); err != nil {
			t.Fatal(err)
		}
		c = dial(t, b.g)
		if b.g.BootID() == boot {
			t.Fatal("same boot id")
		}
		row := listRow(t, c, key)
		ids, _ := row["activeRunIds"].([]any)
		if row["status"] != "running" || row["abortedLastRun"] != true || len(ids) != 1 || ids[0] == "x1.1" {
			t.Fatalf("row before the re-run %v", row)
		}
		rerun := ids[0].(string)
		if got := b.log.story(t, rerun); got != "" {
			t.Fatalf("re-run has already %q", got)
		}
		if f := c.must("agent.wait", obj{"runId": "x1.1", "timeoutMs": 10}); len(f.object(t)) != 2 {
			t.Fatalf("wait for the old run %s", f.raw)
		}
		if f := c.must("tasks.list", obj{}); f.get(t, "tasks.0.status") != "cancelled" || f.get(t, "tasks.0.terminalSummary") != "Task execution process exited before restart." {
			t.Fatalf("tasks %s", f.raw)
		}
		eventually(t, "re-run finished", func() bool { return b.log.story(t, rerun) == "started finished" })
		roles, keys, _ := history(t, c, key)
		// The interrupted text and its key went into the re-run's.
		if !slices.Equal(roles, []string{"user", "assistant"}) || !slices.Equal(keys, []string{rerun + ":user"}) {
			t.Fatalf("history %v %v", roles, keys)
		}
		row = listRow(t, c, key)
		if row["status"] != "done" || row["abortedLastRun"] != false || row["hasActiveRun"] != false {
			t.Fatalf("row after the re-run %v", row)
		}
		for _, l := range b.log.lines(t) {
			if l.RunID == rerun && !strings.HasPrefix(l.Message, "work") {
				t.Fatalf("log line %+v does not name the task", l)
			}
		}
	})
}

// TestASecondRerunHasTheTextNoMore: 2026.8 keeps the interrupted text in the prompt
// of the re-run only, and the next one asks the model without it; 2026.9 has it
// in the transcript.
func TestASecondRerunHasTheTextNoMore(t *testing.T) {
	t.Parallel()
	for version, keeps := range map[string]bool{namesReruns: false, "2026.9.6": true} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, dir string) {
				b := setup(t, func(c *Config) {
					c.StateDir, c.TimeScale, c.Version, c.RunTime = dir, 0.01, version, time.Hour
				})
				c := dial(t, b.g)
				c.startRun("x1.1", "agent:main:crash", "work", nil)
				begun := map[string]string{} // run id: message
				for crashes := range 3 {
					eventually(t, "another run started", func() bool {
						for _, l := range b.log.lines(t) {
							if l.Event == "started" {
								begun[l.RunID] = l.Message
							}
						}
						return len(begun) > crashes
					})
					b.g.Crash()
					if err := b.g.Start(testContext(t)); err != nil {
						t.Fatal(err)
					}
				}
				lost := 0
				for _, m := range begun {
					if m == systemRerun {
						lost++
					}
				}
				if want := map[bool]int{true: 0, false: 1}[keeps]; lost != want {
					t.Errorf("%d of the runs were asked without the text, want %d: %v", lost, want, begun)
				}
				c = dial(t, b.g)
				if _, keys, _ := history(t, c, "agent:main:crash"); slices.Contains(keys, "x1.1:user") != keeps {
					t.Errorf("keys in the history %v", keys)
				}
			})
		})
	}
}

func TestCrashBeforeTheModelCallStaysPending(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, dir string) {
		b := setup(t, func(c *Config) { c.StateDir, c.PrepareTime = dir, time.Minute })
		c := dial(t, b.g)
		c.startRun("p1", "agent:main:p", "early", nil)
		if err := b.g.Restart(testContext(t)); err != nil {
			t.Fatal(err)
		}
		c = dial(t, b.g)
		_, _, h := history(t, c, "agent:main:p")
		if h.get(t, "pendingInputs.items.0.runId") != "p1" || h.get(t, "pendingInputs.items.0.state") != "interrupted" || h.get(t, "pendingInputs.total") != 1.0 || h.get(t, "totalMessages") != 0.0 {
			t.Fatalf("history %s", h.raw)
		}
		if row := listRow(t, c, "agent:main:p"); row["hasActiveRun"] != false {
			t.Fatalf("row %v", row)
		}
		c.must("sessions.abort", obj{"key": "agent:main:p", "clearQueued": true})
		if _, _, h := history(t, c, "agent:main:p"); h.get(t, "pendingInputs.total") != 0.0 {
			t.Fatalf("history %s", h.raw)
		}
	})
}

func TestFencingKillsTheRerun(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.TimeScale, c.Seed, c.Version = 1, lateRerun, namesReruns })
	c := dial(t, b.g)
	const key = "agent:main:fence"
	c.startRun("f1", key, "moved away [[delay=60000]]", nil)
	if err := b.g.Restart(testContext(t)); err != nil {
		t.Fatal(err)
	}
	c = dial(t, b.g)
	rerun := listRow(t, c, key)["activeRunIds"].([]any)[0].(string)
	if f := c.must("sessions.abort", obj{"key": key, "clearQueued": true}); f.get(t, "abortedRunId") != rerun {
		t.Fatalf("abort %s", f.raw)
	}
	if got := b.log.story(t, rerun); got != "aborted" {
		t.Fatalf("log %q", got)
	}
	row := listRow(t, c, key)
	if row["status"] != "timeout" || row["hasActiveRun"] != false || row["abortedLastRun"] != false {
		t.Fatalf("row %v", row)
	}
	if err := b.g.Restart(testContext(t)); err != nil {
		t.Fatal(err)
	}
	c = dial(t, b.g)
	if row := listRow(t, c, key); row["hasActiveRun"] != false {
		t.Fatalf("row after another restart %v", row)
	}
	// The same key, now the last user turn, runs again without doubling the turn.
	c.startRun("f1", key, "moved away [[delay=60000]]", nil)
	if _, keys, _ := history(t, c, key); !slices.Equal(keys, []string{"f1:user"}) {
		t.Fatalf("history keys %v", keys)
	}
}

func TestSameKeyAfterARestart(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, dir string) {
		b := setup(t, func(c *Config) { c.StateDir = dir })
		c := dial(t, b.g)
		const key = "agent:main:again"
		c.run("d1", key, "deep", nil)
		c.run("d2", key, "last", nil)
		if err := b.g.Drain(testContext(t)); err != nil {
			t.Fatal(err)
		}
		if err := b.g.Start(testContext(t)); err != nil {
			t.Fatal(err)
		}
		c = dial(t, b.g)
		if got := replyText(t, c.run("d2", key, "last", nil)); got != "ECHO(2): last" {
			t.Fatalf("reply %q", got)
		}
		roles, _, _ := history(t, c, key)
		if want := []string{"user", "assistant", "user", "assistant", "assistant"}; !slices.Equal(roles, want) {
			t.Fatalf("history %v, want %v", roles, want)
		}
		f := c.run("d1", key, "deep", nil)
		if !f.OK || f.get(t, "status") != "error" || f.get(t, "result.payloads.0.isError") != true {
			t.Fatalf("deeper key %s", f.raw)
		}
		if got := b.log.story(t, "d1"); got != "accepted started finished accepted failed" {
			t.Fatalf("log %q", got)
		}
	})
}

func TestTheLastRerunStillAnswersTheTask(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Version = namesReruns })
	c := dial(t, b.g)
	const key = "agent:main:again"
	c.startRun("a1", key, "keep me [[delay=4000]]", nil)
	rerun := ""
	for i := range maxReruns {
		if err := b.g.Restart(testContext(t)); err != nil {
			t.Fatal(err)
		}
		c = dial(t, b.g)
		rerun = listRow(t, c, key)["activeRunIds"].([]any)[0].(string)
		if i < maxReruns-1 {
			eventually(t, "re-run started", func() bool { return b.log.story(t, rerun) == "started" })
		}
	}
	eventually(t, "the last re-run finished", func() bool { return b.log.story(t, rerun) == "started finished" })
	// Each re-run put words of the gateway's own behind the task's.
	if _, _, f := history(t, c, key); !strings.Contains(fmt.Sprint(f.get(t, "messages.1")), "keep me") {
		t.Fatalf("history %s", f.raw)
	}
}

func TestRerunsAreGivenUpAfterThree(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Version = namesReruns })
	c := dial(t, b.g)
	const key = "agent:main:loop"
	c.startRun("g1", key, "[[delay=60000]]", nil)
	for i := range maxReruns {
		if err := b.g.Restart(testContext(t)); err != nil {
			t.Fatal(err)
		}
		if err := b.g.SetFaults(Faults{HangRate: 1}); err != nil {
			t.Fatal(err)
		}
		c = dial(t, b.g)
		row := listRow(t, c, key)
		if row["hasActiveRun"] != true {
			t.Fatalf("restart %d: row %v", i, row)
		}
		rerun := row["activeRunIds"].([]any)[0].(string)
		eventually(t, "re-run started", func() bool { return b.log.story(t, rerun) == "started" })
	}
	if err := b.g.Restart(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if row := listRow(t, dial(t, b.g), key); row["hasActiveRun"] != false || row["status"] != "failed" {
		t.Fatalf("row %v", row)
	}
}

func TestDrainLetsRunsFinish(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.TimeScale = 1 })
	c := dial(t, b.g)
	id := c.startRun("r1", "agent:main:r", "[[delay=3000]]", nil)
	queued := c.startRun("r2", "agent:main:r", "queued", nil)
	drained := make(chan error, 1)
	ctx := testContext(t)
	go func() { drained <- b.g.Drain(ctx) }()
	eventually(t, "draining", func() bool {
		code, body := httpDo(t, b.g, "GET", "/readyz", "", nil)
		return code == 503 && strings.Contains(body, "gateway-draining")
	})
	if code, _ := httpDo(t, b.g, "GET", "/healthz", "", nil); code != 200 {
		t.Fatalf("healthz %d", code)
	}
	if code, body := httpDo(t, b.g, "GET", "/startupz", "", nil); code != 503 || !strings.Contains(body, "draining") {
		t.Fatalf("startupz %d %s", code, body)
	}
	if code, _ := httpDo(t, b.g, "GET", "/", "", map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AQIDBAUGBwgJCgsMDQ4PEC=="}); code != 0 {
		t.Fatalf("a draining gateway answered a new socket with %d", code)
	}
	if f := c.call("agent", obj{"message": "late", "idempotencyKey": "r3"}); f.OK || f.Error.Code != "UNAVAILABLE" || !f.Error.Retryable || f.Error.Details["reason"] != "gateway-draining" {
		t.Fatalf("new work while draining: %s", f.raw)
	}
	if f := c.answer(id, 1); f.get(t, "status") != "ok" {
		t.Fatalf("final %s", f.raw)
	}
	c.answer(queued, 1)
	shutdown, _ := c.await("shutdown", 0, func(f frame) bool { return f.Event == "shutdown" })
	if shutdown.get(t, "reason") != "gateway stopping" || shutdown.get(t, "restartExpectedMs") != nil {
		t.Fatalf("shutdown %s", shutdown.raw)
	}
	if got := c.closeCode(); got != 1012 {
		t.Fatalf("close %d", got)
	}
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	if b.g.Stats().Up {
		t.Fatal("up after a drain")
	}
}

func TestSuspension(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.TimeScale = 1 })
	c := dial(t, b.g)
	run := c.startRun("s1", "agent:main:s", "[[delay=60000]]", nil)
	if f := c.must("gateway.suspend.prepare", obj{"requestId": "q"}); f.get(t, "status") != "busy" {
		t.Fatalf("prepare without drain %s", f.raw)
	}
	f := c.must("gateway.suspend.prepare", obj{"requestId": "q", "drain": true})
	id := f.get(t, "suspensionId")
	if f.get(t, "status") != "draining" || f.get(t, "activeCount") != 1.0 || f.get(t, "blockers.0.kind") != "embedded-run" {
		t.Fatalf("prepare %s", f.raw)
	}
	for _, method := range []string{"health", "agent.wait", "agent"} {
		if f := c.call(method, obj{}); f.OK || f.Error.Code != "UNAVAILABLE" || !f.Error.Retryable || f.Error.Details["reason"] != "gateway-suspending" {
			t.Fatalf("%s while suspended: %s", method, f.raw)
		}
	}
	if code, _ := httpDo(t, b.g, "GET", "/readyz", "", nil); code != 503 {
		t.Fatalf("readyz %d", code)
	}
	b.g.mu.Lock()
	b.g.finish(b.g.life, b.g.life.runs["s1"], aborted())
	b.g.mu.Unlock()
	c.answer(run, 1)
	if f := c.must("gateway.suspend.status", obj{"suspensionId": id}); f.get(t, "status") != "ready" {
		t.Fatalf("status %s", f.raw)
	}
	if f := c.must("gateway.suspend.resume", obj{"suspensionId": "wrong"}); f.get(t, "resumed") != false {
		t.Fatalf("resume %s", f.raw)
	}
	if f := c.must("gateway.suspend.resume", obj{"suspensionId": id}); f.get(t, "resumed") != true {
		t.Fatalf("resume %s", f.raw)
	}
	c.must("health", obj{})
	var phases []string
	c.await("accepting", 0, func(f frame) bool {
		if f.Event == "gateway.suspension" {
			phases = append(phases, f.get(t, "phase").(string))
		}
		return f.Event == "gateway.suspension" && f.get(t, "phase") == "accepting"
	})
	if want := []string{"preparing", "draining", "prepared", "accepting"}; !slices.Equal(phases, want) {
		t.Fatalf("phases %v", phases)
	}
}

func TestSuspensionLeaseEnds(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.TimeScale = 0.001 })
	c := dial(t, b.g)
	if f := c.must("gateway.suspend.prepare", obj{"requestId": "q", "drain": true}); f.get(t, "status") != "ready" {
		t.Fatalf("prepare %s", f.raw)
	}
	eventually(t, "open again", func() bool { return c.call("health", obj{}).OK })
}

func TestStopAndDrainAreIdempotent(t *testing.T) {
	t.Parallel()
	g, err := New(Config{Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	if err := g.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	g.Crash()
	for range 2 {
		if err := g.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Start(ctx); err != ErrStopped {
		t.Fatalf("start after stop: %v", err)
	}
}

func TestStateSurvivesATornLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := setup(t, func(c *Config) { c.StateDir = dir })
	c := dial(t, b.g)
	for i := range 5 {
		c.run(fmt.Sprint("t", i), "agent:main:t", "hello", nil)
	}
	device := c.must("gateway.identity.get", obj{}).get(t, "deviceId")
	b.g.Crash()
	appendTo(t, dir+"/"+journalName, `{"op":"meta","me`)
	if err := b.g.Start(testContext(t)); err != nil {
		t.Fatal(err)
	}
	c = dial(t, b.g)
	if got := replyText(t, c.run("t9", "agent:main:t", "sixth", nil)); got != "ECHO(6): sixth" {
		t.Fatalf("reply %q", got)
	}
	if again := c.must("gateway.identity.get", obj{}).get(t, "deviceId"); again != device {
		t.Fatalf("device id changed from %v to %v", device, again)
	}
}
