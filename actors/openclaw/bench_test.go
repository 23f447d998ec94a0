package openclaw

import (
	"strings"
	"testing"
)

// BenchmarkFinalAnswer is the cost of reading one final answer of 12 kB on the
// reader goroutine.
func BenchmarkFinalAnswer(b *testing.B) {
	report := `{"` + strings.Repeat(`name":{"chars":123,"entries":[{"a":"bbbbbbbb","c":1234}]},"x`, 190) + `":0}`
	raw := []byte(ok(`{"runId":"r","status":"ok","summary":"completed","result":{"payloads":[{"text":"ECHO(1): hello","mediaUrl":null}],` +
		`"meta":{"durationMs":1042,"agentMeta":{"sessionId":"s","provider":"fake","model":"fake-1","usage":{"input":10084,"output":58,"total":10142}},"systemPromptReport":` + report + `}}}`))
	c := newConn(b.Context(), Config{}.withDefaults(), NopHandler{})
	p := &pending{method: "agent", runID: "r", accepted: true}
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		f, err := decodeFrame(raw, DefaultMaxDepth)
		if err != nil {
			b.Fatal(err)
		}
		if a := c.decodeAgentAnswer(p, f); a.Kind != AnswerFinal {
			b.Fatalf("%+v", a)
		}
	}
}
