package app

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// TestGatewayThatCannotStartIsNotKept: the call may be repeated.
func TestGatewayThatCannotStartIsNotKept(t *testing.T) {
	t.Parallel()
	busy, hold := make(chan struct{}), make(chan struct{})
	a := benchNode(t, t.TempDir(), 1, 1, func(openclaw.AgentRequest) { close(busy); <-hold })
	c := newCommands(a).gateways()
	defer close(hold)
	if _, err := newCommands(a).tasks().Submit(t.Context(), server.SubmitRequest{Tenant: "default", Class: messages.Low, Spec: spec("x")}); err != nil {
		t.Fatal(err)
	}
	<-busy
	// The configuration goes and its owner stays, as one does that still ends
	// its process.
	if err := c.Repos.Gateways.Delete(t.Context(), "gw-0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	g := messages.Gateway{ID: "gw-0", Tenant: "default", Pool: "default", URL: "ws://127.0.0.1:9/", Token: "t", Weight: 1}
	if _, err := c.Create(ctx, "", g); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("created over a living owner: %v", err)
	}
	if _, err := c.Repos.Gateways.Get(t.Context(), "gw-0"); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("the configuration was kept: %v", err)
	}
}

// TestManagedGatewayKeepsItsAddress: a change that nothing would follow is refused.
func TestManagedGatewayKeepsItsAddress(t *testing.T) {
	t.Parallel()
	c := newCommands(benchNode(t, t.TempDir(), 0, 1, nil)).gateways()
	if _, err := c.Repos.Gateways.Create(t.Context(), messages.Gateway{ID: "m", Tenant: "default", Pool: "default", Managed: &messages.Managed{}}); err != nil {
		t.Fatal(err)
	}
	url, token := "ws://127.0.0.1:7/", messages.Secret("t")
	for _, ch := range []server.GatewayChange{{URL: &url}, {Token: &token}} {
		if _, err := c.Update(t.Context(), "default", "m", ch, 0); messages.CodeOf(err) != messages.CodeInvalid {
			t.Errorf("change %+v: %v", ch, err)
		}
	}
}
