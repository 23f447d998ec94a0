package app

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// One node works at a time, and gateways that only their home can reach are of
// use only while their home works. So a node hands over to one that stands by
// and is the home of more gateways than itself: once that one has been there
// for a while, and when no run is left at the gateways that only this node
// reaches. Equals never hand over, so it does not go back and forth.

// ErrHandOver ends a node's turn; started again, it stands by.
var ErrHandOver = errors.New("the work goes to the node that is the home of more gateways")

const (
	handOverLook = 500 * time.Millisecond // pause between two looks
	// handOverAfter is how long the other node must have been there.
	handOverAfter = 3 * time.Second
	// handOverCalm is how long no run must be looked for: until then the pools may
	// not have heard that these gateways take no work, and what they assign meanwhile
	// would be left behind at gateways that the next node cannot reach.
	handOverCalm = 2 * messages.DemandInterval
	// handOverPatience is how long the gateways wait for the end of what runs, which
	// may take a day; then they work again for handOverRest.
	handOverPatience = 5 * time.Minute
	handOverRest     = 30 * time.Minute
	// courtesy is how long a node lets the better home take what is free.
	courtesy = 3 * time.Second
)

// better returns the id of a node, other than this one, that is the home of
// more gateways; empty: there is none.
func (h home) better(self string, nodes []persistence.Node, gateways []messages.Gateway) string {
	best, most := "", h.gateways(gateways)
	for _, n := range nodes {
		other := home{node: nodeName(n.ID), id: n.Home}
		if n.ID == self || other == h {
			continue
		}
		if count := other.gateways(gateways); count > most {
			best, most = n.ID, count
		}
	}
	return best
}

// gateways counts those that only this home can reach.
func (h home) gateways(all []messages.Gateway) (n int) {
	for i := range all {
		if all[i].HomeBound() && h.keeps(&all[i]) {
			n++
		}
	}
	return n
}

// handing is what is known of a hand-over to come. It is pure: the time comes in.
type handing struct {
	to    string    // the better home, empty: there is none
	since time.Time // that it is there
	began time.Time // when this node's own gateways were closed for it; zero: they work
	rest  time.Time // they are not closed again before
}

// look takes which home is better now and says whether this node's own gateways
// get no new work, and whether they have got none for long enough to hand over.
func (h *handing) look(to string, now time.Time) (yields, calm bool) {
	if to != h.to {
		*h = handing{to: to, since: now, rest: h.rest}
	}
	switch {
	case to == "" || now.Sub(h.since) < handOverAfter || now.Before(h.rest):
		return false, false
	case h.began.IsZero():
		h.began = now
	case now.Sub(h.began) >= handOverPatience:
		h.began, h.rest = time.Time{}, now.Add(handOverRest)
		return false, false
	}
	return true, now.Sub(h.began) >= handOverCalm
}

// watchHomes looks for a better home while this node works.
func (a *App) watchHomes(ctx context.Context) {
	t := time.NewTicker(handOverLook)
	defer t.Stop()
	var h handing
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		to, err := a.betterHome(ctx)
		if err != nil {
			continue // the lease tells of a store that is away
		}
		yields, calm := h.look(to, time.Now())
		switch was := a.yielding.Swap(yields); {
		case yields && !was:
			a.logger.Info("handing over to the home of more gateways, when the runs at this node's own have ended", slog.String("node", to))
		case was && !yields:
			a.logger.Info("not handing over for now: this node's own gateways get work again")
		}
		if calm && a.ownRuns(ctx) == 0 {
			a.logger.Info("handing over", slog.String("node", to))
			a.fail(ErrHandOver)
			return
		}
	}
}

// betterHome looks at the nodes that the newest renewal saw.
func (a *App) betterHome(ctx context.Context) (string, error) {
	nodes, _ := a.lease.others()
	if len(nodes) < 2 {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaseTTL)
	defer cancel()
	gateways, err := a.repos.Gateways.List(ctx)
	if err != nil {
		return "", err
	}
	return a.home.better(a.nodeID, nodes, gateways), nil
}

// ownRuns counts the tasks at gateways that the next node cannot reach. They
// get no others meanwhile, see fleet.yielding.
func (a *App) ownRuns(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, leaseTTL)
	defer cancel()
	gateways, err := a.repos.Gateways.List(ctx)
	if err != nil {
		return 1 // nobody knows
	}
	c := gatewayCommands{newCommands(a)}
	n := 0
	for _, g := range gateways {
		if pid, ok := a.node.Gateway(g.ID); ok && g.HomeBound() && a.home.keeps(&g) {
			if s, ok := c.inspect(ctx, pid); !ok || s.Status.Running > 0 {
				n++
			}
		}
	}
	return n
}

// yielding is true while a gateway that the next node cannot reach must get no
// new work, because this one hands over.
func (f *fleet) yielding(bound bool) func() bool {
	return func() bool { return bound && f.app.yielding.Load() }
}

// courteous lets a better home go first for a moment, when the work is free.
func (a *App) courteous(ctx context.Context) (string, bool) {
	if !a.engine.shared {
		return "", false
	}
	who, err := a.betterHome(ctx)
	if err != nil || who == "" {
		a.courtesy = time.Time{}
		return "", false
	}
	owner, alive := a.worker(ctx)
	if owner != "" && alive {
		a.courtesy = time.Time{}
		return "", false // it is not free
	}
	if a.courtesy.IsZero() {
		a.courtesy = time.Now()
	}
	return who, time.Since(a.courtesy) < courtesy
}
