package storetest

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
)

// Engine is a store under test on data of its own.
type Engine interface {
	Store() persistence.Store
	Repositories() persistence.Repositories
	// Restart closes the store and opens it again on the same data, as a new
	// process would. The values of before must not be used afterwards.
	Restart(t testing.TB)
}

// Run checks one engine. open returns an empty store and closes it with t.
func Run(t *testing.T, open func(t testing.TB) Engine) {
	for _, group := range []struct {
		name  string
		tests map[string]func(*testing.T, Engine)
	}{
		{"commit", commitTests}, {"session", sessionTests}, {"events", eventTests}, {"leases", leaseTests},
		{"reads", readTests}, {"short ids", shortIDTests}, {"stress", stressTests}, {"sweep", sweepTests}, {"repositories", repositoryTests}, {"model", modelTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for name, test := range group.tests {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(t, open(t))
				})
			}
		})
	}
}

var serial atomic.Int64

// newTask is a queued task with everything in it that a client may ask for.
func newTask() messages.Task {
	n := serial.Add(1)
	return messages.Task{
		ID: messages.NewID(), Tenant: "default", Pool: "default", Class: messages.High, Seq: n, State: messages.Queued,
		Spec: &messages.TaskSpec{
			Message: fmt.Sprintf("task %d", n), Model: "m", TimeoutSeconds: 600, MaxAttempts: 3, OnUnknown: "requeue", Region: "eu",
			Backoff: &messages.Backoff{InitialSeconds: 1, MaxSeconds: 60, Factor: 2, Jitter: 0.1}, Capabilities: []string{"web"},
		},
		CreatedAt: messages.Now(),
	}
}

func insert(t messages.Task) persistence.Op {
	return persistence.Op{Insert: &persistence.TaskInsert{Task: t}}
}

// update is the op that takes the stored task from one state to t.
func update(t messages.Task, from messages.TaskState, claim int64) persistence.Op {
	return persistence.Op{Update: &persistence.TaskUpdate{Task: t, From: from, FromClaim: claim}}
}

func cancel(t messages.Task, reason string) persistence.Op {
	return persistence.Op{Cancel: &persistence.CancelRequest{Tenant: t.Tenant, Task: t.ID, At: messages.Now(), Reason: reason}}
}

// claimed is t after its assignment.
func claimed(t messages.Task, gateway string) messages.Task {
	t.State, t.Gateway, t.ClaimedAt = messages.Claimed, gateway, messages.Now()
	t.Claim++
	t.Attempt++
	return t
}

// ended is t in a terminal state.
func ended(t messages.Task, s messages.TaskState) messages.Task {
	t.State, t.FinishedAt = s, messages.Now()
	switch s {
	case messages.Succeeded:
		t.Result = &messages.TaskResult{Text: "answer to " + t.Spec.GetMessage(), InputTokens: 10, OutputTokens: 5}
	case messages.DeadLetter:
		t.Error = &messages.TaskError{Code: string(messages.CodeProviderRejected), Message: "no", Retryable: false}
	}
	return t
}

func commit(t testing.TB, e Engine, ops ...persistence.Op) []persistence.Outcome {
	t.Helper()
	out, err := e.Store().Commit(t.Context(), ops)
	if err != nil {
		t.Fatalf("commit: %v", err)
	}
	if len(out) != len(ops) {
		t.Fatalf("commit: %d outcomes for %d ops", len(out), len(ops))
	}
	return out
}

// must commits ops that are all OK.
func must(t testing.TB, e Engine, ops ...persistence.Op) {
	t.Helper()
	for i, o := range commit(t, e, ops...) {
		if o.Status != persistence.OK {
			t.Fatalf("op %d: %v, want ok", i, o.Status)
		}
	}
}

// one commits a single op and checks its fate.
func one(t testing.TB, e Engine, op persistence.Op, want persistence.Status) persistence.Outcome {
	t.Helper()
	out := commit(t, e, op)[0]
	if out.Status != want {
		t.Fatalf("status %v, want %v", out.Status, want)
	}
	return out
}

func stored(t testing.TB, e Engine, want messages.Task) {
	t.Helper()
	got, err := e.Store().Task(t.Context(), want.Tenant, want.ID)
	if err != nil {
		t.Fatalf("task: %v", err)
	}
	same(t, got, want)
}

func same(t testing.TB, got, want any) {
	t.Helper()
	if d := cmp.Diff(got, want, protocmp.Transform()); d != "" {
		t.Fatalf("got (-) want (+):\n%s", d)
	}
}

func ids(tasks []messages.Task) []string {
	list := make([]string, len(tasks))
	for i := range tasks {
		list[i] = tasks[i].ID
	}
	return list
}

// take makes node the owner or fails the test.
func take(t testing.TB, e Engine, scope messages.Scope, key, node string) messages.Fence {
	t.Helper()
	f, err := e.Store().Take(t.Context(), scope, key, node)
	if err != nil {
		t.Fatalf("take: %v", err)
	}
	return f
}

// eventually waits for a condition that only the store's clock brings about.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never happened: %s", what)
		}
	}
}
