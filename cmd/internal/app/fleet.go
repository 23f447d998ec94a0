package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/openclaw/launcher"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// fleet starts the owners of pools and gateways, at the node's start and when
// the API asks for new ones.
type fleet struct {
	app      *App
	launcher *launcher.Launcher
	dispatch *dispatch.Metrics
	gateways *gateway.Metrics
	openclaw *openclaw.Metrics

	boots     *gateway.Boots
	memory    *gateway.Memory
	networks  []netip.Prefix // that gateways may be in besides this machine
	endpoints sync.Mutex     // held while a gateway's URL is compared with the others' and written

	mu sync.Mutex // one start of a pool at a time
}

// takeUp starts everything that the store knows: pools before gateways, so
// that a demand finds its pool.
func (f *fleet) takeUp(ctx context.Context) error {
	if err := f.app.reseal(ctx); err != nil {
		return err
	}
	gateways, err := f.app.repos.Gateways.List(ctx)
	if err != nil {
		return fmt.Errorf("list gateways: %w", err)
	}
	pools, err := f.app.repos.Pools.List(ctx)
	if err != nil {
		return fmt.Errorf("list pools: %w", err)
	}
	ids := []string{messages.DefaultPool}
	for _, p := range pools {
		ids = append(ids, p.ID)
	}
	for _, g := range gateways {
		ids = append(ids, g.Pool)
	}
	open, err := f.app.store.OpenPools(ctx)
	if err != nil {
		return fmt.Errorf("list pools with open tasks: %w", err)
	}
	for _, id := range append(ids, open...) {
		if err := f.ensurePool(ctx, id); err != nil {
			return err
		}
	}
	statuses, err := f.app.store.GatewayStatuses(ctx)
	if err != nil {
		return fmt.Errorf("read gateway states: %w", err)
	}
	last := make(map[string]messages.GatewayStatus, len(statuses))
	for _, s := range statuses {
		if s.State != messages.GatewayRemoved { // else of an earlier gateway with that id
			last[s.ID] = s
		}
	}
	gateways = slices.DeleteFunc(gateways, func(g messages.Gateway) bool {
		_, runs := f.app.node.Gateway(g.ID) // by an earlier try, and knows its process better
		return runs
	})
	// Who was known to be a process before stays it, whoever connects first.
	for _, g := range gateways {
		if s := last[g.ID]; s.State != messages.GatewayQuarantined {
			f.boots.Claim(s.BootID, g.ID, g.Tenant)
		}
	}
	for _, g := range gateways {
		if err := f.startGateway(ctx, g, last[g.ID]); err != nil {
			return err
		}
	}
	return nil
}

// poolConfig is a pool as configured, or with defaults when nobody did.
func (f *fleet) poolConfig(ctx context.Context, id string) (messages.Pool, error) {
	p, err := f.app.repos.Pools.Get(ctx, id)
	if errors.Is(err, persistence.ErrNotFound) {
		return messages.Pool{ID: id, Tenant: messages.DefaultTenant}, nil
	}
	return p, err
}

// ensurePool starts a pool's owner unless it runs.
func (f *fleet) ensurePool(ctx context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.app.node.Pool(id); ok {
		return nil
	}
	pool, err := f.poolConfig(ctx, id)
	if err != nil {
		return fmt.Errorf("read pool %s: %w", id, err)
	}
	fence, err := f.app.ownPool(ctx, id)
	if err != nil {
		return err
	}
	err = f.app.node.AddPool(ctx, dispatch.Config{
		Pool: pool, Fence: fence, Store: f.app.store, Committer: f.app.node.Committer(),
		Logger: f.app.logger, Metrics: f.dispatch, Room: f.app.engine.room,
	})
	if err != nil {
		return fmt.Errorf("start pool %s: %w", id, err)
	}
	return nil
}

// startGateway starts a gateway's owner.
func (f *fleet) startGateway(ctx context.Context, g messages.Gateway, last messages.GatewayStatus) error {
	fence, err := f.app.own(ctx, persistence.GatewayScope, g.ID)
	if err != nil {
		return err
	}
	if g, err = f.claimHome(ctx, g); err != nil {
		return err
	}
	cfg := gateway.Config{
		Gateway: g, Fence: fence, Last: last, Store: f.app.store, Committer: f.app.node.Committer(),
		Pool: f.pool, History: f.history, Text: f.app.feed.Text, Trouble: f.app.feed.Trouble, Dial: f.app.deps.Dial,
		OpenClaw: openclaw.Config{Version: f.app.deps.Version, Metrics: f.openclaw, Allow: f.allowed},
		Timing:   gateway.Timing{RetryWindow: f.app.cfg.OpenClawRetryWindow},
		Logger:   f.app.logger, Metrics: f.gateways, Memory: f.memory, Restarts: f.app.node.Restarts(),
		Boots: f.boots, Live: f.app.live, Elsewhere: f.elsewhere,
		Yielding: f.yielding(g.HomeBound()),
		Lost:     func(id string) { f.app.logger.Warn("gateway is owned elsewhere", slog.String("gateway", id)) },
	}
	if g.Managed != nil {
		cfg.Process = &process{launcher: f.launcher, start: f.app.cfg.OpenClawAutoStart, gateway: g}
	}
	// A gateway of the same id may still be on its way out.
	for {
		err := f.app.node.AddGateway(ctx, cfg)
		if !errors.Is(err, actor.ErrNameExists) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("gateway %s is still stopping: %w", g.ID, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (f *fleet) pool(id string) *actor.PID {
	pid, _ := f.app.node.Pool(id)
	return pid
}

// history is what is replayed at the start of a session's new generation.
func (f *fleet) history(ctx context.Context, tenant, session string) (string, error) {
	s, err := f.app.store.Session(ctx, tenant, session)
	if err != nil && !errors.Is(err, persistence.ErrNotFound) {
		return "", err
	}
	tasks, err := dispatch.History(ctx, f.app.store, tenant, session)
	if err != nil {
		return "", err
	}
	return dispatch.Replayed(s.Turns(tasks)), nil
}

func dial(ctx context.Context, cfg openclaw.Config, h openclaw.Handler) (gateway.Link, error) {
	c, err := openclaw.Dial(ctx, cfg, h)
	if err != nil {
		return nil, err // not the nil *Conn inside an interface
	}
	return c, nil
}
