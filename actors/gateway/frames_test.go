package gateway

import (
	"log/slog"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/session"
)

// silentLink takes frames and nothing else.
type silentLink struct {
	Link
	frames int
}

func (l *silentLink) Agent(openclaw.AgentRequest, func(openclaw.AgentAnswer)) error {
	l.frames++
	return nil
}

// TestAFrameBelongsToItsConnection: one that was made for the connection before
// is not written to the next one, whose process may be another.
func TestAFrameBelongsToItsConnection(t *testing.T) {
	t.Parallel()
	system := actor.NewActorSystem(actor.WithDeadLetterThrottleInterval(time.Millisecond), actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		return slog.New(slog.DiscardHandler)
	}))
	told := make(chan any, 10)
	run := system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		switch m := ctx.Message().(type) {
		case session.Sent, session.NotSent:
			told <- m
		}
	}))
	l := &silentLink{}
	g := &gateway{cfg: Config{Logger: slog.New(slog.DiscardHandler)}, link: l, life: life{conn: 2}}
	owner := system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		if m, ok := ctx.Message().(*session.SendRun); ok {
			g.write(ctx, &claim{pid: run}, m)
		}
	}))
	for conn, want := range map[session.Conn]any{1: session.NotSent{Conn: 1}, 2: session.Sent{Conn: 2}} {
		system.Root.Send(owner, &session.SendRun{Conn: conn})
		if got := <-told; got != want {
			t.Errorf("for connection %d: %T %+v, want %T", conn, got, got, want)
		}
	}
	_ = system.Root.StopFuture(owner).Wait()
	_ = system.Root.StopFuture(run).Wait()
	system.Shutdown()
	if l.frames != 1 {
		t.Errorf("%d frames were written, want that of connection 2", l.frames)
	}
}
