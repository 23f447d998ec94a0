package app

import (
	"context"
	"fmt"

	"github.com/dash-fleet/dash/cluster"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// startLease takes the node's lease and keeps it.
func (a *App) startLease(ctx context.Context) error {
	a.lease = cluster.New(cluster.Config{
		Store: a.store, Shared: a.engine.Shared, Logger: a.logger, Lost: a.lost,
		Self: messages.Node{ID: a.nodeID, Addr: a.addr, Region: a.cfg.Region, Version: a.deps.Version, Sees: 1, Home: a.home.id},
	})
	nodes, err := a.lease.Renew(ctx)
	if err != nil {
		return err
	}
	if err := a.refuseTwin(ctx, nodes); err != nil {
		return err
	}
	a.lease.Keep()
	a.cleanup.add("lease", a.lease.Stop)
	return nil
}

func (a *App) leaseCheck() server.Check {
	if !a.lease.Live() {
		return server.Check{Name: "lease", Detail: "the node's lease has not been renewed in time; another node may take over"}
	}
	return server.Check{Name: "lease", OK: true, Detail: "valid"}
}

// own takes what the node is to own and returns the fence for its writes.
func (a *App) own(ctx context.Context, scope messages.Scope, key string) (messages.Fence, error) {
	if a.rebuilding.Load() {
		// It starts anew: what it took now it would only give back.
		return messages.Fence{}, fmt.Errorf("take %s while the store is rebuilt: %w", key, persistence.ErrUnavailable)
	}
	return a.lease.Take(ctx, scope, key)
}
