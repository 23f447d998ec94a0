package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// A home can be lost for good: its data folder was temporary, or its disk is
// gone. Only an operator knows, and gives its gateways another home.

// Homes says where gateways live that one node alone can reach, and gives them another
// home. With the embedded store there is one node, and everything is at home.
type Homes struct {
	Own    Home
	Lease  *Lease
	Logger *slog.Logger
	// StateDir is the state folder of a managed gateway on this node, and whether it is
	// there; own is the one that its configuration names, if any.
	StateDir func(gateway, own string) (dir string, there bool)
}

func (h *Homes) shared() bool { return h.Lease.cfg.Shared }

// Elsewhere says why this node must not start or dial the gateway, and what to do; an
// empty reason: it may.
func (h *Homes) Elsewhere(g messages.Gateway) (reason, step string) {
	if !h.shared() {
		return "", ""
	}
	return h.Own.Elsewhere(h.Lease.cfg.Self.ID, &g)
}

// target is the home that is asked for, and whether it is this node's own.
func (h *Homes) target(name string, nodes []messages.Node) (to Home, own bool, err error) {
	if name == "" || name == h.Own.Node {
		return h.Own, true, nil
	}
	var found []Home
	for _, n := range nodes {
		if home := HomeOf(n); home.Node == name {
			found = append(found, home)
		}
	}
	if len(found) == 1 {
		return found[0], false, nil
	}
	why := "no node " + name + " is alive"
	if len(found) > 1 {
		why = fmt.Sprintf("%d living nodes are called %s", len(found), name)
	}
	return Home{}, false, &messages.Error{
		Code: messages.CodeInvalid, Message: why, NextStep: next.NameLivingNode,
		Fields: []messages.FieldError{{Pointer: "/node", Detail: "must be the name of one living node"}},
	}
}

// Settle gives a new gateway the home that was asked for, which has to live:
// a name with a slip of the pen would never be anybody's.
func (h *Homes) Settle(g *messages.Gateway) error {
	own := h.Own.Node
	if g.Node == "" || !g.HomeBound() {
		if g.Node == "" || g.Node == own {
			h.Here(g)
		}
		return nil
	}
	if g.Node != own && !h.shared() {
		return &messages.Error{
			Code: messages.CodeInvalid, Message: "with the embedded store there is one node, " + own + ", the home of every gateway", NextStep: next.LeaveHomeOut,
			Fields: []messages.FieldError{{Pointer: "/node", Detail: "must be " + own + ", or left out"}},
		}
	}
	if !h.shared() {
		return nil
	}
	nodes, _ := h.Lease.Nodes()
	to, _, err := h.target(g.Node, nodes)
	if err != nil {
		return err
	}
	g.Node, g.Home = to.Node, to.ID
	return nil
}

// Here makes this node the home of a gateway.
func (h *Homes) Here(g *messages.Gateway) {
	if g.Node = h.Own.Node; h.shared() && g.HomeBound() {
		g.Home = h.Own.ID
	}
}

// Move gives the gateway the home that node, empty for this one, is; fresh: without the
// folder of a managed one. Nobody must be able to start it or to
// dial it twice, so the present home has to be dead, or the same.
func (h *Homes) Move(g *messages.Gateway, node string, fresh bool) error {
	wrong := func(code messages.Code, step, format string, args ...any) error {
		return &messages.Error{Code: code, Message: fmt.Sprintf(format, args...), NextStep: step}
	}
	switch {
	case !h.shared() && g.HomeBound() && node == h.Own.Node:
		return nil // it is
	case !h.shared():
		return wrong(messages.CodeInvalid, next.LeaveHomeOut, "with the embedded store there is one node, the home of every gateway")
	case !g.HomeBound():
		return wrong(messages.CodeInvalid, next.LeaveHomeOut, "every node reaches gateway %s, so it has no home", g.ID)
	}
	nodes, _ := h.Lease.Nodes()
	to, own, err := h.target(node, nodes)
	if err != nil {
		return err
	}
	moved := *g
	moved.Node, moved.Home = to.Node, to.ID
	if to.Keeps(g) { // it is already, or was made for a node of that name
		*g = moved
		return nil
	}
	if !own && h.Own.Keeps(g) {
		return wrong(messages.CodeWrongState, fmt.Sprintf(next.StopHomeFirst, h.Own.Node), "its home, node %s, is alive and does the work: two homes would run its tasks twice", h.Lease.Named(h.Lease.cfg.Self.ID))
	}
	if n, alive := Living(h.Lease.cfg.Self.ID, nodes, g); alive && HomeOf(n) != to {
		return wrong(messages.CodeWrongState, fmt.Sprintf(next.StopHomeFirst, NodeName(n.ID)), "its home, node %s, is alive: two homes would run its tasks twice", h.Lease.Named(n.ID))
	}
	if g.Managed != nil && !fresh {
		if !own {
			return wrong(messages.CodeWrongState, fmt.Sprintf(next.FreshAtNode, to.Node, g.ID, to.Node), "node %s cannot see whether node %s has the state folder of gateway %s", h.Own.Node, to.Node, g.ID)
		}
		if dir, there := h.StateDir(g.ID, g.Managed.StateDir); !there {
			return wrong(messages.CodeWrongState, fmt.Sprintf(next.CopyFolderOrFresh, dir, g.ID), "its state folder is not on this node (%s): the sessions and the memory that it kept are at its old home", dir)
		}
	}
	h.Logger.Warn("the gateway gets another home", slog.String("gateway", g.ID), slog.String("old_node", g.Node), slog.String("old_home", g.Home),
		slog.String("node", to.Node), slog.String("home", to.ID), slog.Bool("fresh", fresh))
	*g = moved
	return nil
}

// namedIDs bounds a list of ids in one line of the log.
const namedIDs = 10

// WarnOfLost tells of what this node's name was the home of: a node whose data folder is not the one it had before cannot
// reach the gateways that it made.
func (h *Homes) WarnOfLost(ctx context.Context, rows persistence.Gateways, data string) error {
	if !h.shared() {
		return nil
	}
	all, err := rows.List(ctx)
	if err != nil {
		return fmt.Errorf("list gateways: %w", err)
	}
	nodes, _ := h.Lease.Nodes()
	ids := h.Own.Lost(h.Lease.cfg.Self.ID, nodes, all)
	if len(ids) == 0 {
		return nil
	}
	words := strings.Join(ids[:min(namedIDs, len(ids))], ", ")
	if len(ids) > namedIDs {
		words += ", …"
	}
	h.Logger.Warn("gateways of a node of this name have their home in another data folder, so this node neither starts nor dials them",
		slog.Int("count", len(ids)), slog.String("gateways", words), slog.String("data", data), slog.String("next", next.KeepDataOrClaim))
	return nil
}
