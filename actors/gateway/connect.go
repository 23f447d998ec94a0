package gateway

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

type (
	dialled struct {
		conn session.Conn
		link Link
		err  error
	}
	linkLost struct {
		conn session.Conn
		err  error
	}
	// reconnect ends a pause; n is the attempt it belongs to, an older one is void.
	reconnect struct{ n int }
	// settled: the sessions that must not go on at the gateway were stopped.
	settled struct {
		conn   session.Conn
		lane   int
		fenced int
		err    error
		warm   *warmth // of the warm-up turn, if there was one
	}
)

func (g *gateway) dial(ctx actor.Context, conn session.Conn) {
	cfg := g.cfg.OpenClaw
	cfg.URL, cfg.Token = g.gw.URL, g.gw.Token
	if g.cfg.Process != nil {
		cfg.URL, cfg.Token = g.managed.endpoint.URL, g.managed.endpoint.Token
	}
	root, self, inc, dialFunc := ctx.ActorSystem().Root, ctx.Self(), g.inc, g.cfg.Dial
	send := func(m any) { root.Send(self, m) }
	handler := &handler{routes: g.routes, send: send, conn: conn, inc: inc, news: make(chan struct{}, maxNews), done: g.ctx.Done()}
	dialCtx := g.ctx
	cfg.Hold = g.holder()
	go func() {
		link, err := dialFunc(dialCtx, cfg, handler)
		send(own{inc, dialled{conn: conn, link: link, err: err}})
		if link == nil {
			return
		}
		// The link ends with the incarnation, whoever got the message or not.
		select {
		case <-link.Done():
			send(own{inc, linkLost{conn: conn, err: link.Err()}})
		case <-dialCtx.Done():
			link.Close()
		}
	}()
}

func (g *gateway) dialled(ctx actor.Context, m dialled) {
	switch {
	case m.err != nil:
		g.happens(ctx, whyRefused(m))
		return
	case m.conn != g.conn:
		go m.link.Close()
		return
	}
	h := m.link.Hello()
	if other := g.cfg.Boots.Claim(h.BootID, g.gw.ID, g.gw.Tenant); other != "" {
		go m.link.Close()
		g.happens(ctx, refused{conn: m.conn, permanent: true, next: next.RemoveOneOfTwo,
			reason: "the process behind its URL is " + other + " already; each of the two would stop the other's runs"})
		return
	}
	g.link, g.status.Version = m.link, h.Version
	g.happens(ctx, hello{conn: m.conn, boot: h.BootID})
}

// whyRefused says why no usable connection came of a dial.
func whyRefused(m dialled) refused {
	var r *openclaw.RefusedError
	if !errors.As(m.err, &r) {
		return refused{conn: m.conn, reason: messages.GatewayUnreached + ": " + m.err.Error()}
	}
	return refused{conn: m.conn, reason: r.Coarse() + ": " + r.Message, next: r.NextStep, permanent: r.Permanent, after: r.RetryAfter}
}

// present is the connection as sessions are told of it.
func (g *gateway) present() session.Linked {
	return session.Linked{Conn: g.conn, BootID: g.boot, Ended: g.ended, Link: g.link}
}

// current reports whether a message belongs to the connection of now.
func (g *gateway) current(conn session.Conn) bool { return conn == g.conn && g.link != nil }

func (g *gateway) linkLost(ctx actor.Context, m linkLost) {
	if g.current(m.conn) && announced(m.err) {
		g.cfg.Metrics.announced.Inc()
	}
	g.happens(ctx, m)
}

// announced reports whether the gateway said that its process ends: by its event
// or the close code that stands for it. Anything else is a crash or a cut line.
func announced(err error) bool {
	var c *openclaw.ClosedError
	return errors.As(err, &c) && !c.Local && (c.Shutdown != nil || c.Code == openclaw.CloseRestart)
}

// part tells everybody below that the connection is gone, and first those
// whose frame still waited in the order that it never left.
func (g *gateway) part(ctx actor.Context, conn session.Conn) {
	g.link = nil
	for _, c := range g.claims {
		c.waits = false
		if c.fresh {
			c.fresh, c.want = false, nil
			ctx.Send(c.pid, session.NotSent{Conn: conn})
		}
		ctx.Send(c.pid, session.Disconnected{Conn: conn})
	}
	g.order = nil
}

// settle stops, before the gateway gets work, every Dash session there that
// belongs to no claim we hold, reads the gateway's own lane limit, and warms a
// new process up.
func (g *gateway) settle(ctx actor.Context, warm bool) {
	keep := make(map[string]bool, len(g.claims))
	for _, c := range g.claims {
		keep[messages.SessionKey(c.task.Tenant, c.task.SessionOrOwn(), c.task.Generation)] = true
	}
	conn, link, base, tenant, timing := g.conn, g.link, g.ctx, g.gw.Tenant, &g.cfg.Timing
	g.aside(ctx, func() any {
		out := settled{conn: conn}
		out.fenced, out.err = fenceOrphans(base, link, timing.CallTimeout, keep)
		if out.err == nil {
			out.lane, out.err = laneLimit(base, link, timing.CallTimeout)
		}
		if out.err == nil && warm {
			out.warm = warmUp(base, link, tenant, timing.WarmUp, timing.CallTimeout)
		}
		return out
	})
}

func laneLimit(base context.Context, link Link, limit time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(base, limit)
	defer cancel()
	lanes, err := link.Lanes(ctx)
	var rpc *openclaw.RPCError
	if errors.As(err, &rpc) {
		return 0, nil // this version does not tell
	}
	for _, l := range lanes {
		if l.Name == openclaw.MainLane {
			return l.MaxConcurrent, err
		}
	}
	return 0, err
}

func (g *gateway) settled(ctx actor.Context, m settled) {
	if g.current(m.conn) && m.err == nil {
		if m.fenced > 0 {
			g.cfg.Metrics.orphans.Add(float64(m.fenced))
			g.cfg.Logger.Warn("stopped sessions whose tasks are no longer here", slog.Int("sessions", m.fenced))
		}
		g.window.Configure(max(1, g.gw.MaxConcurrency), m.lane)
		g.window.Opened(time.Now())
	}
	g.happens(ctx, m)
}
