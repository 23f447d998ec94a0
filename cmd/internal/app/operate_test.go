package app

import (
	"strings"
	"testing"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

// refusedFor fails the test unless err is a refusal that says all words.
func refusedFor(t *testing.T, err error, code messages.Code, words ...string) {
	t.Helper()
	if messages.CodeOf(err) != code {
		t.Fatalf("%v, want code %s", err, code)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

func TestAPoolInUseKeepsItsTenant(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := newCommands(benchNode(t, t.TempDir(), 1, 1, nil))
	give := func(id, tenant string, version int64) (messages.Pool, error) {
		return poolCommands{c}.Put(ctx, messages.Pool{ID: id, Tenant: tenant, Version: version})
	}
	_, err := give("default", "acme", 0)
	refusedFor(t, err, messages.CodeWrongState, "the gateway gw-0", "tenant default")

	p, err := give("own", "acme", 0)
	if err != nil {
		t.Fatal(err)
	}
	if p, err = give("own", "umbrella", p.Version); err != nil {
		t.Fatalf("a pool that nobody uses: %v", err)
	}
	s, err := sessionCommands{c}.Create(ctx, messages.Session{Tenant: "umbrella", ID: "s", Pool: "own"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = give("own", "acme", p.Version)
	refusedFor(t, err, messages.CodeWrongState, "the session s", "close its sessions first")
	if err := (sessionCommands{c}).Close(ctx, s.Tenant, s.ID); err != nil {
		t.Fatal(err)
	}
	task, err := taskCommands{c}.Submit(ctx, server.SubmitRequest{Tenant: "umbrella", Pool: "own", Class: messages.Low, Spec: spec("x")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = give("own", "acme", p.Version)
	refusedFor(t, err, messages.CodeWrongState, "tasks that have not ended")
	if p, err = give("own", "umbrella", p.Version); err != nil {
		t.Fatalf("its own tenant again: %v", err)
	}
	if _, err := (taskCommands{c}).Cancel(ctx, "umbrella", task.Task.ID, ""); err != nil {
		t.Fatal(err)
	}
	if p, err = give("own", "acme", p.Version); err != nil || p.Tenant != "acme" {
		t.Fatalf("nobody uses it any more: %+v, %v", p, err)
	}
}
