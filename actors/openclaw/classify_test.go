package openclaw

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// answerTo decodes one agent answer as the reader would.
func answerTo(t *testing.T, accepted bool, hint, raw string) AgentAnswer {
	t.Helper()
	return decodedAnswer(t, accepted, ErrorDetails{FailoverReason: hint}, raw)
}

func answerHinted(t *testing.T, hint ErrorDetails, raw string) AgentAnswer {
	t.Helper()
	return decodedAnswer(t, true, hint, raw)
}

func decodedAnswer(t *testing.T, accepted bool, hint ErrorDetails, raw string) AgentAnswer {
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

// soft is a failed run whose frame is ok.
func soft(kind, why, text string) string {
	return ok(`{"runId":"r","status":"error","summary":"failed","result":{"payloads":[{"text":"` + text + `","isError":true}],"meta":{"error":{"kind":"` +
		kind + `","message":"` + why + `"},"agentMeta":{"provider":"fake","usage":{"input":9000,"output":3}}}}}`)
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
		{name: "cut", accepted: true, hint: "timeout", raw: unavailable("LLM request timed out."), class: ClassProvider},
		{name: "refused connection", accepted: true, hint: "timeout", raw: unavailable("LLM request failed: connection refused by the provider endpoint."), class: ClassProvider},
		{name: "reset connection", accepted: true, hint: "timeout", raw: unavailable("LLM request failed: network connection was interrupted."), class: ClassProvider},
		{name: "lane limit", accepted: true, hint: "rate_limit", raw: unavailable("Command lane session:x timed out: no progress"), class: ClassTimeout},
		{name: "unknown model", accepted: true, raw: unavailable("Unknown model: nosuch/m. Run `openclaw models list`."), class: ClassModel},
		{name: "model not found", accepted: true, hint: "model_not_found", raw: unavailable("The selected model was not found by the provider."), class: ClassModel},
		{name: "spent", accepted: true, hint: "billing", raw: unavailable("⚠️ spoilt (fake-1) returned a billing error."), class: ClassAuth},
		{name: "the event's hint wins", accepted: true, hint: "server_error", raw: unavailable("Something new."), class: ClassProvider},
		{name: "an unknown hint", accepted: true, hint: "surprise", raw: unavailable("LLM request timed out."), class: ClassProvider},
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
		{name: "content filter", accepted: true, raw: soft("incomplete_turn", "Provider finish_reason: content_filter", "⚠️ Agent run failed (model: fake/fake-1)."), class: ClassFilter},
		{name: "content filter of responses", accepted: true, raw: soft("incomplete_turn", "Provider incomplete_reason: content_filter", "x"), class: ClassFilter},
		{name: "NO_REPLY, 2026.8.2", accepted: true, class: ClassEmpty,
			raw: ok(`{"runId":"r","status":"ok","result":{"payloads":[],"meta":{"finalAssistantRawText":"NO_REPLY"}}}`)},
		{name: "nothing yet, but a sub-agent", accepted: true, kind: AnswerFinal,
			raw: ok(`{"runId":"r","status":"ok","result":{"payloads":[],"acceptedSessionSpawns":[{}],"meta":{"finalAssistantRawText":"NO_REPLY"}}}`)},
		{name: "refusal, 2026.8.2", accepted: true, raw: unavailable("Anthropic refusal."), class: ClassRefused},
		{name: "model not found, 2026.8.2", accepted: true, class: ClassModel,
			raw: unavailable("The selected model was not found by the provider. Check the model id or choose a different model.")},
		{name: "refusal", accepted: true, raw: soft("incomplete_turn", "The provider refused this request. Revise the request and try again.", "x"), class: ClassRefused},
		{name: "empty answer", accepted: true, raw: soft("incomplete_turn", "⚠️ Agent couldn't generate a response. Please try again.", "x"), class: ClassEmpty},
		{name: "context overflow", accepted: true, raw: soft("context_overflow", "400 This model's maximum context length is 128000 tokens.", "x"), class: ClassOverflow},
		{name: "unknown status of the provider", accepted: true, raw: soft("incomplete_turn", "423 come back later", "x"), class: ClassUnknown},
		{name: "response.failed", accepted: true, raw: soft("incomplete_turn", "dash_budget: spent for today", "x"), class: ClassUnknown},
		{name: "ok with an error part", accepted: true, raw: ok(`{"runId":"r","status":"ok","result":{"payloads":[{"text":"HTTP 503","isError":true}]}}`), class: ClassUnknown},
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

// TestWhatAModelWroteSortsNothing: nor what a provider said and a gateway passed on.
// A pause would hold up everybody who uses the provider.
func TestWhatAModelWroteSortsNothing(t *testing.T) {
	t.Parallel()
	for _, words := range []string{
		`Inline API key for provider \"openai\" is temporarily disabled. Retry after about 600 minutes`,
		"authentication failed, HTTP 401", "billing: HTTP 402", "unknown model: x", "context overflow", "couldn't generate a response", "HTTP 503",
	} {
		for name, raw := range map[string]string{
			"status":     ok(`{"runId":"r","status":"error","summary":"failed","result":{"payloads":[{"text":"` + words + `"}]}}`),
			"stop":       ok(`{"runId":"r","status":"ok","result":{"payloads":[{"text":"` + words + `"}],"meta":{"stopReason":"error"}}}`),
			"beside":     ok(`{"runId":"r","status":"error","result":{"payloads":[{"text":"` + words + `"},{"text":"it broke","isError":true}]}}`),
			"its reason": ok(`{"runId":"r","status":"error","result":{"payloads":[{"text":"` + words + `","isError":true}],"meta":{"error":{"kind":"incomplete_turn","message":"423 x"}}}}`),
		} {
			a := answerTo(t, true, "", raw)
			if f := a.Failure; a.Kind != AnswerFailed || f.Class != ClassUnknown || f.Pause != 0 || f.NoCall || f.Provider != "" || f.Message == "" {
				t.Errorf("%s, %q: %+v", name, words, f)
			}
		}
	}
	for _, words := range []string{`401 for provider \"openai\" is temporarily disabled`, "423 authentication of the api key", "dash_x: rate limit, HTTP 402"} {
		f := answerTo(t, true, "", soft("incomplete_turn", words, "x")).Failure
		if f.Class != ClassUnknown || f.Pause != 0 || f.NoCall || f.Provider != "fake" {
			t.Errorf("passed on, %q: %+v", words, f)
		}
	}
}

// TestAFailedRunTellsAllItKnows: the final frame is the end, with the reason,
// the cost, and how long its provider is switched off.
func TestAFailedRunTellsAllItKnows(t *testing.T) {
	t.Parallel()
	off := `Inline API key for provider \"p\" is temporarily disabled after a provider auth/billing failure. Retry after about `
	for _, tt := range []struct {
		name, raw string
		hint      ErrorDetails
		want      Failure
	}{
		{"soft", soft("incomplete_turn", "dash_budget: spent for today", "⚠️ Agent run failed."), ErrorDetails{},
			Failure{Class: ClassUnknown, Message: "dash_budget: spent for today", Final: true, Provider: "fake", Usage: &Usage{Input: 9000, Output: 3}}},
		{"unknown words", unavailable("Something new."), ErrorDetails{}, Failure{Class: ClassUnknown, Message: "Something new.", Final: true}},
		{"401", unavailable("p/m request failed (authentication failed, HTTP 401)."), ErrorDetails{FailoverReason: "auth", Provider: "p"},
			Failure{Class: ClassAuth, Message: "p/m request failed (authentication failed, HTTP 401).", Final: true, Provider: "p", Pause: 30 * time.Second}},
		{"402", unavailable("p (m) returned a billing error"), ErrorDetails{FailoverReason: "billing", Provider: "p"},
			Failure{Class: ClassAuth, Message: "p (m) returned a billing error", Final: true, Provider: "p", Pause: 10 * time.Minute}},
		{"off for a minute", unavailable(off + "1 minute, or"), ErrorDetails{},
			Failure{Class: ClassAuth, Final: true, Provider: "p", Pause: time.Minute, NoCall: true}},
		{"off for ten", unavailable(off + "10 minutes, or"), ErrorDetails{},
			Failure{Class: ClassAuth, Final: true, Provider: "p", Pause: 10 * time.Minute, NoCall: true}},
		{"off for ever", unavailable(off + "999999 hours, or"), ErrorDetails{},
			Failure{Class: ClassAuth, Final: true, Provider: "p", Pause: 24 * time.Hour, NoCall: true}},
		{"400 with the provider's words", unavailable("LLM request failed: provider rejected the request."),
			ErrorDetails{FailoverReason: "format", Preview: "temperature is too high"},
			Failure{Class: ClassInvalid, Message: "LLM request failed: provider rejected the request. (the provider: temperature is too high)", Final: true}},
	} {
		a := answerHinted(t, tt.hint, tt.raw)
		if a.Kind != AnswerFailed {
			t.Fatalf("%s: %s", tt.name, a.Kind)
		}
		got := *a.Failure
		got.Code = ""
		if tt.want.Message == "" {
			got.Message = ""
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tt.name, diff)
		}
	}
}

func TestReplyTextIsBoundedAndStorable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in, want string
		limit    int
		cut      int
	}{
		{"fine", "fine", 10, 0},
		{"fine", "fine", 4, 0},
		{"a\x00b", "a\uFFFDb", 10, 0},
		{"a\xffb", "a\uFFFDb", 10, 0},
		{"abcdef", "abc", 3, 6},
		{"aäöü", "aä", 4, 7},
		{"aäöü", "aä", 3, 7}, // a whole letter at the edge stays
		{"日本語", "日", 5, 9},
		{"日本語", "", 2, 9},
		{"\x00\x00\x00", "\uFFFD", 3, 9}, // what a byte becomes is bounded too
	} {
		raw := `"` + tt.in + `"`
		if got, cut, ok := quoted([]byte(raw), tt.limit); !ok || got != tt.want || cut != tt.cut {
			t.Errorf("quoted(%q, %d) = %q %v %v, want %q %v", tt.in, tt.limit, got, cut, ok, tt.want, tt.cut)
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

// OpenClaw 2026.8.2 names the provider of a failed run in its text alone.
func TestTheProviderInAText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text, provider string
		pause          time.Duration
	}{
		{"⚠️ spoilt/fake-1 request failed (authentication failed, HTTP 401). Re-authenticate the provider and try again.", "spoilt", 30 * time.Second},
		{"⚠️ spent (fake-1) returned a billing error — your API key has run out of credits or has an insufficient balance.", "spent", 10 * time.Minute},
		{"I say: fake/x request failed (authentication failed)", "", 30 * time.Second},
	} {
		f := answerTo(t, true, "", unavailable(tt.text)).Failure
		if f == nil || f.Class != ClassAuth || f.Provider != tt.provider || f.Pause != tt.pause || f.NoCall {
			t.Errorf("%q: %+v", tt.text, f)
		}
	}
}
