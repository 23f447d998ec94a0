package openclaw

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func turn(runID string) AgentRequest {
	return AgentRequest{RunID: runID, SessionKey: "agent:main:s", Message: "hello", Timeout: time.Minute}
}

func TestAgentAcceptedThenFinal(t *testing.T) {
	t.Parallel()
	params := make(chan string, 1)
	cfg := serve(t, func(p *peer) {
		r, _ := p.recv()
		params <- string(r.Params)
		p.respond(r, `{"runId":"r1","sessionKey":"agent:main:s","status":"accepted","acceptedAt":1}`)
		p.respond(r, `{"runId":"r1","status":"ok","summary":"completed","result":{"payloads":[{"text":"one","mediaUrl":null},{"text":"two"}],
			"meta":{"durationMs":1042,"agentMeta":{"sessionId":"sid","provider":"fake","model":"fake-1","usage":{"input":10,"output":5,"total":15,"cost":{"total":0}}},"systemPromptReport":{"big":[1,2,{"x":"}"}]}}}}`)
		p.drain()
	})
	c := dial(t, cfg, nil)
	answers := make(chan AgentAnswer, 4)
	if err := c.Agent(turn("r1"), func(a AgentAnswer) { answers <- a }); err != nil {
		t.Fatal(err)
	}
	if got, want := nextOf(t, params), `{"message":"hello","idempotencyKey":"r1","sessionKey":"agent:main:s","timeout":60,"deliver":false}`; got != want {
		t.Errorf("params\n got %s\nwant %s", got, want)
	}
	if got := nextOf(t, answers); got.Kind != AnswerAccepted || got.RunID != "r1" {
		t.Errorf("first answer %+v, want accepted", got)
	}
	want := AgentAnswer{Kind: AnswerFinal, RunID: "r1", Text: "one\ntwo", Usage: &Usage{Input: 10, Output: 5, Total: 15},
		Meta: RunMeta{SessionID: "sid", Provider: "fake", Model: "fake-1", Duration: 1042 * time.Millisecond}}
	if diff := cmp.Diff(want, nextOf(t, answers)); diff != "" {
		t.Errorf("final answer (-want +got)\n%s", diff)
	}
}

func TestAgentLostSaysWhetherWritten(t *testing.T) {
	t.Parallel()
	cfg := serve(t, func(p *peer) { p.recv() }) // reads one request and goes
	c := dial(t, cfg, nil)
	answers := make(chan AgentAnswer, 1)
	if err := c.Agent(turn("r1"), func(a AgentAnswer) { answers <- a }); err != nil {
		t.Fatal(err)
	}
	if got := nextOf(t, answers); got.Kind != AnswerLost || !got.Written {
		t.Errorf("answer %+v, want lost, written", got)
	}
	nextOf(t, c.Done())
	if err := c.Agent(turn("r2"), func(AgentAnswer) { t.Error("answer for a refused request") }); err != ErrClosed {
		t.Errorf("agent after the end: %v, want ErrClosed", err)
	}
}
