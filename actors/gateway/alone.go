package gateway

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
)

// A task under which gateways died may be what kills them: it runs only while
// the gateway has nothing else to do, and nothing new comes meanwhile. Those
// that ran beside it are under suspicion like it; they take turns in the order
// of their claims.

// runsAlone is the first claim under suspicion, nil while there is none.
func (g *gateway) runsAlone() *claim {
	var first *claim
	for _, c := range g.claims {
		if c.suspect && !c.watched && (first == nil || c.before(first)) {
			first = c
		}
	}
	return first
}

func (c *claim) before(o *claim) bool {
	if d := c.task.ClaimedAt.Compare(o.task.ClaimedAt); d != 0 {
		return d < 0
	}
	return c.ref.Task < o.ref.Task
}

// suspect: the session's run has seen too many deaths.
func (g *gateway) suspect(ctx actor.Context, ref messages.ClaimRef) {
	if c := g.claims[ref]; c != nil && !c.suspect {
		c.suspect = true
		g.demand(ctx)
	}
}

func (g *gateway) wantAlone(ctx actor.Context, ref messages.ClaimRef) {
	if c := g.claims[ref]; c != nil && g.link != nil {
		c.suspect, c.waits = true, true
		g.skip(ctx, c)
		g.grant(ctx)
	}
}

// grant gives the gateway to the first that waits for it, once nothing else is
// there.
func (g *gateway) grant(ctx actor.Context) {
	var next *claim
	for _, c := range g.claims {
		switch {
		case c.watched:
		case !c.waits:
			return
		case next == nil || c.before(next):
			next = c
		}
	}
	if next != nil && g.link != nil {
		next.waits = false
		ctx.Send(next.pid, session.Alone{Conn: g.conn})
	}
}

// countDeath counts the end of a process that nobody asked for and that held
// work.
func (g *gateway) countDeath() {
	kind := ""
	for _, c := range g.claims {
		switch {
		case c.watched || c.waits:
		case c.suspect && kind == "":
			kind = "alone"
		default:
			kind = "shared"
		}
	}
	if kind != "" {
		g.cfg.Metrics.deaths.WithLabelValues(kind).Inc()
	}
}

// explained takes the deaths that an ended task explains off the account of
// the gateway, so that it is not quarantined for what a task did.
func (g *gateway) explained(ctx actor.Context, t *messages.Task) {
	if t.Error.GetCode() != string(messages.CodeGatewayCrashed) || t.State != messages.DeadLetter {
		return
	}
	n := 0
	for _, d := range t.Trials.GetDeaths() {
		if d.GetGateway() == g.gw.ID {
			n++
		}
	}
	g.happens(ctx, explained{deaths: n})
}
