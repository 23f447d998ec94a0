package openclaw

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
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
		call := &pending{id: 3, method: "x", written: true, answer: make(chan callAnswer, 1)}
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
