package app

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// leaseTTL is how long a node is believed to live without a renewal; it is
// renewed five times as often.
const leaseTTL = 2 * time.Second

// startLease takes the node's lease and keeps it. With the embedded store the
// process holds the file's lock, so nobody can take over while it lives and a
// missed renewal only shows in the log.
func (a *App) startLease(ctx context.Context) error {
	if _, err := a.store.Renew(ctx, a.self(), leaseTTL); err != nil {
		return fmt.Errorf("take node lease: %w", err)
	}
	run, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.renew(run)
	}()
	a.cleanup.add("lease", func(context.Context) error { cancel(); <-done; return nil })
	return nil
}

func (a *App) renew(ctx context.Context) {
	t := time.NewTicker(leaseTTL / 5)
	defer t.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		call, cancel := context.WithTimeout(ctx, leaseTTL/4)
		_, err := a.store.Renew(call, a.self(), leaseTTL)
		cancel()
		if err != nil && ctx.Err() == nil && !failing {
			a.logger.Warn("node lease was not renewed", slog.Any("err", err))
		}
		failing = err != nil
	}
}

func (a *App) self() persistence.Node {
	return persistence.Node{ID: a.nodeID, Addr: a.cfg.Listen, Region: a.cfg.Region, Version: a.deps.Version, Sees: 1}
}

// own takes what the node is to own and returns the fence for its writes.
func (a *App) own(ctx context.Context, scope persistence.Scope, key string) (persistence.Fence, error) {
	f, err := a.store.Take(ctx, scope, key, a.nodeID)
	if err != nil {
		return f, fmt.Errorf("take %s: %w", key, err)
	}
	return f, nil
}

func (a *App) ownPool(ctx context.Context, pool string) (persistence.Fence, error) {
	return a.own(ctx, persistence.ShardScope, strconv.Itoa(messages.Shard(pool, persistence.Shards)))
}
