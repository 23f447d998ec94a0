package openclaw

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// collector writes every event as it comes.
type collector struct{ ch chan any }

func (c collector) RunText(v RunText)   { c.ch <- v }
func (c collector) RunPhase(v RunPhase) { c.ch <- v }
func (c collector) RunChat(v RunChat)   { c.ch <- v }
func (c collector) SubAgent(v SubAgent) { c.ch <- v }
func (c collector) Shutdown(v Shutdown) { c.ch <- v }
func (c collector) Suspension(p string) { c.ch <- "suspension " + p }
func (c collector) Tick()               { c.ch <- "tick" }
func (c collector) Gap(n int64)         { c.ch <- n }

func TestEventsAreDecoded(t *testing.T) {
	t.Parallel()
	cfg := serve(t, func(p *peer) {
		p.send(
			`{"type":"event","event":"tick","payload":{"ts":1},"seq":1}`,
			`{"type":"event","event":"agent","seq":2,"payload":{"runId":"r","sessionKey":"k","stream":"assistant","data":{"text":"so far","delta":"far","replace":true}}}`,
			`{"type":"event","event":"agent","seq":3,"payload":{"runId":"r","stream":"lifecycle","data":{"phase":"finishing","error":"x","errorObservation":{"failoverReason":"auth"}}}}`,
			`{"type":"event","event":"agent","seq":4,"payload":{"runId":"r","stream":"lifecycle","data":{"phase":"end","stopReason":"stop","executionSettled":true}}}`,
			`{"type":"event","event":"agent","payload":{"runId":"r","stream":"lifecycle","data":{"phase":"end","status":"cancelled","stopReason":"rpc"}}}`,
			`{"type":"event","event":"agent","payload":{"runId":"r","stream":"lifecycle","data":{"phase":"error","stopReason":"aborted"}}}`,
			`{"type":"event","event":"agent","payload":{"runId":"r","stream":"lifecycle","data":{"phase":"error","executionSettled":false}}}`,
			`{"type":"event","event":"agent","seq":5,"payload":{"runId":"r","stream":"usage","data":{"outputTokens":5}}}`, // of no use
			`{"type":"event","event":"chat","seq":6,"payload":{"runId":"r","state":"delta","deltaText":"far"}}`,           // of no use
			`{"type":"event","event":"chat","seq":9,"payload":{"runId":"r","sessionKey":"k","state":"final","stopReason":"stop","message":{"role":"assistant","content":[{"type":"text","text":"all"}]}}}`,
			`{"type":"event","event":"chat","seq":10,"payload":{"runId":"r","state":"error","errorMessage":"bad","errorDetail":{"failoverReason":"format"}}}`,
			`{"type":"event","event":"chat","payload":{"runId":"r","state":"error","errorMessage":"slow","errorKind":"timeout"}}`,
			`{"type":"event","event":"chat","seq":11,"payload":{"runId":"r","state":"aborted","stopReason":"rpc"}}`,
			`{"type":"event","event":"task","payload":{"action":"upserted","task":{"runtime":"cli","ownerKey":"k","childSessionKey":"k","status":"running"}}}`, // an ordinary run
			`{"type":"event","event":"task","payload":{"action":"upserted","task":{"runtime":"subagent","ownerKey":"k","childSessionKey":"agent:main:subagent:1","status":"completed","deliveryStatus":"pending"}}}`,
			`{"type":"event","event":"task","payload":{"action":"upserted","task":{"runtime":"subagent","ownerKey":"k","childSessionKey":"agent:main:subagent:1","status":"completed","deliveryStatus":"delivered"}}}`,
			`{"type":"event","event":"gateway.suspension","seq":12,"payload":{"phase":"draining"}}`,
			`{"type":"event","event":"shutdown","seq":13,"payload":{"reason":"gateway stopping"}}`,
		)
		p.drain()
	})
	ch := make(chan any, 32)
	dial(t, cfg, collector{ch})
	want := []any{
		"tick",
		RunText{RunID: "r", SessionKey: "k", Text: "so far", Replaced: true},
		RunPhase{RunID: "r", Phase: "finishing", Error: "x", Details: ErrorDetails{FailoverReason: "auth"}},
		RunPhase{RunID: "r", Phase: "end", StopReason: "stop", Settled: true},
		RunPhase{RunID: "r", Phase: "end", Status: "cancelled", StopReason: "rpc"},
		RunPhase{RunID: "r", Phase: "error", StopReason: "aborted", Settled: true},
		RunPhase{RunID: "r", Phase: "error"},
		int64(2),
		RunChat{RunID: "r", SessionKey: "k", State: "final", Text: "all", StopReason: "stop"},
		RunChat{RunID: "r", State: "error", Error: "bad", Class: ClassInvalid},
		RunChat{RunID: "r", State: "error", Error: "slow", Class: ClassTimeout},
		RunChat{RunID: "r", State: "aborted", StopReason: "rpc"},
		SubAgent{Key: "agent:main:subagent:1", Parent: "k", Working: true},
		SubAgent{Key: "agent:main:subagent:1", Parent: "k"},
		"suspension draining",
		Shutdown{Reason: "gateway stopping"},
	}
	for i, w := range want {
		if diff := cmp.Diff(w, nextOf(t, ch)); diff != "" {
			t.Errorf("event %d (-want +got)\n%s", i, diff)
		}
	}
	if (RunPhase{Phase: "finishing", Settled: true}).Terminal() || !(RunPhase{Phase: "error", Settled: true}).Terminal() || (RunPhase{Phase: "end"}).Terminal() {
		t.Error("terminal phases are told wrongly")
	}
}

// The failover reason comes with the events, the failure with the answer.
func TestFailureClassFromEvents(t *testing.T) {
	t.Parallel()
	cfg := serve(t, func(p *peer) {
		r, _ := p.recv()
		p.respond(r, `{"runId":"r1","status":"accepted"}`)
		p.send(`{"type":"event","event":"agent","payload":{"runId":"r1","stream":"lifecycle","data":{"phase":"error","errorObservation":{"failoverReason":"rate_limit"},"executionSettled":true}}}`)
		p.refuse(r, `{"code":"UNAVAILABLE","message":"new words for it"}`)
		p.drain()
	})
	c := dial(t, cfg, nil)
	answers := make(chan AgentAnswer, 4)
	if err := c.Agent(turn("r1"), func(a AgentAnswer) { answers <- a }); err != nil {
		t.Fatal(err)
	}
	nextOf(t, answers)
	if a := nextOf(t, answers); a.Kind != AnswerFailed || a.Failure.Class != ClassProvider {
		t.Errorf("answer %+v", a)
	}
}

func TestMetricNames(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	m.in(1)
	m.out(1)
	m.ignore(ignoredLate)
	m.connects.WithLabelValues("ok").Inc()
	m.closes.WithLabelValues("local").Inc()
	m.answers.WithLabelValues("final").Inc()
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		got = append(got, f.GetName()+" "+f.GetHelp())
	}
	want, err := os.ReadFile("testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimSpace(string(want)), strings.Join(got, "\n")); diff != "" {
		t.Errorf("metrics (-want +got)\n%s", diff)
	}
}

func TestTroubleInWords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		p    RunPhase
		want string
	}{
		{RunPhase{Phase: "finishing", Error: "⚠️ fake/fake-1 request failed", Details: ErrorDetails{Provider: "fake", FailoverReason: "server_error", HTTPStatus: 500, Preview: "boom"}},
			"the model provider fake fails (internal error, HTTP 500: boom); the gateway asks it again by itself"},
		{RunPhase{Phase: "finishing", Error: "LLM request failed.", Details: ErrorDetails{Provider: "fake", FailoverReason: "timeout"}},
			"the model provider fake fails (no whole answer: the connection was refused, reset or cut, or nothing came); the gateway asks it again by itself"},
		{RunPhase{Phase: "finishing", Error: "⚠️ Agent run failed (model: fake/fake-1).", Details: ErrorDetails{Provider: "fake"}},
			"the model provider fake fails (Agent run failed (model: fake/fake-1).); the gateway asks it again by itself"},
		{RunPhase{Phase: "finishing"}, ""},
		{RunPhase{Phase: "error", Error: "x", Details: ErrorDetails{Provider: "fake"}}, ""},
	} {
		if got := tt.p.Trouble(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
