package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/gateway/daemon"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/openclaw/launcher"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
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
	endpoints sync.Mutex // held while a gateway's URL is compared with the others' and written

	mu         sync.Mutex // one start of a pool at a time
	poolChange sync.Mutex // one change of a pool's row at a time
	poolUses   sync.Map   // a *poolUse of each pool that has its owner here
}

// takeUp starts everything that the store knows: pools before gateways, so
// that a demand finds its pool.
func (f *fleet) takeUp(ctx context.Context) error {
	if err := f.app.secrets.Reseal(ctx); err != nil {
		return err
	}
	gateways, err := f.app.repos.Gateways.List(ctx)
	if err != nil {
		return fmt.Errorf("list gateways: %w", err)
	}
	open, err := f.app.store.OpenPools(ctx)
	if err != nil {
		return fmt.Errorf("list pools with open tasks: %w", err)
	}
	if err := f.adoptPools(ctx, gateways, open); err != nil {
		return err
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

// poolConfig is a pool as configured, with defaults when it is a tenant's own that
// nobody has set; there is false when it is none of these. A pool of a tenant's
// name is that tenant's, whatever the row says.
func (f *fleet) poolConfig(ctx context.Context, id string) (p messages.Pool, there bool, err error) {
	p, err = f.app.repos.Pools.Get(ctx, id)
	if there = err == nil; errors.Is(err, persistence.ErrNotFound) {
		p, err = messages.Pool{ID: id, Tenant: messages.DefaultTenant}, nil
	}
	if err != nil {
		return p, false, err
	}
	_, err = f.app.repos.Tenants.Get(ctx, id)
	switch {
	case id == messages.DefaultTenant || err == nil:
		p.Tenant = id
		return p, true, nil
	case errors.Is(err, persistence.ErrNotFound):
		return p, there, nil
	}
	return p, false, err
}

// ensurePool starts a pool's owner unless it runs. ErrNotFound: there is no such
// pool, or none any more.
func (f *fleet) ensurePool(ctx context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	pool, there, err := f.poolConfig(ctx, id)
	if err == nil && !there {
		err = persistence.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("read pool %s: %w", id, err)
	}
	if _, ok := f.app.node.Pool(id); ok {
		f.poolUses.LoadOrStore(id, &poolUse{tenant: pool.Tenant})
		return nil
	}
	fence, err := f.app.ownPool(ctx, id)
	if err != nil {
		return err
	}
	err = f.app.node.AddPool(ctx, dispatch.Config{
		Pool: pool, Fence: fence, Store: f.app.store, Committer: f.app.node.Committer(),
		Logger: f.app.logger, Metrics: f.dispatch, Room: f.app.engine.Room,
	})
	if err != nil {
		return fmt.Errorf("start pool %s: %w", id, err)
	}
	f.poolUses.Store(id, &poolUse{tenant: pool.Tenant})
	return nil
}

// startFor starts the owner of a session's pool unless it runs. A pool that has no
// row goes to the session's tenant, see adoptPools. It is false for a session that
// was removed, perhaps together with its pool.
func (f *fleet) startFor(ctx context.Context, s messages.Session) (there bool, err error) {
	f.poolChange.Lock()
	defer f.poolChange.Unlock()
	if _, runs := f.app.node.Pool(s.Pool); runs {
		return true, nil
	}
	_, err = f.app.store.Session(ctx, s.Tenant, s.ID)
	if errors.Is(err, persistence.ErrNotFound) {
		return false, nil
	}
	if err == nil {
		_, err = f.adopt(ctx, s.Pool, func() (string, error) { return s.Tenant, nil })
	}
	if err == nil {
		err = f.ensurePool(ctx, s.Pool)
	}
	return err == nil, err
}

// adoptPools gives pools that have no row, but gateways or open tasks (an earlier
// release let gateways name any), to the tenant of the first of these, and tells
// of gateways in a pool of another tenant.
func (f *fleet) adoptPools(ctx context.Context, gateways []messages.Gateway, open []string) error {
	for _, g := range gateways {
		p, err := f.adopt(ctx, g.Pool, func() (string, error) { return g.Tenant, nil })
		if err != nil {
			return err
		}
		if p.Tenant != g.Tenant {
			f.app.logger.Warn("the gateway is in a pool of another tenant, so its own tenant cannot submit to it", slog.String("gateway", g.ID),
				slog.String("tenant", g.Tenant), slog.String("pool", g.Pool), slog.String("next", fmt.Sprintf(next.MoveToOwnPool, g.ID, g.Tenant)))
		}
	}
	for _, id := range open {
		_, err := f.adopt(ctx, id, func() (string, error) {
			tasks, _, err := f.app.store.OpenTasks(ctx, id, "", 1)
			if err != nil || len(tasks) == 0 {
				return messages.DefaultTenant, err
			}
			return tasks[0].Tenant, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *fleet) adopt(ctx context.Context, id string, user func() (tenant string, err error)) (messages.Pool, error) {
	p, _, err := f.poolConfig(ctx, id)
	if err != nil || p.Version != 0 || id == messages.OwnPool(p.Tenant) {
		return p, persistence.Refusal(err, "pool", id)
	}
	if p.Tenant, err = user(); err != nil {
		return p, fmt.Errorf("read pool %s: %w", id, err)
	}
	p.CreatedAt = messages.Now()
	if p, err = f.app.repos.Pools.Put(ctx, p); err != nil {
		return p, fmt.Errorf("make pool %s: %w", id, err)
	}
	f.app.logger.Info("the pool belongs to the tenant that uses it", slog.String("pool", id), slog.String("tenant", p.Tenant))
	return p, nil
}

// startGateway starts a gateway's owner.
func (f *fleet) startGateway(ctx context.Context, g messages.Gateway, last messages.GatewayStatus) error {
	fence, err := f.app.own(ctx, messages.GatewayScope, g.ID)
	if err != nil {
		return err
	}
	if g, err = f.claimHome(ctx, g); err != nil {
		return err
	}
	cfg := gateway.Config{
		Gateway: g, Fence: fence, Last: last, Store: f.app.store, Committer: f.app.node.Committer(),
		Pool: f.pool, History: f.history, Text: f.app.feed.Text, Trouble: f.app.feed.Trouble, Dial: f.app.deps.Dial,
		OpenClaw: openclaw.Config{Version: f.app.deps.Version, Metrics: f.openclaw, Allow: f.app.networks.Allowed},
		Timing:   gateway.Timing{RetryWindow: f.app.cfg.OpenClawRetryWindow},
		Logger:   f.app.logger, Metrics: f.gateways, Memory: f.memory, Restarts: f.app.node.Restarts(),
		Boots: f.boots, Live: f.app.lease.Live, Elsewhere: f.elsewhere,
		Yielding: f.yielding(g.HomeBound()),
		Lost:     func(id string) { f.app.logger.Warn("gateway is owned elsewhere", slog.String("gateway", id)) },
	}
	if g.Managed != nil {
		cfg.Process = daemon.New(f.launcher, f.app.cfg.OpenClawAutoStart, g)
	}
	return f.app.node.AddGateway(ctx, cfg)
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
