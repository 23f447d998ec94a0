package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/actors/supervise"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

type (
	dialled struct {
		inc  uint64
		conn session.Conn
		link Link
		err  error
	}
	linkLost struct {
		inc  uint64
		conn session.Conn
		err  error
	}
	reconnect struct {
		inc uint64
		n   int // the attempt it belongs to; an older timer is void
	}
	// settled: the sessions that must not go on at the gateway were stopped.
	settled struct {
		inc    uint64
		conn   session.Conn
		lane   int
		fenced int
		err    error
		warm   *warmth // of the warm-up turn, if there was one
	}
)

// connect brings the gateway up: a managed one's process first.
func (g *gateway) connect(ctx actor.Context) {
	if g.link != nil || g.removed {
		return
	}
	if g.stayAway(ctx) {
		return
	}
	if g.cfg.Process != nil && !g.managed.up {
		g.startProcess(ctx)
		return
	}
	g.dial(ctx)
}

// stayAway: the gateway's home is another node. To start or dial it here would
// be another process, in which the same work runs a second time. Its claims end
// by the pool's away policy, or when its home is the owner again.
func (g *gateway) stayAway(ctx actor.Context) bool {
	reason, next := g.elsewhere()
	if reason == "" {
		return false
	}
	if g.since.IsZero() {
		g.since = time.Now()
	}
	g.setState(ctx, messages.GatewayUnreachable, reason, next)
	g.demand(ctx)
	return true
}

func (g *gateway) elsewhere() (reason, next string) {
	if g.cfg.Elsewhere == nil {
		return "", ""
	}
	return g.cfg.Elsewhere(g.cfg.Gateway)
}

// daemon is the process that this node may stop; nil: somebody else's, or that
// of another home.
func (g *gateway) daemon() Process {
	if away, _ := g.elsewhere(); away != "" {
		return nil
	}
	return g.cfg.Process
}

// dial opens a connection. A gateway that was lost stays UNREACHABLE until it
// answers: a try is no news.
func (g *gateway) dial(ctx actor.Context) {
	if g.status.State != messages.GatewayUnreachable || g.attempts == 0 {
		g.setState(ctx, messages.GatewayConnecting, "", "")
	}
	g.conn++
	cfg := g.cfg.OpenClaw
	cfg.URL, cfg.Token = g.cfg.Gateway.URL, g.cfg.Gateway.Token
	if g.cfg.Process != nil {
		cfg.URL, cfg.Token = g.managed.endpoint.URL, g.managed.endpoint.Token
	}
	root, self, inc, conn, dialFunc := ctx.ActorSystem().Root, ctx.Self(), g.inc, g.conn, g.cfg.Dial
	handler := &handler{routes: g.routes, send: func(m any) { root.Send(self, m) }, conn: conn, inc: inc,
		news: make(chan struct{}, maxNews), done: g.ctx.Done()}
	dialCtx := g.ctx
	cfg.Hold = g.holder()
	go func() {
		link, err := dialFunc(dialCtx, cfg, handler)
		root.Send(self, dialled{inc: inc, conn: conn, link: link, err: err})
		if link == nil {
			return
		}
		// The link ends with the incarnation, whoever got the message or not.
		select {
		case <-link.Done():
			root.Send(self, linkLost{inc: inc, conn: conn, err: link.Err()})
		case <-dialCtx.Done():
			link.Close()
		}
	}()
}

func (g *gateway) dialled(ctx actor.Context, m dialled) {
	if m.inc != g.inc || m.conn != g.conn {
		if m.link != nil {
			go m.link.Close()
		}
		return
	}
	if m.err != nil {
		g.refused(ctx, m.err)
		return
	}
	hello := m.link.Hello()
	if other := g.cfg.Boots.Claim(hello.BootID, g.cfg.Gateway.ID, g.cfg.Gateway.Tenant); other != "" {
		go m.link.Close()
		g.quarantine(ctx, "the process behind its URL is "+other+" already; each of the two would stop the other's runs", next.RemoveOneOfTwo)
		return
	}
	g.link, g.linked, g.dropped = m.link, time.Now(), ""
	g.status.Version = hello.Version
	old := g.status.BootID
	g.status.BootID = hello.BootID
	if old != hello.BootID {
		g.children.reset()
	}
	if old != "" && old != hello.BootID {
		g.status.Restarts++
		g.countDeath(old)
		g.cfg.Logger.Info("gateway was restarted since the last connection", slog.String("boot_id", hello.BootID), slog.String("old_boot_id", old))
		if len(g.claims) > 0 {
			// The state changes with the boot id, in one write.
			g.becomeRecovering(ctx, m.conn)
			return
		}
	}
	g.record(ctx, g.status.State, statusTag{inc: g.inc, conn: m.conn})
}

func (g *gateway) becomeRecovering(ctx actor.Context, conn session.Conn) {
	from := g.status.State
	g.cfg.Metrics.moved(from, messages.GatewayRecovering)
	g.status.State, g.status.Since = messages.GatewayRecovering, messages.Now()
	g.status.Reason, g.status.NextStep = "the gateway process was restarted while it held tasks", ""
	g.record(ctx, from, statusTag{inc: g.inc, conn: conn})
}

// bootRecorded: the boot id is durable, so sessions may look and send.
func (g *gateway) bootRecorded(ctx actor.Context) {
	for _, c := range g.claims {
		ctx.Send(c.pid, g.present())
	}
	g.settle(ctx)
}

// present is the connection as sessions are told of it.
func (g *gateway) present() session.Linked {
	return session.Linked{Conn: g.conn, BootID: g.status.BootID, Ended: g.ended, Link: g.link}
}

// refused: no usable connection came of the attempt.
func (g *gateway) refused(ctx actor.Context, err error) {
	var r *openclaw.RefusedError
	if !errors.As(err, &r) {
		g.unreachable(ctx, messages.GatewayUnreached+": "+err.Error(), 0)
		return
	}
	reason := r.Coarse() + ": " + r.Message
	if r.Permanent {
		g.quarantine(ctx, reason, r.NextStep)
		return
	}
	g.unreachable(ctx, reason, r.RetryAfter)
}

func (g *gateway) quarantine(ctx actor.Context, reason, advice string) {
	if g.since.IsZero() {
		g.since = time.Now()
	}
	if advice == "" {
		advice = next.MendCause
	}
	g.setState(ctx, messages.GatewayQuarantined, reason, fmt.Sprintf(next.ThenRestartGateway, advice, g.cfg.Gateway.ID))
	g.demand(ctx)
}

// unreachable waits and tries again.
func (g *gateway) unreachable(ctx actor.Context, reason string, after time.Duration) {
	g.away(ctx, reason, next.TriedAgainCheckURL, after)
}

// away is unreachable with a better next step.
func (g *gateway) away(ctx actor.Context, reason, advice string, after time.Duration) {
	if g.since.IsZero() {
		g.since = time.Now()
	}
	g.attempts++
	delay := max(after, supervise.Delay(g.cfg.Timing.ReconnectMin, g.cfg.Timing.ReconnectMax, g.attempts, rand.Float64()))
	g.setState(ctx, messages.GatewayUnreachable, reason, advice)
	root, self, m := ctx.ActorSystem().Root, ctx.Self(), reconnect{inc: g.inc, n: g.attempts}
	time.AfterFunc(min(delay, g.cfg.Timing.ReconnectMax), func() { root.Send(self, m) })
	g.demand(ctx)
}

func (g *gateway) reconnect(ctx actor.Context, m reconnect) {
	if m.inc == g.inc && m.n == g.attempts && g.link == nil && g.status.State == messages.GatewayUnreachable {
		g.connect(ctx)
	}
}

// drop ends the present link; linkLost follows.
func (g *gateway) drop(reason string) {
	if g.link == nil {
		return
	}
	g.cfg.Logger.Warn("connection dropped", slog.String("reason", reason))
	g.dropped = reason
	go g.link.Close()
}

func (g *gateway) linkLost(ctx actor.Context, m linkLost) {
	if m.inc != g.inc || m.conn != g.conn || g.link == nil {
		return
	}
	lived := time.Since(g.linked)
	g.unlink(ctx)
	if announced(m.err) {
		g.ended = g.status.BootID // in good order, whoever wanted it
		g.cfg.Metrics.announced.Inc()
	}
	if lived >= g.cfg.Timing.StableAfter {
		g.attempts = 0
	}
	if g.removed || g.managed.stopping {
		return
	}
	reason := "the connection to the gateway was lost"
	switch {
	case g.dropped != "":
		reason = "Dash closed the connection: " + g.dropped
	case m.err != nil:
		reason = m.err.Error()
	}
	if g.status.State == messages.GatewayQuarantined {
		return
	}
	g.managed.up = false // Ensure looks whether it still lives
	if g.draining && g.held() == 0 {
		g.drainedIfEmpty(ctx)
		return
	}
	g.unreachable(ctx, reason, 0)
}

// announced reports whether the gateway said that its process ends: by its event
// or the close code that stands for it. Anything else is a crash or a cut line.
func announced(err error) bool {
	var c *openclaw.ClosedError
	return errors.As(err, &c) && !c.Local && (c.Shutdown != nil || c.Code == openclaw.CloseRestart)
}

// unlink tells everybody below that the connection is gone, and first those
// whose frame still waited in the order that it never left.
func (g *gateway) unlink(ctx actor.Context) {
	g.link, g.open = nil, false
	for _, c := range g.claims {
		c.waits = false
		if c.fresh {
			c.fresh, c.want = false, nil
			ctx.Send(c.pid, session.NotSent{Conn: g.conn})
		}
		ctx.Send(c.pid, session.Disconnected{Conn: g.conn})
	}
	g.order = nil
}

// settle stops, before the gateway gets work, every Dash session there that
// belongs to no claim we hold, reads the gateway's own lane limit, and warms a
// new process up.
func (g *gateway) settle(ctx actor.Context) {
	keep := make(map[string]bool, len(g.claims))
	for _, c := range g.claims {
		keep[messages.SessionKey(c.task.Tenant, c.task.SessionOrOwn(), c.task.Generation)] = true
	}
	root, self, inc, conn, link := ctx.ActorSystem().Root, ctx.Self(), g.inc, g.conn, g.link
	limit, base := g.cfg.Timing.CallTimeout, g.ctx
	// The re-runs of claims held here do what a warm-up turn would.
	warm, tenant, warmLimit := g.managed.cold && len(g.claims) == 0 && !g.draining, g.cfg.Gateway.Tenant, g.cfg.Timing.WarmUp
	go func() {
		out := settled{inc: inc, conn: conn}
		out.fenced, out.err = fenceOrphans(base, link, limit, keep)
		if out.err == nil {
			out.lane, out.err = laneLimit(base, link, limit)
		}
		if out.err == nil && warm {
			out.warm = warmUp(base, link, tenant, warmLimit, limit)
		}
		root.Send(self, out)
	}()
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
	if m.inc != g.inc || m.conn != g.conn || g.link == nil {
		return
	}
	if m.err != nil {
		g.drop("sessions left behind could not be stopped: " + m.err.Error())
		return
	}
	if m.fenced > 0 {
		g.cfg.Metrics.orphans.Add(float64(m.fenced))
		g.cfg.Logger.Warn("stopped sessions whose tasks are no longer here", slog.Int("sessions", m.fenced))
	}
	g.warmed(m.warm)
	g.window.Configure(max(1, g.cfg.Gateway.MaxConcurrency), m.lane)
	g.window.Opened(time.Now())
	g.open, g.since = true, time.Time{}
	switch {
	case g.draining:
		if g.status.State != messages.GatewayDrained {
			g.setDraining(ctx)
		}
		g.drainedIfEmpty(ctx)
	case g.status.State == messages.GatewayRecovering && g.recoveringClaims() > 0:
	default:
		g.setReady(ctx)
		g.judge(ctx)
	}
	g.demand(ctx)
	g.sweep(ctx)
	g.refresh(ctx)
}
