package openclaw

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// depthOf is the nesting of a valid JSON text.
func depthOf(b []byte) int {
	level, deepest := 0, 0
	d := json.NewDecoder(bytes.NewReader(b))
	for {
		tok, err := d.Token()
		if err != nil {
			return deepest
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			level++
			deepest = max(deepest, level)
		case json.Delim('}'), json.Delim(']'):
			level--
		}
	}
}

// FuzzFields: the scanner agrees with encoding/json on everything that is valid
// JSON, and never fails in another way than by an error.
func FuzzFields(f *testing.F) {
	for _, s := range []string{`{}`, ` { "a" : 1 , "b":[{"c":"}"}] } `, `{"a\u0041":"\\\"","a":null}`, `{"a":1}x`, `{"a":tru}`, `[1]`, `{"a":{"b":[[[]]]}}`, `{"a":"\\"}`, `{,}`} {
		f.Add([]byte(s), 8)
	}
	f.Fuzz(func(t *testing.T, b []byte, depth int) {
		depth = min(max(depth, 0), maxDepthLimit)
		got := map[string]string{}
		it := object(b, depth)
		for it.next() {
			got[strings.ToValidUTF8(string(it.key), "\uFFFD")] = string(it.val)
		}
		var want map[string]json.RawMessage
		if json.Unmarshal(b, &want) != nil || want == nil || bytes.IndexByte(b, 0xff) >= 0 {
			return // not an object: an error or a lenient pass, both fine
		}
		if tooDeep := depthOf(b) > depth; tooDeep != (it.err != nil) {
			t.Fatalf("depth %d, limit %d: %v", depthOf(b), depth, it.err)
		}
		if it.err != nil {
			return
		}
		for k, v := range want {
			if g, ok := got[k]; ok && g != string(v) {
				t.Fatalf("member %q: %s, want %s", k, g, v)
			}
		}
		if len(got) < len(want) {
			t.Fatalf("%d members, want %d: %s", len(got), len(want), b)
		}
	})
}

// FuzzFrame feeds whole frames to a connection that has requests of both kinds
// open: no panic, and never more than one end per request.
func FuzzFrame(f *testing.F) {
	for _, s := range []string{
		ok(`{"runId":"r","status":"accepted"}`), ok(`{"runId":"r","status":"ok","result":{"payloads":[{"text":"x"}],"meta":{"agentMeta":{"usage":{"input":1}}}}}`),
		failed(`{"code":"UNAVAILABLE","message":"x","details":{}}`), ok(`{"runId":"r","status":"timeout","stopReason":"rpc"}`),
		`{"type":"res","id":"3","ok":true,"payload":{}}`, `{"type":"event","event":"tick","seq":2}`,
		`{"type":"event","event":"agent","payload":{"runId":"r","stream":"assistant","data":{"text":"x"}}}`,
		`{"type":"event","event":"agent","payload":{"runId":"r","stream":"lifecycle","data":{"phase":"error","errorObservation":{"failoverReason":"auth"}}}}`,
		`{"type":"event","event":"chat","payload":{"runId":"r","state":"error","errorDetail":{"httpStatus":500}}}`,
		`{"type":"event","event":"shutdown","payload":{"restartExpectedMs":null}}`, `{"type":"event","event":"gateway.suspension","payload":{"phase":"x"}}`,
	} {
		f.Add([]byte(s))
	}
	cfg := Config{Token: testToken}.withDefaults()
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newConn(t.Context(), cfg, NopHandler{})
		c.hello = &Hello{}
		ends := 0
		agent := &pending{id: 2, method: "agent", runID: "r", written: true, on: func(a AgentAnswer) {
			if a.Kind != AnswerAccepted {
				ends++
			}
			if a.Kind == AnswerFinal && (a.RunID != "r" || strings.ContainsRune(a.Text, 0)) {
				t.Errorf("final %+v", a)
			}
			if a.Kind == AnswerFailed && (a.Failure == nil || len(a.Failure.Message) > 2*maxErrText) {
				t.Errorf("failure %+v", a.Failure)
			}
		}}
		call := &pending{id: 3, method: "x", written: true, answer: make(chan callAnswer, 1), limit: maxSmall,
			decode: func(b []byte) (any, error) { return decodeHistory(b, DefaultMaxDepth, 100, 64) }}
		c.nextID = 3
		c.pending[2], c.pending[3], c.runs["r"] = agent, call, agent
		for range 3 {
			if err := c.handle(b); err != nil {
				t.Fatalf("one bad frame ended the connection: %v", err)
			}
		}
		if ends > 1 {
			t.Fatalf("%d ends for one request", ends)
		}
	})
}

// FuzzPayloads feeds all other decoders.
func FuzzPayloads(f *testing.F) {
	for _, s := range []string{
		helloWith(nil), `{"server":{"bootId":"b"},"protocol":4,"policy":{"maxPayload":-1,"tickIntervalMs":1e300}}`,
		`{"messages":[{"role":"user","content":"x","idempotencyKey":"r:user"},{"role":"assistant","content":[{"text":"y"}]}],"pendingInputs":{"items":[{"runId":"r"}]},"inFlightRun":{"runId":"r"}}`,
		`{"runId":"r","status":"ok","endedAt":1,"terminalReply":{"text":"x"}}`, `{"metadata":{"status":"done"}}`, `{"error":{"message":"x"}}`, `null`, `[]`,
	} {
		f.Add([]byte(s))
	}
	c := newConn(f.Context(), Config{}.withDefaults(), NopHandler{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := decodeHello(b); err == nil {
			if h.Policy.MaxPayload < minPayload || h.Policy.TickInterval <= 0 || h.Policy.TickInterval > maxTick {
				t.Errorf("policy %+v", h.Policy)
			}
			if refused := h.check(true); refused != nil && refused.Message == "" {
				t.Error("refused without a word")
			}
		}
		if h, err := decodeHistory(b, DefaultMaxDepth, 100, 64); err == nil {
			if tr := h.Trace("r"); tr.Answered && (!tr.Taken || len(tr.Text) > 3*64) {
				t.Errorf("trace %+v", tr)
			}
		}
		if s, err := c.decodeRunStatus(b); err == nil && s.Status == "" {
			t.Error("a run status without status")
		}
		a := answer(b)
		if s := a.status(); len(s) > 64+len("…") {
			t.Errorf("status %q", s)
		}
		_ = a.problem()
		if e := decodeError("x", b, 8, c.clean); e.Code == "" || e.Message == "" || e.RetryAfter < 0 || e.RetryAfter > maxRetryAfter {
			t.Errorf("error %+v", e)
		}
	})
}

// FuzzWords: a JSON string is decoded as encoding/json does it, but for NUL, and
// cut between characters, with its whole length.
func FuzzWords(f *testing.F) {
	for _, s := range []string{`"x"`, `"\u00e4\ud83d\ude00\ud83d\n"`, `"\u0000a"`, `"日本語"`, `"\"\\\/"`, `"\ud83dx"`, `"\x"`, "\"\xff\"", `7`} {
		f.Add([]byte(s), 4)
	}
	f.Fuzz(func(t *testing.T, b []byte, limit int) {
		limit = min(max(limit, 0), 1<<16)
		got, cut, ok := quoted(b, limit)
		if len(got) > limit || !utf8.ValidString(got) || strings.IndexByte(got, 0) >= 0 {
			t.Fatalf("%q of %q, at most %d", got, b, limit)
		}
		var want string
		if json.Unmarshal(b, &want) != nil || len(b) == 0 || b[0] != '"' || b[len(b)-1] != '"' {
			return
		}
		want = strings.ReplaceAll(want, "\x00", "\uFFFD")
		switch {
		case !ok:
			t.Fatalf("%q was not decoded", b)
		case cut == 0 && got != want, cut != 0 && (cut != len(want) || !strings.HasPrefix(want, got) || len(want) <= limit):
			t.Fatalf("%q is %q, cut from %d; want %q", b, got, cut, want)
		case cut != 0 && len(got)+utf8.UTFMax <= limit:
			t.Fatalf("%q was cut to %q, %d are allowed", b, got, limit)
		}
	})
}

// FuzzHistory: a history is read whole or not at all, within its bounds, and finds
// what a decoder that takes everything finds.
func FuzzHistory(f *testing.F) {
	for _, s := range []string{
		`{"messages":[]}`, `{"messages":null}`,
		`{"sessionId":"s","messages":[{"role":"user","content":"q","idempotencyKey":"r:user"},{"role":"assistant","content":[{"type":"text","text":"a"},{"text":null},7],"stopReason":"stop","timestamp":1795286082130,"__openclaw":{"runId":"r"}}],"hasMore":true}`,
		`{"messages":[{"role":"assistant","content":"x","idempotencyKey":"r:terminal-error"}],"pendingInputs":{"items":[{"runId":"r","state":"interrupted"}]},"inFlightRun":{"runId":"r","text":"so"},"sessionInfo":{"hasActiveRun":true}}`,
		`{"messages":[{"role":"custom","customType":"run-failed-before-reply"},{},{"role":7}]}`, `{"messages":[1]}`,
	} {
		f.Add([]byte(s), 8)
	}
	f.Fuzz(func(t *testing.T, b []byte, maxText int) {
		maxText = min(max(maxText, 1), 1<<12)
		const limit = 20
		h, err := decodeHistory(b, DefaultMaxDepth, limit, maxText)
		if err != nil {
			return
		}
		sum := 0
		for _, item := range h.Items {
			sum += len(item.Text)
			if item.Role == "assistant" && len(item.Text) > maxText || len(item.RunID) > maxRunID || len(item.By) > maxRunID {
				t.Fatalf("item %+v", item)
			}
			if (item.CutFrom != 0) != (item.CutFrom > len(item.Text)) {
				t.Fatalf("%d bytes, cut from %d", len(item.Text), item.CutFrom)
			}
		}
		if len(h.Items) > limit || sum > maxHistoryTexts*maxText || len(h.Pending) > maxHistory {
			t.Fatalf("%d items with %d bytes, %d pending", len(h.Items), sum, len(h.Pending))
		}
		var all struct {
			Messages []json.RawMessage `json:"messages"`
		}
		// encoding/json takes members whose names differ in case.
		if json.Unmarshal(b, &all) == nil && bytes.Count(bytes.ToLower(b), []byte("messages")) == 1 && len(all.Messages) != len(h.Items) {
			t.Fatalf("%d items of %d", len(h.Items), len(all.Messages))
		}
	})
}
