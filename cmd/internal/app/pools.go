package app

import (
	"context"
	"slices"
	"strings"

	"github.com/dash-fleet/dash/messages"
)

// poolCommands implements server.Pools.
type poolCommands struct{ *commands }

// List implements server.Pools: what is configured and what is in use.
func (c poolCommands) List(ctx context.Context, tenant string) ([]messages.Pool, error) {
	rows, err := c.app.repos.Pools.List(ctx)
	if err != nil {
		return nil, refused(err, "pool", "")
	}
	known := map[string]bool{}
	for _, p := range rows {
		known[p.ID] = true
	}
	for _, id := range c.app.node.Pools() {
		if !known[id] {
			rows = append(rows, messages.Pool{ID: id, Tenant: messages.DefaultTenant})
		}
	}
	rows = slices.DeleteFunc(rows, func(p messages.Pool) bool { return tenant != "" && p.Tenant != tenant })
	slices.SortFunc(rows, func(a, b messages.Pool) int { return strings.Compare(a.ID, b.ID) })
	return rows, nil
}

// Get implements server.Pools.
func (c poolCommands) Get(ctx context.Context, tenant, id string) (messages.Pool, error) {
	all, err := c.List(ctx, tenant)
	if err != nil {
		return messages.Pool{}, err
	}
	for _, p := range all {
		if p.ID == id {
			return p, nil
		}
	}
	return messages.Pool{}, notFound("pool", id)
}

// Put implements server.Pools.
func (c poolCommands) Put(ctx context.Context, p messages.Pool) (messages.Pool, error) {
	if err := c.app.onDuty(); err != nil {
		return p, err
	}
	if p.CreatedAt.IsZero() {
		p.CreatedAt = messages.Now()
	}
	stored, err := c.app.repos.Pools.Put(ctx, p)
	if err != nil {
		return p, refused(err, "pool", p.ID)
	}
	if err := c.app.fleet.ensurePool(ctx, stored.ID); err != nil {
		return stored, err
	}
	return stored, c.owners.SetPool(ctx, stored)
}
