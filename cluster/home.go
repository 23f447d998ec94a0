package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// Home is where gateways live that only one node can reach: the node's name
// and an id kept in its data folder, so that two nodes of one name, or on one
// host, differ. Without an id (the folder is temporary) the name alone counts.
type Home struct{ Node, ID string }

// HomeOf is the home that a living node is.
func HomeOf(n messages.Node) Home { return Home{Node: NodeName(n.ID), ID: n.Home} }

// incarnation is the length of the random end of a node's id.
const incarnation = 12

// NewNodeID is the id of one life of the node of this name.
func NewNodeID(name string) string {
	id := messages.NewID()
	return name + "-" + id[len(id)-incarnation:]
}

// NodeName takes the incarnation off a node's id.
func NodeName(id string) string { return id[:max(0, len(id)-incarnation-1)] }

// Keeps reports whether a node of this home may start and dial the gateway. One
// that nobody has claimed yet (made for another node, or by a release without
// homes) belongs to the first node of its name.
func (h Home) Keeps(g *messages.Gateway) bool {
	switch {
	case !g.HomeBound():
		return true
	case g.Home != "":
		return g.Home == h.ID
	}
	return g.Node == h.Node || g.Node == ""
}

// Elsewhere says why a node of this home, with the id self, must not start or dial the
// gateway, and what to do; an empty reason: it may.
func (h Home) Elsewhere(self string, g *messages.Gateway) (reason, step string) {
	if h.Keeps(g) {
		return "", ""
	}
	reason = "its home is node " + g.Node + ", and node " + self + " does the work: only its home starts and dials it"
	if g.Node == h.Node {
		reason = "its home is the node " + g.Node + " with another data folder, and node " + self + " does the work: only its home starts and dials it"
	}
	return reason, fmt.Sprintf(next.StartHome, g.Node, g.ID)
}

// Claim makes an unclaimed gateway that a node of this home may reach its own.
func (h Home) Claim(ctx context.Context, rows persistence.Gateways, g messages.Gateway, logger *slog.Logger) (messages.Gateway, error) {
	for h.ID != "" && g.Home == "" && g.HomeBound() && h.Keeps(&g) {
		g.Home, g.Node = h.ID, h.Node
		claimed, err := rows.Update(ctx, g)
		if err == nil {
			logger.Info("this node is the home of the gateway from now on", slog.String("gateway", g.ID))
			return claimed, nil
		}
		if !errors.Is(err, persistence.ErrVersion) {
			return g, fmt.Errorf("claim gateway %s: %w", g.ID, err)
		}
		if g, err = rows.Get(ctx, g.ID); err != nil {
			return g, fmt.Errorf("claim gateway %s: %w", g.ID, err)
		}
	}
	return g, nil
}

// Living is a node, other than the one of id self, that keeps the gateway.
func Living(self string, nodes []messages.Node, g *messages.Gateway) (messages.Node, bool) {
	for _, n := range nodes {
		if n.ID != self && HomeOf(n).Keeps(g) {
			return n, true
		}
	}
	return messages.Node{}, false
}

// Lost are the gateways whose home has this node's name and another data
// folder, and is not alive.
func (h Home) Lost(self string, nodes []messages.Node, all []messages.Gateway) (ids []string) {
	for i := range all {
		g := &all[i]
		if _, alive := Living(self, nodes, g); g.HomeBound() && g.Node == h.Node && !h.Keeps(g) && !alive {
			ids = append(ids, g.ID)
		}
	}
	return ids
}

// gateways counts those that only this home can reach.
func (h Home) gateways(all []messages.Gateway) (n int) {
	for i := range all {
		if all[i].HomeBound() && h.Keeps(&all[i]) {
			n++
		}
	}
	return n
}

// better returns the id of a node, other than this one, that is the home of
// more gateways, or of as many and with runs there that nobody reads, which this
// one has not; empty: there is none.
func (h Home) better(self string, nodes []messages.Node, gateways []messages.Gateway, unread func(Home) bool) string {
	own := h.gateways(gateways)
	best, most, equal := "", own, ""
	for _, n := range nodes {
		other := HomeOf(n)
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
