package app

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/dash-fleet/dash/cluster"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// One node works at a time, and gateways that only their home can reach are of
// use only while their home works. So a node hands over to one that stands by
// and is the home of more gateways than itself: once that one has been there
// for a while, and when no run is left at the gateways that only this node
// reaches. Of equals the one goes first whose gateways hold runs that nobody
// reads: it was killed under them. A node that hands over leaves none behind, so
// it does not go back and forth.

// ErrHandOver ends a node's turn; started again, it stands by.
var ErrHandOver = errors.New("the work goes to the node that is the home of more gateways")

const (
	handOverLook = 500 * time.Millisecond // pause between two looks
	// countHomes is how long a count of gateways, and of the runs there, holds.
	countHomes = 5 * time.Second
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
// more gateways, or of as many and with runs there that nobody reads, which this
// one has not; empty: there is none.
func (h home) better(self string, nodes []messages.Node, gateways []messages.Gateway, unread func(home) bool) string {
	own := h.gateways(gateways)
	best, most, equal := "", own, ""
	for _, n := range nodes {
		other := home{node: nodeName(n.ID), id: n.Home}
		if n.ID == self || other == h {
			continue
		}
		count := other.gateways(gateways)
		switch {
		case count > most:
			best, most = n.ID, count
		case count == own && count > 0 && equal == "" && unread(other):
			equal = n.ID
		}
	}
	if best == "" && equal != "" && !unread(h) {
		return equal
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
		to, err := a.betterHome(ctx, true)
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

// betterHome looks at the nodes that the newest renewal saw. While this node
// works, the runs of its own home are read.
func (a *App) betterHome(ctx context.Context, works bool) (string, error) {
	nodes, _ := a.lease.Nodes()
	if len(nodes) < 2 {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, cluster.TTL)
	defer cancel()
	bound, err := a.census.rows(ctx, a.repos.Gateways)
	if err != nil {
		return "", err
	}
	return a.home.better(a.nodeID, nodes, bound, func(h home) bool {
		return !(works && h == a.home) && a.census.unread(ctx, a.store, h)
	}), nil
}

// census is what is known for a while of gateways that only their home reaches.
// It belongs to one goroutine at a time: the one that waits for the work, then
// the one that looks for a better home.
type census struct {
	at    time.Time
	bound []messages.Gateway // only what tells their home
	runs  map[string]bool    // ids of gateways that hold runs, nil: not asked yet
}

func (c *census) rows(ctx context.Context, repo persistence.Gateways) ([]messages.Gateway, error) {
	if !c.at.IsZero() && time.Since(c.at) < countHomes {
		return c.bound, nil
	}
	all, err := repo.List(ctx)
	if err != nil {
		return nil, err
	}
	c.at, c.bound, c.runs = time.Now(), nil, nil
	for _, g := range all {
		if g.HomeBound() {
			c.bound = append(c.bound, messages.Gateway{ID: g.ID, Managed: &messages.Managed{}, Node: g.Node, Home: g.Home})
		}
	}
	return c.bound, nil
}

// unread reports whether a home that does not work has runs at its gateways. A
// store that does not answer says no: the next count asks again.
func (c *census) unread(ctx context.Context, store persistence.Store, h home) bool {
	if c.runs == nil {
		c.runs = withRuns(ctx, store)
	}
	return slices.ContainsFunc(c.bound, func(g messages.Gateway) bool { return h.keeps(&g) && c.runs[g.ID] })
}

// withRuns are the gateways that hold runs, as far as the store answers. There are
// no more runs than the fleet has room for at a time.
func withRuns(ctx context.Context, store persistence.Store) map[string]bool {
	found := map[string]bool{}
	for cursor := ""; ; {
		page, next, err := store.Tasks(ctx, persistence.TaskFilter{States: atGateway, Brief: true}, cursor, 1000)
		if err != nil {
			return found
		}
		for i := range page {
			found[page[i].Gateway] = true
		}
		if cursor = next; next == "" {
			return found
		}
	}
}

// atGateway are the states of a task whose run a gateway holds.
var atGateway = []messages.TaskState{messages.Claimed, messages.Running, messages.Recovering, messages.Cancelling}

// ownRuns counts the tasks at gateways that the next node cannot reach. They
// get no others meanwhile, see parts.yielding.
func (a *App) ownRuns(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, cluster.TTL)
	defer cancel()
	bound, err := a.census.rows(ctx, a.repos.Gateways)
	if err != nil {
		return 1 // nobody knows
	}
	c := gatewayCommands{newCommands(a)}
	n := 0
	for _, g := range bound {
		if pid, ok := a.node.Gateway(g.ID); ok && a.home.keeps(&g) {
			if s, ok := c.inspect(ctx, pid); !ok || s.Status.Running > 0 {
				n++
			}
		}
	}
	return n
}

// yielding is true while a gateway that the next node cannot reach must get no
// new work, because this one hands over.
func (f *parts) yielding(bound bool) func() bool {
	return func() bool { return bound && f.app.yielding.Load() }
}

// courteous lets a better home go first for a moment, when the work is free.
func (a *App) courteous(ctx context.Context) (string, bool) {
	if !a.engine.Shared {
		return "", false
	}
	who, err := a.betterHome(ctx, false)
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
