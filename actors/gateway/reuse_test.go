package gateway_test

import (
	"context"
	"testing"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
)

// prompt is a link that answers before Agent returns.
type prompt struct {
	*link
	agent func(openclaw.AgentRequest, func(openclaw.AgentAnswer))
}

func (p *prompt) Agent(r openclaw.AgentRequest, on func(openclaw.AgentAnswer)) error {
	p.agent(r, on)
	return nil
}

// A session actor serves claim after claim, and what still comes of a run that
// is over says nothing about the next one.
func TestLateAnswersOfTheLastRunAreDropped(t *testing.T) {
	t.Parallel()
	var last func(openclaw.AgentAnswer)
	l := &prompt{link: newLink("b1")}
	l.agent = func(q openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
		if last != nil {
			last(openclaw.AgentAnswer{Kind: openclaw.AnswerLost}) // "no byte was written", of the run before
		}
		last = on
		on(openclaw.AgentAnswer{Kind: openclaw.AnswerAccepted, RunID: q.RunID})
		on(openclaw.AgentAnswer{Kind: openclaw.AnswerFinal, RunID: q.RunID, Text: "of " + q.RunID})
	}
	r := newRig(t, func(c *gateway.Config) {
		c.Dial = func(context.Context, openclaw.Config, openclaw.Handler) (gateway.Link, error) { return l, nil }
	})
	await(r, "a window", open)
	for _, id := range []string{"t1", "t2", "t3"} {
		r.claim(id, "")
		e := await(r, "the end of "+id, func(*messages.Ended) bool { return true })
		if e.Task.ID != id || e.Task.State != messages.Succeeded || e.Task.Result.GetText() != "of "+id+".1" {
			t.Fatalf("ended: %s %s %v %v", e.Task.ID, e.Task.State, e.Task.Result, e.Task.Error)
		}
	}
	if _, ok := r.system.ProcessRegistry.GetLocal(r.pid.Id + "/session-1"); !ok {
		t.Error("the first session actor is gone")
	}
	if _, ok := r.system.ProcessRegistry.GetLocal(r.pid.Id + "/session-2"); ok {
		t.Error("a second session actor was started for claims one after the other")
	}
}
