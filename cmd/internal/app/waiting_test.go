package app

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

// TestAListSaysWhatItsTasksWaitFor, with one question per pool, for a caller of
// all tenants and one of a single tenant alike; whoever does not answer holds up nobody.
func TestAListSaysWhatItsTasksWaitFor(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	node := newCommands(benchNode(t, t.TempDir(), 0, 1, nil))
	c := node.tasks()
	if _, err := node.app.Commands().Accounts.CreateTenant(ctx, messages.Tenant{ID: "acme", Name: "acme"}); err != nil {
		t.Fatal(err)
	}
	if _, err := node.pools().Put(ctx, "", messages.Pool{ID: "own", Tenant: "acme"}); err != nil {
		t.Fatal(err)
	}
	submit := func(tenant, pool, session string) string {
		s, err := c.Submit(ctx, server.SubmitRequest{Tenant: tenant, Pool: pool, Session: session, Class: messages.Low, Spec: spec("x")})
		if err != nil {
			t.Fatal(err)
		}
		return s.Task.ID
	}
	first := submit("default", "default", "s")
	for range 20 {
		submit("default", "default", "")
	}
	behind := submit("default", "default", "s")
	theirs := submit("acme", "own", "")
	var questions atomic.Int32
	var deaf bool
	find := c.Owners.Pool
	c.Owners.Pool = func(ctx context.Context, id string) (*actor.PID, error) {
		questions.Add(1)
		if deaf {
			return actor.NewPID("nonhost", "nobody"), nil
		}
		return find(ctx, id)
	}
	list := func(tenant string, want int32) map[string]server.Task {
		t.Helper()
		before := questions.Load()
		page, err := c.Tasks(ctx, server.TaskFilter{Tenant: tenant}, "", 1000)
		if err != nil {
			t.Fatal(err)
		}
		if n := questions.Load() - before; n != want {
			t.Errorf("%d questions, want %d", n, want)
		}
		out := map[string]server.Task{}
		for _, task := range page.Tasks {
			out[task.ID] = task
		}
		return out
	}
	look := func(task server.Task, code messages.WaitingCode, words, blocker string) {
		t.Helper()
		if task.WaitingCode != code || !strings.HasPrefix(task.WaitingReason, words) || (words == "") != (task.WaitingReason == "") || task.BlockedBy != blocker {
			t.Errorf("%s: %s, %q, blocked by %q", task.ID, task.WaitingCode, task.WaitingReason, task.BlockedBy)
		}
	}
	all := list("", 2)
	look(all[first], "no_gateway", "the pool default has no gateway: add one with `dash gateway add", "")
	look(all[behind], "blocked", "an earlier task of the same session has not ended", first)
	look(all[theirs], "no_gateway", "the pool own has no gateway: add one with `dash gateway add", "")
	one := list("acme", 1)
	if look(one[theirs], "no_gateway", "the pool own has no gateway: add one with `dash gateway add", ""); len(one) != 1 {
		t.Errorf("tenant acme sees %d tasks", len(one))
	}

	deaf = true
	began := time.Now()
	silent := list("", 2)
	if took := time.Since(began); len(silent) != 23 || took > 5*time.Second {
		t.Errorf("%d tasks in %v while owners are silent", len(silent), took)
	}
	look(silent[first], "", "", "")
}
