package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// PoolConfig is a pool as configured, with defaults when it is a tenant's own that
// nobody has set; there is false when it is none of these. A pool of a tenant's
// name is that tenant's, whatever the row says.
func (f *Fleet) PoolConfig(ctx context.Context, id string) (p messages.Pool, there bool, err error) {
	p, err = f.cfg.Repos.Pools.Get(ctx, id)
	if there = err == nil; errors.Is(err, persistence.ErrNotFound) {
		p, err = messages.Pool{ID: id, Tenant: messages.DefaultTenant}, nil
	}
	if err != nil {
		return p, false, err
	}
	_, err = f.cfg.Repos.Tenants.Get(ctx, id)
	if err != nil && !errors.Is(err, persistence.ErrNotFound) {
		return p, false, err
	}
	p, there = whose(p, there, err == nil)
	return p, there, nil
}

// EnsurePool starts a pool's owner now unless it runs. ErrNotFound: there is no such
// pool, or none any more.
func (f *Fleet) EnsurePool(ctx context.Context, id string) error {
	if err := f.begin(ctx); err != nil {
		return err
	}
	defer f.end()
	pool, there, err := f.PoolConfig(ctx, id)
	if err == nil && !there {
		err = persistence.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("read pool %s: %w", id, err)
	}
	return f.startPool(ctx, pool, false)
}

func (f *Fleet) startPool(ctx context.Context, p messages.Pool, again bool) error {
	if _, runs := f.cfg.Node.Pool(p.ID); runs {
		f.uses.LoadOrStore(p.ID, &poolUse{tenant: p.Tenant})
		return nil
	}
	if err := f.shard(ctx, p.ID, again); err != nil {
		return err
	}
	if err := f.cfg.Node.AddPool(ctx, f.cfg.Pool(p)); err != nil {
		return fmt.Errorf("start pool %s: %w", p.ID, ended(err))
	}
	f.uses.Store(p.ID, &poolUse{tenant: p.Tenant})
	return nil
}

// stopPool ends the owner of a pool that is no more, once nobody uses it.
func (f *Fleet) stopPool(ctx context.Context, id string) error {
	if v, known := f.uses.Load(id); known {
		open, err := v.(*poolUse).take(ctx, id)
		if err != nil {
			return err
		}
		defer open()
	}
	if err := f.cfg.Node.RemovePool(ctx, id); err != nil {
		return fmt.Errorf("stop pool %s: %w", id, err)
	}
	f.uses.Delete(id)
	f.cfg.Metrics.Forget(id)
	return nil
}

// RemovePool ends a pool's owner for whoever has the pool alone; see actors.Node. Removed
// follows.
func (f *Fleet) RemovePool(ctx context.Context, id string) error {
	if err := f.Away(id); err != nil {
		return err
	}
	return ended(f.cfg.Node.RemovePool(ctx, id))
}

// goesOnIn bounds the start of a new owner after a removal that failed.
const goesOnIn = 10 * time.Second

// Removed ends the removal of a pool whose owner was ended: who waits to use it looks
// again. If its row is there, because the removal failed, a new owner follows, now or
// with the next pass.
func (f *Fleet) Removed(ctx context.Context, id string) {
	f.uses.Delete(id)
	ctx, cancel := context.WithTimeout(ctx, goesOnIn)
	defer cancel()
	switch err := f.EnsurePool(ctx, id); {
	case errors.Is(err, persistence.ErrNotFound):
		f.cfg.Metrics.Forget(id)
	case err != nil:
		f.Wake()
	}
}

// StartFor starts the owner of a session's pool unless it runs. A pool that has no
// row goes to the session's tenant, see adoptPools. It is false for a session that
// was removed, perhaps together with its pool.
func (f *Fleet) StartFor(ctx context.Context, s messages.Session) (there bool, err error) {
	done, err := f.ChangePools(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	if _, runs := f.cfg.Node.Pool(s.Pool); runs {
		return true, nil
	}
	_, err = f.cfg.Store.Session(ctx, s.Tenant, s.ID)
	if errors.Is(err, persistence.ErrNotFound) {
		return false, nil
	}
	p, _, err2 := f.PoolConfig(ctx, s.Pool)
	if err = errors.Join(err, err2); err == nil {
		_, err = f.adopt(ctx, p, func() (string, error) { return s.Tenant, nil })
	}
	if err == nil {
		err = f.EnsurePool(ctx, s.Pool)
	}
	return err == nil, err
}

// adoptPools gives pools that have no row, but gateways or open tasks (an earlier
// release let gateways name any), to the tenant of the first of these, and tells
// of gateways in a pool of another tenant.
func (f *Fleet) adoptPools(ctx context.Context, r *rows) error {
	adopt := func(id string, user func() (string, error)) (messages.Pool, error) {
		p, _ := r.pool(id)
		p, err := f.adopt(ctx, p, user)
		if err == nil && p.Version != 0 {
			r.pools[id] = p
		}
		return p, err
	}
	for _, g := range r.gateways {
		p, err := adopt(g.Pool, func() (string, error) { return g.Tenant, nil })
		if err != nil {
			return err
		}
		if p.Tenant != g.Tenant && !f.told {
			f.cfg.Logger.Warn("the gateway is in a pool of another tenant, so its own tenant cannot submit to it", slog.String("gateway", g.ID),
				slog.String("tenant", g.Tenant), slog.String("pool", g.Pool), slog.String("next", fmt.Sprintf(next.MoveToOwnPool, g.ID, g.Tenant)))
		}
	}
	for _, id := range r.open {
		_, err := adopt(id, func() (string, error) {
			tasks, _, err := f.cfg.Store.OpenTasks(ctx, id, "", 1)
			if err != nil || len(tasks) == 0 {
				return messages.DefaultTenant, err
			}
			return tasks[0].Tenant, nil
		})
		if err != nil {
			return err
		}
	}
	f.told = true
	return nil
}

// adopt makes the row of a pool that has none for the tenant that uses it.
func (f *Fleet) adopt(ctx context.Context, p messages.Pool, user func() (tenant string, err error)) (messages.Pool, error) {
	if p.Version != 0 || p.ID == messages.OwnPool(p.Tenant) {
		return p, nil
	}
	id := p.ID
	var err error
	if p.Tenant, err = user(); err != nil {
		return p, fmt.Errorf("read pool %s: %w", id, err)
	}
	p.CreatedAt = messages.Now()
	if p, err = f.cfg.Repos.Pools.Put(ctx, p); err != nil {
		return p, fmt.Errorf("make pool %s: %w", id, err)
	}
	f.cfg.Logger.Info("the pool belongs to the tenant that uses it", slog.String("pool", id), slog.String("tenant", p.Tenant))
	return p, nil
}
