package openclaw

import (
	"testing"
	"time"
)

// answerTo decodes one agent answer as the reader would.
func answerTo(t *testing.T, accepted bool, hint, raw string) AgentAnswer {
	t.Helper()
	cfg := Config{}.withDefaults()
	c := newConn(t.Context(), cfg, NopHandler{})
	f, err := decodeFrame([]byte(raw), cfg.MaxDepth)
	if err != nil {
		t.Fatalf("frame: %v", err)
	}
	return c.decodeAgentAnswer(&pending{method: "agent", runID: "r", accepted: accepted, hint: hint}, f)
}

func ok(payload string) string { return `{"type":"res","id":"2","ok":true,"payload":` + payload + `}` }

func failed(body string) string { return `{"type":"res","id":"2","ok":false,"error":` + body + `}` }

func unavailable(message string) string {
	return failed(`{"code":"UNAVAILABLE","message":"` + message + `"}`)
}

// The texts are those of a real gateway, 2026.9.6.
func TestClassifyAgentAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, raw string
		accepted  bool
		hint      string
		kind      AnswerKind
		class     FailureClass
	}{
		{name: "accepted", raw: ok(`{"runId":"r","status":"accepted"}`), kind: AnswerAccepted},
		{name: "in flight", raw: ok(`{"runId":"r","status":"in_flight"}`), kind: AnswerInFlight},
		{name: "success", raw: ok(`{"runId":"r","status":"ok","result":{"payloads":[{"text":"x"}]}}`), kind: AnswerFinal},
		{name: "empty success", raw: ok(`{"runId":"r","status":"ok","result":{}}`), kind: AnswerFinal},
		{name: "null texts", raw: ok(`{"runId":"r","status":"ok","result":{"payloads":[{"text":null,"mediaUrl":"x"}],"meta":null}}`), kind: AnswerFinal},

		{name: "provider 500", accepted: true, raw: unavailable("⚠️ fake/fake-1 request failed (provider internal error, HTTP 500). This is usually temporary."), class: ClassProvider},
		{name: "provider 429", accepted: true, raw: unavailable("⚠️ API rate limit reached. Please try again later."), class: ClassProvider},
		{name: "provider 401", accepted: true, raw: unavailable("⚠️ fake/fake-1 request failed (authentication failed, HTTP 401)."), class: ClassAuth},
		{name: "provider off", accepted: true, raw: unavailable(`Inline API key for provider \"fake\" is temporarily disabled after a provider auth/billing failure.`), class: ClassAuth},
		{name: "provider 400", accepted: true, raw: unavailable("LLM request failed: provider rejected the request schema or tool payload."), class: ClassInvalid},
		{name: "network", accepted: true, raw: unavailable("LLM request failed: network connection error."), class: ClassProvider},
		{name: "cut", accepted: true, raw: unavailable("LLM request timed out."), class: ClassTimeout},
		{name: "the event's hint wins", accepted: true, hint: "server_error", raw: unavailable("Something new."), class: ClassProvider},
		{name: "an unknown hint", accepted: true, hint: "surprise", raw: unavailable("LLM request timed out."), class: ClassTimeout},
		{name: "detail wins", accepted: true, hint: "timeout", raw: failed(`{"code":"UNAVAILABLE","message":"x","details":{"httpStatus":401}}`), class: ClassAuth},
		{name: "unknown words", accepted: true, raw: unavailable("Something new."), class: ClassUnknown},

		{name: "suspended", raw: failed(`{"code":"UNAVAILABLE","message":"x","retryable":true,"retryAfterMs":1000}`), class: ClassUnavailable},
		{name: "retryable after accepted", accepted: true, raw: failed(`{"code":"UNAVAILABLE","message":"x","retryable":true}`), class: ClassUnknown},
		{name: "bad params", raw: failed(`{"code":"INVALID_REQUEST","message":"invalid agent params"}`), class: ClassInvalid},
		{name: "scope", raw: failed(`{"code":"INVALID_REQUEST","message":"missing scope: operator.write"}`), class: ClassInvalid},
		{name: "agent timeout", accepted: true, raw: failed(`{"code":"AGENT_TIMEOUT","message":"x"}`), class: ClassTimeout},
		{name: "no error body", accepted: true, raw: `{"type":"res","id":"2","ok":false}`, class: ClassUnknown},
		{name: "no ok", accepted: true, raw: `{"type":"res","id":"2","payload":{"runId":"r","status":"ok","result":{}}}`, class: ClassUnknown},

		{name: "aborted by call", accepted: true, raw: ok(`{"runId":"r","status":"timeout","summary":"aborted","stopReason":"rpc"}`), class: ClassAborted},
		{name: "aborted, 2026.8.2", accepted: true, raw: ok(`{"runId":"r","status":"error","summary":"failed","stopReason":"aborted"}`), class: ClassAborted},
		{name: "aborted while starting", accepted: true, raw: unavailable("embedded attempt reached dispatch without an active admitted run"), class: ClassAborted},
		{name: "aborted though ok", accepted: true, raw: ok(`{"runId":"r","status":"ok","stopReason":"aborted","result":{"payloads":[{"text":"half"}]}}`), class: ClassAborted},
		{name: "time limit", accepted: true, raw: ok(`{"runId":"r","status":"timeout","summary":"aborted","timeoutPhase":"provider","result":{"payloads":[{"text":"Request timed out","isError":true}]}}`), class: ClassTimeout},
		{name: "status error", accepted: true, raw: ok(`{"runId":"r","status":"error","result":{"payloads":[{"text":"⚠️ Agent run failed","isError":true}]}}`), class: ClassUnknown},
		{name: "ok with an error part", accepted: true, raw: ok(`{"runId":"r","status":"ok","result":{"payloads":[{"text":"HTTP 503","isError":true}]}}`), class: ClassProvider},
		{name: "ok with an error stop", accepted: true, raw: ok(`{"runId":"r","status":"ok","result":{"payloads":[{"text":"x"}],"meta":{"stopReason":"error"}}}`), class: ClassUnknown},
		{name: "new status", accepted: true, raw: ok(`{"runId":"r","status":"surprise"}`), class: ClassUnknown},
		{name: "another run", accepted: true, raw: ok(`{"runId":"q","status":"ok","result":{}}`), class: ClassUnknown},
		{name: "no run", accepted: true, raw: ok(`{"status":"ok","result":{}}`), class: ClassUnknown},
		{name: "no result", accepted: true, raw: ok(`{"runId":"r","status":"ok"}`), class: ClassUnknown},
		{name: "odd result", accepted: true, raw: ok(`{"runId":"r","status":"ok","result":{"payloads":{}}}`), class: ClassUnknown},
		{name: "payload null", raw: ok(`null`), class: ClassUnknown},
		{name: "payload text", raw: ok(`"fine"`), class: ClassUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := answerTo(t, tt.accepted, tt.hint, tt.raw)
			if tt.class == "" {
				if a.Kind != tt.kind || a.Failure != nil {
					t.Errorf("%s %v, want %s", a.Kind, a.Failure, tt.kind)
				}
				return
			}
			if a.Kind != AnswerFailed || a.Failure.Class != tt.class || a.Failure.BeforeAccept == tt.accepted || a.Failure.Message == "" {
				t.Errorf("%s %+v, want failed (%s)", a.Kind, a.Failure, tt.class)
			}
		})
	}
}

func TestReplyTextIsBoundedAndStorable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in, want string
		limit    int
		cut      bool
	}{
		{"fine", "fine", 10, false},
		{"a\x00b", "a\uFFFDb", 10, false},
		{"a\xffb", "a\uFFFDb", 10, false},
		{"abcdef", "abc", 3, true},
		{"aäöü", "aä", 4, true},
		{"日本語", "日", 5, true},
	} {
		if got, cut := content(tt.in, tt.limit); got != tt.want || cut != tt.cut {
			t.Errorf("content(%q, %d) = %q %v, want %q %v", tt.in, tt.limit, got, cut, tt.want, tt.cut)
		}
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":               "plain",
		"a\nb\tc\rd":          "a b c d",
		"\x1b[31mred\x00\x07": "[31mred",
		"\u202eabc\u2066":     "abc",
		"bad\xff":             "bad?",
		"0123456789":          "01234567…",
	} {
		if got := clean(in, 8); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestMillisAreClamped(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{
		"1500": 1500 * time.Millisecond, "0": 0, "-1": 0, "1e9": time.Minute, "1e999": 0, "null": 0, `"5"`: 0, "1.9": time.Millisecond,
	} {
		if got := millis([]byte(in), time.Minute); got != want {
			t.Errorf("millis(%s) = %s, want %s", in, got, want)
		}
	}
}
