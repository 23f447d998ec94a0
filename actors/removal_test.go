package actors_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
)

// looker is a client of a simulated gateway beside Dash's own.
func (b *bench) looker() *openclaw.Conn {
	b.t.Helper()
	g := b.sims.Gateways()[0]
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	c, err := openclaw.Dial(ctx, openclaw.Config{URL: g.URL(), Token: messages.Secret(g.Token())}, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(c.Close)
	return c
}

// sessionsAt are the sessions of Dash at the gateway, by the task's id.
func (b *bench) sessionsAt(c *openclaw.Conn) map[string]openclaw.Session {
	b.t.Helper()
	page, err := c.Sessions(b.t.Context(), openclaw.SessionQuery{Search: "dash:"})
	if err != nil {
		b.t.Fatal(err)
	}
	found := map[string]openclaw.Session{}
	for _, s := range page.Sessions {
		_, rest, _ := strings.Cut(s.Key, "task-")
		id, _, _ := strings.Cut(rest, ":")
		found[id] = s
	}
	return found
}

// TestARemovedGatewayIsLeftTidy: the run of a task that goes elsewhere is stopped
// and its throw-away session deleted, so are those of tasks that have ended; the
// run of a held task is stopped, and its session kept for whoever wants to know.
func TestARemovedGatewayIsLeftTidy(t *testing.T) {
	t.Parallel()
	b := start(t, 1, 8, time.Millisecond)
	c := b.looker()
	pool, _ := b.node.Pool(messages.DefaultPool)
	submit := func(text, onUnknown string) messages.Task {
		reply := make(chan dispatch.SubmitReply, 1)
		b.node.Root().Send(pool, &dispatch.Submit{Reply: reply, Task: messages.Task{
			ID: messages.NewID(), Tenant: messages.DefaultTenant, Pool: messages.DefaultPool, Class: messages.High,
			Spec: &messages.TaskSpec{Message: text, TimeoutSeconds: 600, MaxAttempts: 3, OnUnknown: onUnknown}, CreatedAt: messages.Now(),
		}})
		r := <-reply
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		return r.Task
	}
	moving, held := submit("[[delay=300000]]", "requeue"), submit("[[delay=300000]]", "hold")
	b.until("both run", 10*time.Second, func() bool {
		at := b.sessionsAt(c)
		return at[moving.ID].HasActiveRun && at[held.ID].HasActiveRun
	})
	for range 5 {
		b.wait(submit("done soon", "requeue").ID)
	}
	pid, _ := b.node.Gateway(b.sims.Gateways()[0].Name())
	b.node.Root().Send(pid, gateway.Remove{})
	b.until("the tasks are taken back", 10*time.Second, func() bool {
		return b.row(moving.ID).State == messages.Queued && b.row(held.ID).State == messages.Held
	})
	b.until("the gateway is gone", 30*time.Second, func() bool { _, ok := b.node.Gateway(b.sims.Gateways()[0].Name()); return !ok })
	at := b.sessionsAt(c)
	if s, there := at[held.ID]; !there || s.HasActiveRun {
		t.Errorf("the held task's session: %v, runs: %v; want it there and idle", there, s.HasActiveRun)
	}
	delete(at, held.ID)
	for id, s := range at {
		t.Errorf("the session of task %s is left, running: %v", id, s.HasActiveRun)
	}
}
