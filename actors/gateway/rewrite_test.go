package gateway_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/messages"
)

// TestStateIsWrittenAgain: a state whose write ended with the committer's
// restart becomes durable without another change of it.
func TestStateIsWrittenAgain(t *testing.T) {
	t.Parallel()
	var lost atomic.Bool
	r := newRigIn(t, func(system *actor.ActorSystem, c *gateway.Config) {
		c.Dial = dialer(newLink("b1"))
		committer := c.Committer
		c.Committer = system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
			switch m := ctx.Message().(type) {
			case commit.Request:
				if m.Op.Gateway != nil && m.Op.Gateway.State == messages.GatewayReady && !lost.Swap(true) {
					ctx.Send(m.ReplyTo, commit.Done{Tag: m.Tag, Err: commit.ErrStopped})
					return
				}
				ctx.Send(committer, m)
			case commit.Requests:
				ctx.Send(committer, m)
			}
		}))
	})
	var last []messages.GatewayStatus
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var err error
		if last, err = r.store.GatewayStatuses(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(last) == 1 && last[0].State == messages.GatewayReady && lost.Load() {
			return
		}
	}
	t.Fatalf("the write was lost (%v) and the stored state is not mended: %+v", lost.Load(), last)
}
