package gateway

import (
	"context"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// maxDeletes bounds the throw-away sessions that wait for their removal; the
// oldest are forgotten beyond it (they cost the gateway disk, nothing else).
const maxDeletes = 4096

// sweepChunk is how many of them one deadline covers. So many are removed at
// once; fewer wait for the next tick.
const sweepChunk = 32

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

// take returns the keys of the next chunk; those that are held stay behind.
func (s *sweeper) take(held func(key string) bool) []string {
	var chunk, kept []string
	for i, key := range s.keys {
		switch {
		case len(chunk) == sweepChunk:
			s.keys = append(kept, s.keys[i:]...)
			return chunk
		case held(key):
			kept = append(kept, key)
		default:
			chunk = append(chunk, key)
		}
	}
	s.keys = kept
	return chunk
}

// swept ends a chunk; err is the last of its errors.
type swept struct{ err error }

func (g *gateway) sweep(ctx actor.Context) {
	if g.deletes.busy || len(g.deletes.keys) == 0 || g.link == nil {
		return
	}
	// A daemon that is about to stop refuses; the keys are kept until it is back,
	// and a removed one is not seen again.
	if g.managed.stopping || g.draining && !g.removed {
		return
	}
	now := time.Now()
	keys := g.deletes.take(func(key string) bool { return !g.removed && g.children.working(key, now) })
	if len(keys) == 0 {
		return
	}
	g.deletes.busy = true
	link, base, limit := g.link, g.ctx, g.cfg.Timing.CallTimeout
	g.aside(ctx, func() any {
		c, cancel := context.WithTimeout(base, limit)
		defer cancel()
		var out swept
		for _, key := range keys {
			if _, err := link.DeleteSession(c, key); err != nil {
				out.err = err
			}
		}
		return out
	})
}

func (g *gateway) swept(ctx actor.Context, m swept) {
	g.deletes.busy = false
	if m.err != nil {
		g.cfg.Logger.Debug("throw-away sessions were not removed", slog.Any("err", m.err))
	}
	if g.removed {
		g.sweep(ctx)
	}
	g.sweepMany(ctx)
}

// sweepMany sweeps if it is worth it.
func (g *gateway) sweepMany(ctx actor.Context) {
	if len(g.deletes.keys) >= sweepChunk {
		g.sweep(ctx)
	}
}
