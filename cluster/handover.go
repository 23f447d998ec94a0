package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

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
	// courteousFor is how long a node lets the better home take what is free.
	courteousFor = 3 * time.Second
)

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

// courtesy is since when a node lets a better home go first, as the work is free;
// zero: it does not. It is pure: the time comes in.
type courtesy struct{ since time.Time }

// waits says whether a better home, empty for none, is to take the work first. free
// is whether nobody has it.
func (c *courtesy) waits(better string, free bool, now time.Time) bool {
	if better == "" || !free {
		c.since = time.Time{}
		return false
	}
	if c.since.IsZero() {
		c.since = now
	}
	return now.Sub(c.since) < courteousFor
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
func (c *census) unread(ctx context.Context, store Tasks, h Home) bool {
	if c.runs == nil {
		c.runs = withRuns(ctx, store)
	}
	return slices.ContainsFunc(c.bound, func(g messages.Gateway) bool { return h.Keeps(&g) && c.runs[g.ID] })
}

// withRuns are the gateways that hold runs, as far as the store answers. There are
// no more runs than the fleet has room for at a time.
func withRuns(ctx context.Context, store Tasks) map[string]bool {
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
