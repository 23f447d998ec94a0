package dispatch

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// TestAPausedProviderHoldsOnlyItsTasks: the gateway goes on with those of other
// providers, and gets the held one when the pause ends, without anybody's help.
func TestAPausedProviderHoldsOnlyItsTasks(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		g := b.gateway("gw-1")
		until := time.Now().Add(10 * time.Minute)
		paused := func(d *messages.Demand) {
			d.Paused = []messages.Pause{{Provider: "openai", Until: until, Why: "HTTP 402"}}
		}
		named := newTask(messages.High, "")
		named.Spec.Model = "openai/gpt-6"
		named = b.submit(named)
		g.demand(2, paused)
		plain := b.submit(newTask(messages.Low, ""))
		if a := g.assign(); a.Task.ID != plain.ID {
			t.Fatalf("assigned %s, want the task of another provider", a.Task.ID)
		}
		synctest.Wait()
		e, err := b.explain(named.ID)
		if err != nil || e.Code != messages.WaitsPausedProvider || !strings.HasPrefix(e.Reason, "gateway gw-1: the gateway has switched off the model provider openai until ") || !strings.HasSuffix(e.Reason, "HTTP 402") {
			t.Errorf("%q, %v", e.Reason, err)
		}
		for time.Now().Before(until.Add(2 * time.Second)) {
			g.demand(2, paused, func(d *messages.Demand) { d.Running = []messages.ClaimRef{{Task: plain.ID, Claim: 1}} })
			time.Sleep(5 * time.Second)
		}
		if a := g.assign(); a.Task.ID != named.ID || time.Now().Before(until) {
			t.Errorf("assigned %s at %s", a.Task.ID, time.Until(until))
		}
	})
}

// TestALiftedPauseQueuesWhatItSentBack: who mends the cause of a pause sees the
// tasks that were refused meanwhile run, in their old order.
func TestALiftedPauseQueuesWhatItSentBack(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		g := b.gateway("gw-1")
		first := b.submit(newTask(messages.Low, ""))
		g.demand(1)
		until := time.Now().Add(10 * time.Minute)
		g.end(g.assign(), messages.RetryWait, func(t *messages.Task) {
			t.Attempt, t.DueAt, t.Error = 0, until, &messages.TaskError{Code: "provider_unavailable", Uncalled: 1}
		})
		g.demand(1, func(d *messages.Demand) { d.Paused = []messages.Pause{{Provider: "openai", Until: until}} })
		synctest.Wait()
		if row := b.row(first.ID); row.State != messages.RetryWait {
			t.Fatalf("while the pause lasts it is %v", row.State)
		}
		g.demand(0)
		b.submit(newTask(messages.Low, ""))
		g.demand(1)
		if a := g.assign(); a.Task.ID != first.ID || !time.Now().Before(until) {
			t.Errorf("assigned %s %s before the end of the pause", a.Task.ID, time.Until(until))
		}
	})
}

func TestExplainSaysWhyATaskIsTriedAgainLater(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	task := messages.Task{State: messages.RetryWait, Attempt: 2, DueAt: now, Spec: &messages.TaskSpec{MaxAttempts: 3},
		Error: &messages.TaskError{Code: "provider_unavailable", Message: "HTTP 500"}}
	if got, want := retryReason(&task), (Explanation{Code: messages.WaitsRetry, Reason: "attempt 2 of 3 failed (provider_unavailable: HTTP 500); it is tried again at 2026-11-30T12:00:00Z"}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	task.Attempt, task.Error.Uncalled, task.Error.Message = 1, 4, "off"
	if got, want := retryReason(&task), (Explanation{Code: messages.WaitsPausedProvider, Reason: "the gateway did not ask the model (off), refusal 4 in a row; this used up no attempt, and it is tried again at 2026-11-30T12:00:00Z"}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestAPauseTellsNoOtherTenantsWords: what the provider said came with a task of
// whoever uses a gateway of all tenants.
func TestAPauseTellsNoOtherTenantsWords(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		g := b.gateway("gw-1")
		named := newTask(messages.High, "")
		named.Spec.Model = "openai/gpt-6"
		named = b.submit(named)
		for tenant, tells := range map[string]bool{"default": true, "": false} {
			g.demand(2, func(d *messages.Demand) {
				d.Tenant = tenant
				d.Paused = []messages.Pause{{Provider: "openai", Until: time.Now().Add(time.Minute), Why: "HTTP 402"}}
			})
			synctest.Wait()
			e, err := b.explain(named.ID)
			if err != nil || !strings.Contains(e.Reason, "switched off the model provider openai") || strings.Contains(e.Reason, "HTTP 402") != tells {
				t.Errorf("gateway of tenant %q: %q, %v", tenant, e.Reason, err)
			}
		}
	})
}
