package app

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/dash-fleet/dash/cluster"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// A home can be lost for good: its data folder was temporary, or its disk is
// gone. Only an operator knows, and gives its gateways another home.

// target is the home that is asked for, and whether it is this node's own.
func (a *App) target(ch server.HomeChange, nodes []messages.Node) (to cluster.Home, own bool, err error) {
	if ch.Node == "" || ch.Node == a.home.Node {
		return a.home, true, nil
	}
	var found []cluster.Home
	for _, n := range nodes {
		if h := cluster.HomeOf(n); h.Node == ch.Node {
			found = append(found, h)
		}
	}
	if len(found) == 1 {
		return found[0], false, nil
	}
	why := "no node " + ch.Node + " is alive"
	if len(found) > 1 {
		why = fmt.Sprintf("%d living nodes are called %s", len(found), ch.Node)
	}
	return cluster.Home{}, false, &messages.Error{
		Code: messages.CodeInvalid, Message: why, NextStep: next.NameLivingNode,
		Fields: []messages.FieldError{{Pointer: "/node", Detail: "must be the name of one living node"}},
	}
}

// Settle gives a new gateway the home that was asked for, which has to live:
// a name with a slip of the pen would never be anybody's.
func (f *parts) Settle(g *messages.Gateway) error {
	own := f.app.home.Node
	if g.Node == "" || !g.HomeBound() {
		if g.Node == "" || g.Node == own {
			f.Here(g)
		}
		return nil
	}
	if g.Node != own && !f.app.engine.Shared {
		return &messages.Error{
			Code: messages.CodeInvalid, Message: "with the embedded store there is one node, " + own + ", the home of every gateway", NextStep: next.LeaveHomeOut,
			Fields: []messages.FieldError{{Pointer: "/node", Detail: "must be " + own + ", or left out"}},
		}
	}
	if !f.app.engine.Shared {
		return nil
	}
	nodes, _ := f.app.lease.Nodes()
	to, _, err := f.app.target(server.HomeChange{Node: g.Node}, nodes)
	if err != nil {
		return err
	}
	g.Node, g.Home = to.Node, to.ID
	return nil
}

// Here makes this node the home of a gateway.
func (f *parts) Here(g *messages.Gateway) {
	if g.Node = f.app.home.Node; f.app.engine.Shared && g.HomeBound() {
		g.Home = f.app.home.ID
	}
}

// Move gives the gateway another home. Nobody must be able to start it or to
// dial it twice, so the present home has to be dead, or the same.
func (f *parts) Move(g *messages.Gateway, ch server.HomeChange) error {
	a := f.app
	wrong := func(code messages.Code, step, format string, args ...any) error {
		return &messages.Error{Code: code, Message: fmt.Sprintf(format, args...), NextStep: step}
	}
	switch {
	case !a.engine.Shared && g.HomeBound() && ch.Node == a.home.Node:
		return nil // it is
	case !a.engine.Shared:
		return wrong(messages.CodeInvalid, next.LeaveHomeOut, "with the embedded store there is one node, the home of every gateway")
	case !g.HomeBound():
		return wrong(messages.CodeInvalid, next.LeaveHomeOut, "every node reaches gateway %s, so it has no home", g.ID)
	}
	nodes, _ := a.lease.Nodes()
	to, own, err := a.target(ch, nodes)
	if err != nil {
		return err
	}
	moved := *g
	moved.Node, moved.Home = to.Node, to.ID
	if to.Keeps(g) { // it is already, or was made for a node of that name
		*g = moved
		return nil
	}
	if !own && a.home.Keeps(g) {
		return wrong(messages.CodeWrongState, fmt.Sprintf(next.StopHomeFirst, a.home.Node), "its home, node %s, is alive and does the work: two homes would run its tasks twice", a.lease.Named(a.nodeID))
	}
	if n, alive := cluster.Living(a.nodeID, nodes, g); alive && cluster.HomeOf(n) != to {
		return wrong(messages.CodeWrongState, fmt.Sprintf(next.StopHomeFirst, cluster.NodeName(n.ID)), "its home, node %s, is alive: two homes would run its tasks twice", a.lease.Named(n.ID))
	}
	if g.Managed != nil && !ch.Fresh {
		if !own {
			return wrong(messages.CodeWrongState, fmt.Sprintf(next.FreshAtNode, to.Node, g.ID, to.Node), "node %s cannot see whether node %s has the state folder of gateway %s", a.home.Node, to.Node, g.ID)
		}
		if dir, there := a.parts.launcher.StateDir(g.ID, g.Managed.StateDir); !there {
			return wrong(messages.CodeWrongState, fmt.Sprintf(next.CopyFolderOrFresh, dir, g.ID), "its state folder is not on this node (%s): the sessions and the memory that it kept are at its old home", dir)
		}
	}
	a.logger.Warn("the gateway gets another home", slog.String("gateway", g.ID), slog.String("old_node", g.Node), slog.String("old_home", g.Home),
		slog.String("node", to.Node), slog.String("home", to.ID), slog.Bool("fresh", ch.Fresh))
	*g = moved
	return nil
}

// namedIDs bounds a list of ids in one line of the log.
const namedIDs = 10

// warnOfLostHomes: a node whose data folder is not the one it had before cannot
// reach the gateways that it made.
func (a *App) warnOfLostHomes(ctx context.Context) error {
	if !a.engine.Shared {
		return nil
	}
	all, err := a.repos.Gateways.List(ctx)
	if err != nil {
		return fmt.Errorf("list gateways: %w", err)
	}
	nodes, _ := a.lease.Nodes()
	ids := a.home.Lost(a.nodeID, nodes, all)
	if len(ids) == 0 {
		return nil
	}
	words := strings.Join(ids[:min(namedIDs, len(ids))], ", ")
	if len(ids) > namedIDs {
		words += ", …"
	}
	a.logger.Warn("gateways of a node of this name have their home in another data folder, so this node neither starts nor dials them",
		slog.Int("count", len(ids)), slog.String("gateways", words), slog.String("data", a.cfg.Data), slog.String("next", next.KeepDataOrClaim))
	return nil
}
