package gateway

import (
	"log/slog"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/session"
)

// sendRun writes a run's frame: a fresh claim's not before those of the claims
// that came earlier.
func (g *gateway) sendRun(ctx actor.Context, m *session.SendRun) {
	c := g.claims[m.Ref]
	if c == nil {
		return
	}
	if !c.fresh {
		g.write(ctx, c, m)
		return
	}
	c.want = m
	g.writeReady(ctx)
}

// writeReady writes the frames at the head of the order that are ready.
func (g *gateway) writeReady(ctx actor.Context) {
	for len(g.order) > 0 {
		c := g.order[0]
		if c.fresh && c.want == nil {
			return
		}
		g.order = g.order[1:]
		if c.fresh {
			c.fresh = false
			g.write(ctx, c, c.want)
			c.want = nil
		}
	}
}

// skip lets later claims pass one that will not be sent now.
func (g *gateway) skip(ctx actor.Context, c *claim) {
	if c.fresh {
		c.fresh, c.want = false, nil
		g.writeReady(ctx)
	}
}

func (g *gateway) write(ctx actor.Context, c *claim, m *session.SendRun) {
	if g.link == nil || m.Conn != g.conn {
		ctx.Send(c.pid, session.NotSent{Conn: m.Conn})
		return
	}
	// A node that was stopped between its claim and here comes back behind the
	// one that took over; its later writes are fenced, this frame would not be.
	if !g.live() {
		g.cfg.Logger.Warn("frame was not written: the node's lease may have ended", slog.String("task", c.ref.Task))
		ctx.Send(c.pid, session.NotSent{Conn: m.Conn})
		return
	}
	root, pid, ref, conn := ctx.ActorSystem().Root, c.pid, c.ref, m.Conn
	err := g.link.Agent(m.Request, func(a openclaw.AgentAnswer) {
		root.Send(pid, session.AgentAnswer(ref, conn, a))
	})
	if err != nil {
		g.cfg.Logger.Warn("frame was not written", slog.String("task", c.ref.Task), slog.Any("err", err))
		ctx.Send(pid, session.NotSent{Conn: conn})
		return
	}
	ctx.Send(pid, session.Sent{Conn: conn})
}
