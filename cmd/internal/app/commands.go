package app

import (
	"context"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/cluster"
	"github.com/dash-fleet/dash/cmd/internal/requests"
	"github.com/dash-fleet/dash/http/events"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// commands turns what the API asks into messages to owners and reads of the store.
type commands struct {
	app    *App
	owners *dispatch.Client
}

func newCommands(a *App) *commands {
	c := &commands{app: a}
	c.owners = &dispatch.Client{Send: a.node.Root(), Pool: c.pool, Entry: c.entry, Left: a.node.Left, Store: a.store, InDoubt: a.commits.InDoubt}
	return c
}

func (c *commands) tasks() *requests.Tasks {
	return &requests.Tasks{
		Store: c.app.store, Tenants: c.app.tenants, Owners: c.owners, Feed: c.app.feed, Pools: c.pools().List, Absent: c.absent, Away: c.app.fleet.Away,
	}
}

func (c *commands) pools() *requests.Pools {
	return &requests.Pools{Store: c.app.store, Repos: &c.app.repos, Tenants: c.app.tenants, Owners: c.owners, Fleet: c.app.fleet, Works: c.app.onDuty}
}

func (c *commands) gateways() *requests.Gateways {
	return &requests.Gateways{
		Store: c.app.store, Repos: &c.app.repos, Tenants: c.app.tenants, Owners: c.owners, Node: c.app.node, Fleet: c.app.fleet,
		Launch: c.app.parts.launcher, Starts: c.app.cfg.OpenClawAutoStart, Works: c.app.onDuty, Reachable: c.app.networks.Reachable, Homes: c.app.homes,
	}
}

func (c *commands) sessions() *requests.Sessions {
	return &requests.Sessions{Store: c.app.store, Gateways: c.app.repos.Gateways, Tenants: c.app.tenants, Owners: c.owners}
}

// pool returns the owner of a pool. A tenant's own one that nobody has used since
// the start has none yet, and gets it.
func (c *commands) pool(ctx context.Context, id string) (*actor.PID, error) {
	if err := c.app.onDuty(); err != nil {
		return nil, err
	}
	if pid, ok := c.app.node.Pool(id); ok {
		return pid, nil
	}
	if err := c.app.fleet.Away(id); err != nil {
		return nil, err
	}
	p, there, err := c.app.fleet.PoolConfig(ctx, id)
	if err == nil && there && id == messages.OwnPool(p.Tenant) {
		err = c.app.fleet.EnsurePool(ctx, id)
	}
	if err != nil {
		return nil, persistence.Refusal(err, "pool", id)
	}
	if pid, ok := c.app.node.Pool(id); ok {
		return pid, nil
	}
	if there {
		return nil, &messages.Error{Code: messages.CodeUnavailable, Message: "the pool " + id + " is being removed", NextStep: next.TryAgain, RetryAfter: time.Second}
	}
	return nil, &messages.Error{
		Code: messages.CodeWrongState, Message: fmt.Sprintf("there is no pool %q any more, and all that was in it has ended", id), NextStep: fmt.Sprintf(next.ListThem, "pool"),
	}
}

// entry returns the owner of a pool that a tenant may give work, sessions and
// gateways to. To others it is as if there was none. Until done the pool is not removed.
func (c *commands) entry(ctx context.Context, tenant, id string) (pool *actor.PID, done func(), err error) {
	if err := c.app.onDuty(); err != nil {
		return nil, nil, err
	}
	done, err = c.app.fleet.Use(ctx, tenant, id)
	switch {
	case err != nil:
		return nil, nil, persistence.Refusal(err, "pool", id)
	case done == nil:
		return nil, nil, requests.NoPool(tenant, id)
	}
	if pool, err = c.pool(ctx, id); err != nil {
		done()
	}
	return pool, done, err
}

// absent reports whether a pool has no owner here, although this node works.
func (c *commands) absent(pool string) bool {
	_, runs := c.app.node.Pool(pool)
	return !runs && c.app.onDuty() == nil
}

// eventLog gives watchers the log's past and present.
type eventLog struct{ *commands }

func (e eventLog) Events(ctx context.Context, since int64, limit int) ([]*messages.Event, int64, error) {
	return e.app.store.Events(ctx, since, limit)
}

func (e eventLog) LastSeq(ctx context.Context) (int64, error) { return e.app.store.LastSeq(ctx) }

func (e eventLog) Subscribe(buffer int) events.Subscription { return e.app.feed.Subscribe(buffer) }

// runTexts gives watchers the text of runs.
type runTexts struct{ *commands }

func (r runTexts) WatchRun(task string) events.RunWatch { return r.app.feed.WatchRun(task) }

// nodeCommands lists the nodes that this one saw when it last renewed its lease.
type nodeCommands struct{ *commands }

func (n nodeCommands) Nodes(ctx context.Context) ([]server.Node, error) {
	rows, at := n.app.lease.Nodes()
	if time.Since(at) > cluster.TTL {
		return nil, persistence.Refusal(fmt.Errorf("the lease of this node was not renewed since %s: %w", at.Format(time.RFC3339), persistence.ErrUnavailable), "node", n.app.nodeID)
	}
	worker, _ := n.app.lease.Worker(ctx)
	out := make([]server.Node, 0, len(rows))
	for _, r := range rows {
		out = append(out, server.Node{ID: r.ID, Addr: r.Addr, Region: r.Region, Version: r.Version, Expires: r.Expires, Works: r.ID == worker})
	}
	return out, nil
}
