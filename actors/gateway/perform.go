package gateway

import (
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
)

// happens decides an event of the life cycle and does what follows from it.
func (g *gateway) happens(ctx actor.Context, event any) {
	in := input{now: time.Now(), rand: rand.Float64(), facts: g.facts(event), event: event}
	var effects []effect
	g.life, effects = decide(g.life, in)
	for _, e := range effects {
		g.perform(ctx, e)
	}
}

// facts are what the decision about an event looks at besides the life. A new
// configuration counts already: it may give the gateway another home.
func (g *gateway) facts(event any) facts {
	f := facts{
		claims: len(g.claims), held: g.held(),
		tidying: g.link != nil && (g.tearing > 0 || g.deletes.busy || len(g.deletes.keys) > 0),
		paused:  g.pauses.reason(), reduced: g.reduced(), limited: g.window.Limited(),
	}
	if g.state == messages.GatewayRecovering {
		f.recovering = g.recoveringClaims()
	}
	if g.cfg.Elsewhere != nil {
		gw := *g.gw
		if c, ok := event.(Configure); ok {
			gw = c.Gateway
		}
		f.away, f.awayNext = g.cfg.Elsewhere(gw)
	}
	return f
}

func (g *gateway) perform(ctx actor.Context, e effect) {
	switch e := e.(type) {
	case moved:
		g.moved(ctx, e)
	case refusedStep:
		g.cfg.Metrics.unlawful.Inc()
		g.cfg.Logger.Error("gateway refused a step that its table does not have",
			slog.String("state", name(e.from)), slog.String("event", e.event))
	case write:
		g.record(ctx, g.state, statusTag{conn: e.conn})
	case announce:
		g.announce(ctx, e.words)
	case demand:
		g.demand(ctx)
	case dial:
		g.dial(ctx, e.conn)
	case retry:
		g.later(ctx, e.after, reconnect{n: e.n})
	case hangUp:
		g.cfg.Logger.Warn("connection dropped", slog.String("reason", e.why))
		go g.link.Close()
	case part:
		g.part(ctx, e.conn)
	case greet:
		for _, c := range g.claims {
			ctx.Send(c.pid, g.present())
		}
	case settle:
		g.settle(ctx, e.warm)
	case start:
		g.aside(ctx, func() any {
			endpoint, err := g.cfg.Process.Ensure(g.ctx)
			return started{endpoint: endpoint, err: err}
		})
	case awaitExit:
		g.aside(ctx, func() any {
			if g.cfg.Process.AwaitExit(g.ctx) {
				return exited(e)
			}
			return nil
		})
	case stop:
		g.aside(ctx, func() any { return stopped{err: stopProcess(g.cfg.Process, g.cfg.Timing.StopTimeout)} })
	case give:
		g.give(ctx, e.warm)
	case died:
		g.countDeath()
	case forget:
		g.children.reset()
	case lift:
		g.pauses.lift()
	case resize:
		g.window.Configure(max(1, g.gw.MaxConcurrency), e.lane)
	case sweep:
		g.sweep(ctx)
	case unwatch:
		for ref, c := range g.claims {
			ctx.Send(c.pid, session.Withdrawn{Claim: ref.Claim})
		}
	case end:
		ctx.Stop(ctx.Self())
	case note:
		g.cfg.Logger.LogAttrs(g.ctx, e.level, e.text, e.attrs...)
	}
}

// own is a message of the actor to itself. One of an earlier incarnation is
// dropped.
type own struct {
	inc uint64
	m   any
}

// aside does slow work on a goroutine and takes what it returns, if anything,
// as a message. The work ends with the incarnation, or has a deadline.
func (g *gateway) aside(ctx actor.Context, work func() any) {
	root, self, inc := ctx.ActorSystem().Root, ctx.Self(), g.inc
	go func() {
		if m := work(); m != nil {
			root.Send(self, own{inc, m})
		}
	}()
}

// later takes a message when the time is over.
func (g *gateway) later(ctx actor.Context, after time.Duration, m any) {
	root, self, inc := ctx.ActorSystem().Root, ctx.Self(), g.inc
	time.AfterFunc(after, func() { root.Send(self, own{inc, m}) })
}
