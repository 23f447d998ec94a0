package requests

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// page is a store with one page of tasks.
type page struct {
	persistence.Store
	tasks []messages.Task
}

func (p page) Tasks(context.Context, persistence.TaskFilter, string, int) ([]messages.Task, string, error) {
	return p.tasks, "", nil
}

// TestAPageAsksEachOwnerOnce: a page of 1,000 tasks that wait for earlier ones of
// their sessions, in four pools, costs four questions, and is shown without answers
// when nobody owns the pools.
func TestAPageAsksEachOwnerOnce(t *testing.T) {
	t.Parallel()
	var store page
	for i := range 1000 {
		store.tasks = append(store.tasks, messages.Task{
			ID: fmt.Sprint(i), Tenant: "default", Pool: fmt.Sprintf("pool-%d", i%4), Session: fmt.Sprintf("s-%d", i/2), State: messages.Queued,
		})
	}
	asked := make(chan string, 1000)
	c := &Tasks{Store: store, Owners: &dispatch.Client{Pool: func(_ context.Context, pool string) (*actor.PID, error) {
		asked <- pool
		return nil, errors.New("nobody owns it")
	}}}
	list, err := c.Tasks(t.Context(), server.TaskFilter{}, "", 1000)
	if err != nil || len(list.Tasks) != 1000 {
		t.Fatalf("%d tasks, %v", len(list.Tasks), err)
	}
	if n := len(asked); n != 4 {
		t.Errorf("%d questions, want one for each of the four pools", n)
	}
	c.Owners.Pool = func(ctx context.Context, _ string) (*actor.PID, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if got := c.explained(gone, store.tasks[:1]); len(got) != 1 || got[0].WaitingCode != "" {
		t.Errorf("nobody waits: %+v", got)
	}
}

func TestAHeldTaskSaysUntilWhen(t *testing.T) {
	t.Parallel()
	task := messages.Task{ID: messages.NewID(), State: messages.Held, DueAt: time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC)}
	one := (&Tasks{}).explained(t.Context(), []messages.Task{task})[0]
	if one.WaitingCode != "held" {
		t.Errorf("code %q", one.WaitingCode)
	}
	got := one.WaitingReason
	for _, w := range []string{"until 2026-12-01T08:00:00Z", "dash task release " + task.ID} {
		if !strings.Contains(got, w) {
			t.Errorf("%q does not say %q", got, w)
		}
	}
}
