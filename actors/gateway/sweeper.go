package gateway

import (
	"context"
	"log/slog"

	"github.com/asynkron/protoactor-go/actor"
)

// maxDeletes bounds the throw-away sessions that wait for their removal; the
// oldest are forgotten beyond it (they cost the gateway disk, nothing else).
const maxDeletes = 4096

// sweeper removes throw-away sessions at the gateway, one call at a time.
type sweeper struct {
	keys []string
	busy bool
}

func (s *sweeper) add(key string) {
	if len(s.keys) >= maxDeletes {
		s.keys = s.keys[1:]
	}
	s.keys = append(s.keys, key)
}

type swept struct {
	inc uint64
	err error
}

func (g *gateway) sweep(ctx actor.Context) {
	// A daemon that is about to stop refuses; the keys are kept until it is back.
	if g.deletes.busy || len(g.deletes.keys) == 0 || g.link == nil || g.draining || g.managed.stopping {
		return
	}
	key := g.deletes.keys[0]
	g.deletes.keys = g.deletes.keys[1:]
	g.deletes.busy = true
	root, self, inc, link, base, limit := ctx.ActorSystem().Root, ctx.Self(), g.inc, g.link, g.ctx, g.cfg.Timing.CallTimeout
	go func() {
		c, cancel := context.WithTimeout(base, limit)
		defer cancel()
		_, err := link.DeleteSession(c, key)
		root.Send(self, swept{inc: inc, err: err})
	}()
}

func (g *gateway) swept(ctx actor.Context, m swept) {
	if m.inc != g.inc {
		return
	}
	g.deletes.busy = false
	if m.err != nil {
		g.cfg.Logger.Debug("throw-away session was not removed", slog.Any("err", m.err))
	}
	g.sweep(ctx)
}
