package actors_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
)

// until polls a condition that must come true.
func (b *bench) until(what string, limit time.Duration, ok func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

func (b *bench) row(id string) messages.Task {
	b.t.Helper()
	task, err := b.store.Task(b.t.Context(), "", id)
	if err != nil {
		b.t.Fatal(err)
	}
	return task
}

// submitTo submits a task that names its model.
func (b *bench) submitTo(model, text string, attempts int32) messages.Task {
	b.t.Helper()
	pid, _ := b.node.Pool(messages.DefaultPool)
	reply := make(chan dispatch.SubmitReply, 1)
	b.node.Root().Send(pid, &dispatch.Submit{Reply: reply, Task: messages.Task{
		ID: messages.NewID(), Tenant: messages.DefaultTenant, Pool: messages.DefaultPool, Class: messages.High,
		Spec: &messages.TaskSpec{Message: text, Model: model, TimeoutSeconds: 60, MaxAttempts: attempts}, CreatedAt: messages.Now(),
	}})
	r := <-reply
	if r.Err != nil {
		b.t.Fatal(r.Err)
	}
	return r.Task
}

// TestARunThatGoesWrongSaysWhyAndAtOnce: the gateway's final frame is the end,
// with its reason and its cost.
func TestARunThatGoesWrongSaysWhyAndAtOnce(t *testing.T) {
	t.Parallel()
	b := start(t, 1, 8, time.Millisecond)
	for _, tt := range []struct {
		mode, model string
		code        messages.Code
		retry       bool
		says        string
		cost        bool
	}{
		{"overflow", "", messages.CodeContextOverflow, false, "maximum context length", true},
		{"refuse", "", messages.CodeRefused, false, "refused this request", true},
		{"404", "", messages.CodeModelUnknown, false, "not found", false},
		{"", "nosuch/m", messages.CodeModelUnknown, false, "Unknown model", false},
		{"400", "", messages.CodeProviderRejected, false, "rejected the request", false},
		{"empty", "", messages.CodeEmptyAnswer, true, "couldn't generate", true},
	} {
		began := time.Now()
		task := b.wait(b.submitTo(tt.model, "x [[fail="+tt.mode+"]]", 1).ID)
		e := task.Error
		if task.State != messages.DeadLetter || e.GetCode() != string(tt.code) || e.GetRetryable() != tt.retry || !strings.Contains(e.GetMessage(), tt.says) {
			t.Errorf("%s%s: %s %v", tt.mode, tt.model, task.State, e)
		}
		if (e.GetUsage() != nil) != tt.cost {
			t.Errorf("%s%s: usage %v", tt.mode, tt.model, e.GetUsage())
		}
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("%s%s took %s", tt.mode, tt.model, took)
		}
	}
	task := b.wait(b.submitTo("", "x [[cached=200]]", 1).ID)
	if u := task.Result.Used(); u.GetCachedInput() != 200 || u.GetInput() <= 8000 || u.GetOutput() <= 0 {
		t.Errorf("usage %v", u)
	}
	task = b.wait(b.submitTo("", " \n/reset", 1).ID)
	if got := task.Result.GetText(); !strings.HasPrefix(got, "ECHO(1): ") || task.Spec.GetMessage() != " \n/reset" {
		t.Errorf("a command as text: %q, input %q", got, task.Spec.GetMessage())
	}
}

// TestAProviderThatFailsIsTheReasonAtOnce, while the gateway hides it behind its
// own retries for a minute.
func TestAProviderThatFailsIsTheReasonAtOnce(t *testing.T) {
	t.Parallel()
	b := start(t, 1, 2, time.Millisecond)
	task := b.submitTo("", "x [[fail=reset]]", 1)
	b.until("the failing provider is told", 5*time.Second, func() bool {
		_, words := b.feed.TroubleOf(task.ID, 1)
		return strings.Contains(words, "the model provider fake fails (no whole answer")
	})
	if s := b.row(task.ID).State; !s.AtGateway() {
		t.Errorf("the task is %s", s)
	}
}

// TestAProviderThatIsSwitchedOffBurnsNoAttempt: Dash learns of it by an answer
// without a model call, gives the attempt back, and holds back what needs the
// provider, and nothing else.
func TestAProviderThatIsSwitchedOffBurnsNoAttempt(t *testing.T) {
	t.Parallel()
	b := start(t, 1, 2, time.Millisecond)
	g := b.sims.Gateways()[0]
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := openclaw.Dial(ctx, openclaw.Config{URL: g.URL(), Token: messages.Secret(g.Token())}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ended := make(chan openclaw.AgentAnswer, 4)
	err = c.Agent(openclaw.AgentRequest{RunID: "somebody-else", SessionKey: "agent:main:x", Message: "[[fail=402]]", Model: "spent/m", Timeout: time.Minute},
		func(a openclaw.AgentAnswer) { ended <- a })
	if err != nil {
		t.Fatal(err)
	}
	for a := range ended {
		if a.Kind == openclaw.AnswerFailed {
			break
		}
	}
	task := b.submitTo("spent/m", "innocent", 1)
	b.until("the task waits for its provider", 10*time.Second, func() bool { return b.row(task.ID).State == messages.RetryWait })
	row := b.row(task.ID)
	if left := time.Until(row.DueAt); row.Attempt != 0 || row.Error.GetUncalled() != 1 || left < 9*time.Minute || left > 10*time.Minute {
		t.Errorf("attempt %d, due in %s, %v", row.Attempt, left, row.Error)
	}
	var held messages.Task
	b.until("the pool knows of it", 10*time.Second, func() bool { // a little after the row
		held = b.submitTo("spent/m", "innocent too", 1)
		return b.explain(held.ID).Code == messages.WaitsPausedProvider
	})
	other := b.wait(b.submitTo("", "of another provider", 1).ID)
	if other.State != messages.Succeeded {
		t.Errorf("the other: %s %v", other.State, other.Error)
	}
	if row := b.row(held.ID); row.State != messages.Queued || row.Claim != 0 {
		t.Errorf("a task of the provider that is off: %s, claim %d", row.State, row.Claim)
	}
}

// explain asks the pool what keeps a task.
func (b *bench) explain(task string) dispatch.Explanation {
	b.t.Helper()
	pid, _ := b.node.Pool(messages.DefaultPool)
	reply := make(chan map[string]dispatch.Explanation, 1)
	b.node.Root().Send(pid, dispatch.Explain{Tasks: []dispatch.TaskRef{{Tenant: messages.DefaultTenant, ID: task}}, Reply: reply})
	select {
	case said := <-reply:
		return said[task]
	case <-time.After(10 * time.Second):
		b.t.Fatal("the pool does not answer")
		return dispatch.Explanation{}
	}
}
