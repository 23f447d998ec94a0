package actors

import (
	"log/slog"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/messages"
)

// TestQuarantineByTheShardIsTold: also the end of a gateway's owner is written
// under its fence and told to watchers.
func TestQuarantineByTheShardIsTold(t *testing.T) {
	t.Parallel()
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
	t.Cleanup(system.Shutdown)
	got := make(chan commit.Request, 1)
	committer := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		if m, ok := c.Message().(commit.Request); ok {
			got <- m
		}
	}))
	s := newShard(&Node{system: system, gaveUp: map[string]bool{}}, committer, messages.Fence{})
	fence := messages.Fence{Scope: messages.GatewayScope, Key: "gw", Owner: "n", Epoch: 3}
	s.gateways["gw"] = gateway.Config{Fence: fence, Gateway: messages.Gateway{ID: "gw", Tenant: "t1", Pool: "p1"}}
	s.quarantine(actor.NewPID("nonhost", "root/gateway-gw"), "a bug")
	if !s.node.GaveUp("gw") {
		t.Error("the node does not know that the owner gave up")
	}
	select {
	case m := <-got:
		op := m.Op
		if len(op.Fences) != 1 || op.Fences[0] != fence || op.Gateway.State != messages.GatewayQuarantined || op.Gateway.Tenant != "t1" {
			t.Errorf("op = %+v", op)
		}
		if len(op.Events) != 1 || op.Events[0].Subject != "gw" || op.Events[0].Tenant != "t1" || op.Events[0].GetGateway().GetPool() != "p1" {
			t.Errorf("events = %v", op.Events)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was written")
	}
}
