package servertest

import (
	"context"

	"github.com/dash-fleet/dash/messages"
)

type pools Fake

func (f *pools) List(ctx context.Context, tenant string) ([]messages.Pool, error) {
	if err := (*Fake)(f).enter(ctx, "ListPools"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []messages.Pool
	for _, p := range sorted(f.pools) {
		if tenant == "" || p.Tenant == tenant {
			out = append(out, p)
		}
	}
	return out, nil
}

func (f *pools) Get(ctx context.Context, tenant, id string) (messages.Pool, error) {
	if err := (*Fake)(f).enter(ctx, "GetPool"); err != nil {
		return messages.Pool{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.pools[id]
	if !ok || (tenant != "" && p.Tenant != tenant) {
		return p, refuse(messages.CodeNotFound, "there is no pool %s", id)
	}
	return p, nil
}

func (f *pools) Put(ctx context.Context, tenant string, p messages.Pool) (messages.Pool, error) {
	if err := (*Fake)(f).enter(ctx, "PutPool"); err != nil {
		return p, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old, ok := f.pools[p.ID]
	switch {
	case ok && tenant != "" && old.Tenant != tenant && p.Version == 0:
		return p, refuse(messages.CodeConflict, "the id %s is not free", p.ID)
	case (!ok || tenant != "" && old.Tenant != tenant) && p.Version != 0:
		return p, refuse(messages.CodeNotFound, "there is no pool %s", p.ID)
	case old.Version != p.Version:
		return p, refuse(messages.CodeVersionClash, "the version is %d", old.Version)
	}
	p.Version, p.CreatedAt = p.Version+1, messages.Now()
	f.pools[p.ID] = p
	return p, nil
}

func (f *pools) Delete(ctx context.Context, tenant, id string) error {
	if err := (*Fake)(f).enter(ctx, "DeletePool"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.pools[id]
	switch {
	case !ok || tenant != "" && p.Tenant != tenant:
		return refuse(messages.CodeNotFound, "there is no pool %s", id)
	case id == messages.OwnPool(p.Tenant):
		return refuse(messages.CodeWrongState, "the pool %s is the own one of tenant %s", id, p.Tenant)
	}
	delete(f.pools, id)
	return nil
}
