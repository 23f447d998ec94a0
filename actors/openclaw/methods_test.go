package openclaw

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// answering serves one canned payload per method.
func answering(t *testing.T, payloads map[string]string) (*Conn, <-chan request) {
	t.Helper()
	seen := make(chan request, 64)
	cfg := serve(t, func(p *peer) {
		for {
			r, more := p.recv()
			if !more {
				return
			}
			seen <- r
			p.respond(r, payloads[r.Method])
		}
	})
	return dial(t, cfg, nil), seen
}

func TestWait(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1795286082130)
	for _, tt := range []struct {
		payload string
		want    RunStatus
		bad     bool
	}{
		{`{"runId":"r","status":"ok","endedAt":1795286082130,"stopReason":"stop","terminalReply":{"disposition":"visible","text":"hi"}}`,
			RunStatus{RunID: "r", Status: "ok", Ended: at, StopReason: "stop", Text: "hi", HasText: true}, false},
		{`{"runId":"r","status":"timeout"}`, RunStatus{RunID: "r", Status: "timeout"}, false},
		{`{"runId":"r","status":"pending","timeoutPhase":"queue"}`, RunStatus{RunID: "r", Status: "pending", Queued: true}, false},
		{`{"runId":"r","status":"error","endedAt":1795286082130,"stopReason":"rpc"}`, RunStatus{RunID: "r", Status: "error", Ended: at, StopReason: "rpc"}, false},
		{`{"runId":"r","status":"ok","endedAt":"soon","terminalReply":{"disposition":"empty"}}`, RunStatus{RunID: "r", Status: "ok"}, false},
		{`{"runId":"q","status":"ok"}`, RunStatus{}, true},
		{`{"runId":"r"}`, RunStatus{}, true},
		{`[]`, RunStatus{}, true},
		{`null`, RunStatus{}, true},
	} {
		c, seen := answering(t, map[string]string{"agent.wait": tt.payload})
		got, err := c.Wait(t.Context(), "r", 1500*time.Millisecond)
		if (err != nil) != tt.bad || tt.bad && !isA[*AnswerError](err) {
			t.Errorf("%s: %v", tt.payload, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tt.payload, diff)
		}
		if r := nextOf(t, seen); string(r.Params) != `{"runId":"r","timeoutMs":1500}` {
			t.Errorf("params %s", r.Params)
		}
	}
	if s := (RunStatus{Status: "ok", Ended: at, StopReason: "aborted"}); s.Succeeded() || !s.Aborted() {
		t.Error("an aborted run counts as succeeded")
	}
}

func TestSessionsAndDescribe(t *testing.T) {
	t.Parallel()
	row := `{"key":"k","sessionId":"s","status":"running","hasActiveRun":true,"activeRunIds":["r2",""],"abortedLastRun":true,"updatedAt":1795286082130,"lastRunId":"r1","surprise":{}}`
	want := Session{Key: "k", SessionID: "s", Status: "running", HasActiveRun: true, ActiveRunIDs: []string{"r2"}, AbortedLastRun: true,
		UpdatedAt: time.UnixMilli(1795286082130), LastRunID: "r1"}
	c, seen := answering(t, map[string]string{
		"sessions.list":     `{"sessions":[{"key":"kk"},` + row + `,{"key":"k3","activeRunIds":[]}],"hasMore":true,"nextOffset":3}`,
		"sessions.describe": `{"session":` + row + `}`,
	})
	got, found, err := c.Session(t.Context(), "k")
	if err != nil || !found {
		t.Fatalf("session: %v %v", found, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("row (-want +got)\n%s", diff)
	}
	if r := nextOf(t, seen); string(r.Params) != `{"limit":100,"search":"k"}` {
		t.Errorf("params %s", r.Params)
	}
	p, err := c.Sessions(t.Context(), SessionQuery{Limit: 3, Offset: 1})
	if err != nil || !p.HasMore || p.Next != 3 || len(p.Sessions) != 3 {
		t.Errorf("page %+v %v", p, err)
	}
	if p.Sessions[0].ActiveRunIDs != nil || p.Sessions[2].ActiveRunIDs == nil {
		t.Error("untold and empty run ids are not told apart")
	}
	if _, _, err := c.Session(t.Context(), "absent"); !isA[*AnswerError](err) {
		t.Errorf("a key that may be on another page: %v", err)
	}
	if got, found, err := c.Describe(t.Context(), "k"); err != nil || !found || !cmp.Equal(want, got) {
		t.Errorf("describe %+v %v %v", got, found, err)
	}
}

// calls are all typed calls, to be fed with odd answers.
func calls(c *Conn) map[string]func(context.Context) error {
	drop := func(_ any, err error) error { return err }
	return map[string]func(context.Context) error{
		"sessions.list":             func(ctx context.Context) error { return drop(c.Sessions(ctx, SessionQuery{})) },
		"sessions.describe":         func(ctx context.Context) error { _, _, err := c.Describe(ctx, "k"); return err },
		"sessions.abort":            func(ctx context.Context) error { return drop(c.AbortSession(ctx, "k", "r", true)) },
		"sessions.delete":           func(ctx context.Context) error { return drop(c.DeleteSession(ctx, "k")) },
		"chat.history":              func(ctx context.Context) error { return drop(c.History(ctx, "k", 10)) },
		"agent.wait":                func(ctx context.Context) error { return drop(c.Wait(ctx, "r", 0)) },
		"system.info":               func(ctx context.Context) error { return drop(c.SystemInfo(ctx)) },
		"health":                    func(ctx context.Context) error { return drop(c.Health(ctx)) },
		"diagnostics.lanes":         func(ctx context.Context) error { return drop(c.Lanes(ctx)) },
		"config.get":                func(ctx context.Context) error { return drop(c.ConfigState(ctx)) },
		"gateway.identity.get":      func(ctx context.Context) error { return drop(c.Identity(ctx)) },
		"gateway.suspend.prepare":   func(ctx context.Context) error { return drop(c.SuspendPrepare(ctx, "q")) },
		"gateway.suspend.status":    func(ctx context.Context) error { return drop(c.SuspendStatus(ctx, "q")) },
		"gateway.suspend.resume":    func(ctx context.Context) error { return drop(c.SuspendResume(ctx, "q")) },
		"gateway.restart.preflight": func(ctx context.Context) error { return drop(c.RestartPreflight(ctx)) },
	}
}

// Whatever the payload, a typed call ends with a typed error.
func TestCallsSurviveOddPayloads(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{`null`, `[]`, `"text"`, `7`, `true`,
		`{"sessions":7,"session":7,"status":{},"deleted":"yes","messages":{},"pid":"x","ok":"yes","lanes":{},"deviceId":7,"safe":"maybe","runId":{}}`} {
		payloads := map[string]string{}
		for method := range calls(nil) {
			payloads[method] = payload
		}
		c, _ := answering(t, payloads)
		for method, call := range calls(c) {
			if err := call(t.Context()); !isA[*AnswerError](err) {
				t.Errorf("%s answered with %s: %T %v, want *AnswerError", method, payload, err, err)
			}
		}
	}
}

func TestOperations(t *testing.T) {
	t.Parallel()
	c, _ := answering(t, map[string]string{
		"system.info":               `{"pid":12,"processInstanceId":"i","uptimeMs":1000,"cpuCount":2,"processMemory":{"rssBytes":1e9},"eventLoop":{"degraded":true,"delayP99Ms":21.5,"utilization":0.5}}`,
		"diagnostics.lanes":         `{"lanes":[{"lane":"main","activeCount":3,"queuedCount":-1,"maxConcurrent":8,"blockedBy":null}]}`,
		"gateway.identity.get":      `{"deviceId":"d"}`,
		"gateway.suspend.prepare":   `{"status":"draining","suspensionId":"s","activeCount":2,"retryAfterMs":500,"expiresAtMs":1795286082130}`,
		"gateway.suspend.resume":    `{"ok":true,"status":"running","resumed":true}`,
		"gateway.restart.preflight": `{"safe":false}`,
		"health":                    `{"ok":true,"eventLoop":{"utilization":7}}`,
		"sessions.abort":            `{"ok":true,"abortedRunId":null,"status":"no-active-run"}`,
		"sessions.delete":           `{"ok":true,"deleted":false}`,
	})
	ctx := t.Context()
	info, err := c.SystemInfo(ctx)
	if want := (SystemInfo{PID: 12, ProcessInstanceID: "i", Uptime: time.Second, CPUCount: 2, RSSBytes: 1e9,
		EventLoop: EventLoop{Degraded: true, DelayP99: 21500 * time.Microsecond, Utilization: 0.5}}); err != nil || info != want {
		t.Errorf("system info %+v %v", info, err)
	}
	if l, err := c.Lanes(ctx); err != nil || l[0] != (Lane{Name: "main", Active: 3, MaxConcurrent: 8}) {
		t.Errorf("lanes %+v %v", l, err)
	}
	if id, err := c.Identity(ctx); err != nil || id != "d" {
		t.Errorf("identity %q %v", id, err)
	}
	if s, err := c.SuspendPrepare(ctx, "q"); err != nil || s.Ready() || s.Active != 2 || s.Retry != 500*time.Millisecond || s.Expires.IsZero() {
		t.Errorf("suspend %+v %v", s, err)
	}
	if resumed, err := c.SuspendResume(ctx, "s"); err != nil || !resumed {
		t.Errorf("resume %v %v", resumed, err)
	}
	if safe, err := c.RestartPreflight(ctx); err != nil || safe {
		t.Errorf("preflight %v %v", safe, err)
	}
	if e, err := c.Health(ctx); err != nil || e.Utilization != 1 {
		t.Errorf("health %+v %v", e, err)
	}
	if a, err := c.AbortSession(ctx, "k", "", false); err != nil || a.Stopped() {
		t.Errorf("abort %+v %v", a, err)
	}
	if deleted, err := c.DeleteSession(ctx, "k"); err != nil || deleted {
		t.Errorf("delete %v %v", deleted, err)
	}
}

func TestHistoryTrace(t *testing.T) {
	t.Parallel()
	user := func(id string) string {
		return `{"role":"user","content":"q","idempotencyKey":"` + id + `:user","timestamp":1795286082130}`
	}
	reply := func(text, stop string) string {
		return `{"role":"assistant","content":[{"type":"text","text":"` + text + `"}],"stopReason":"` + stop + `","usage":{"input":1,"output":2,"totalTokens":3}}`
	}
	failedReply := `{"role":"assistant","content":"⚠️ failed","stopReason":"stop","idempotencyKey":"r:terminal-error"}`
	for _, tt := range []struct {
		name  string
		items []string
		rest  string
		want  RunTrace
	}{
		{name: "nowhere", items: []string{user("x"), reply("a", "stop")}},
		{name: "answered", items: []string{user("x"), reply("no", "stop"), user("r"), reply("yes", "stop")},
			want: RunTrace{Taken: true, LastTurn: true, Answered: true, Text: "yes"}},
		{name: "last item", items: []string{user("x"), reply("no", "stop"), user("r")}, want: RunTrace{Taken: true, LastTurn: true, LastItem: true}},
		{name: "deeper", items: []string{user("r"), reply("yes", "stop"), user("x"), reply("no", "stop")},
			want: RunTrace{Taken: true, Answered: true, Text: "yes"}},
		{name: "tool talk is no answer", items: []string{user("r"), reply("let me look", "toolUse")}, want: RunTrace{Taken: true, LastTurn: true}},
		{name: "after tools", items: []string{user("r"), reply("let me look", "toolUse"), `{"role":"toolResult","content":[]}`, reply("yes", "stop")},
			want: RunTrace{Taken: true, LastTurn: true, Answered: true, Text: "yes"}},
		{name: "aborted", items: []string{user("r"), reply("half", "aborted")}, want: RunTrace{Taken: true, LastTurn: true}},
		{name: "failed", items: []string{user("r"), failedReply}, want: RunTrace{Taken: true, LastTurn: true}},
		{name: "pending", items: []string{user("x")}, rest: `,"pendingInputs":{"items":[{"runId":"r","state":"interrupted"}],"total":1}`, want: RunTrace{Pending: true}},
		{name: "no mark", items: []string{`{"role":"user","content":"q"}`}},
		{name: "in flight", items: []string{user("r")}, rest: `,"inFlightRun":{"runId":"r","text":"so"}`, want: RunTrace{Taken: true, LastTurn: true, LastItem: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			raw := `{"sessionId":"s","messages":[` + strings.Join(tt.items, ",") + `]` + tt.rest + `}`
			h, err := decodeHistory([]byte(raw), DefaultMaxDepth, 100, 100)
			if err != nil {
				t.Fatal(err)
			}
			if tt.name == "in flight" && (h.InFlight == nil || *h.InFlight != InFlight{RunID: "r", Text: "so"} || !h.Active) {
				t.Errorf("in flight %+v", h.InFlight)
			}
			if diff := cmp.Diff(tt.want, h.Trace("r")); diff != "" {
				t.Errorf("trace (-want +got)\n%s", diff)
			}
			if tr := h.Trace(""); tr.Taken {
				t.Error("an empty run id was found")
			}
		})
	}
}
