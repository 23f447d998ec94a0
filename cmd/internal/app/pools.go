package app

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
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
	if err := c.tenantExists(ctx, p.Tenant); err != nil {
		return p, err
	}
	if err := c.keepsTenant(ctx, p); err != nil {
		return p, err
	}
	if err := reservesTooMuch(p); err != nil {
		return p, err
	}
	old, err := c.app.repos.Pools.Get(ctx, p.ID)
	if err == nil && old.Version == p.Version && old.Same(&p) {
		return old, nil // as it is: a new version would only clash with others' changes
	}
	if p.CreatedAt.IsZero() {
		p.CreatedAt = messages.Now()
	}
	var before map[string]any
	if err == nil {
		before = recordedPool(old)
	}
	stored, err := c.app.repos.Pools.Put(auditing(ctx, p.ID, before, recordedPool(p)), p)
	if err != nil {
		return p, refused(err, "pool", p.ID)
	}
	if err := c.app.fleet.ensurePool(ctx, stored.ID); err != nil {
		return stored, err
	}
	return stored, c.owners.SetPool(ctx, stored)
}

// reservesTooMuch refuses to keep more slots free than the pool may use. What
// its gateways have can change: that is a warning of the queue.
func reservesTooMuch(p messages.Pool) error {
	sum := 0
	for _, n := range p.Reserved {
		sum += n
	}
	if p.MaxConcurrency == 0 || sum <= p.MaxConcurrency {
		return nil
	}
	return &messages.Error{
		Code: messages.CodeInvalid, Message: fmt.Sprintf("%d slots are reserved, and the pool runs at most %d at once", sum, p.MaxConcurrency),
		NextStep: next.ReserveFewerSlots, Fields: []messages.FieldError{{Pointer: "/reserved", Detail: fmt.Sprintf("the sum is above max_concurrency, %d", p.MaxConcurrency)}},
	}
}

// keepsTenant refuses to give a pool that is in use to another tenant: its
// gateways, sessions and tasks would stay with the old one.
func (c poolCommands) keepsTenant(ctx context.Context, p messages.Pool) error {
	old, err := c.app.fleet.poolConfig(ctx, p.ID)
	if err != nil {
		return refused(err, "pool", p.ID)
	}
	if old.Tenant == p.Tenant {
		return nil
	}
	what, advice, err := c.inUse(ctx, p.ID)
	if err != nil || what == "" {
		return refused(err, "pool", p.ID)
	}
	return &messages.Error{
		Code: messages.CodeWrongState, Message: "the pool " + p.ID + " has " + what + ", so it must stay with tenant " + old.Tenant,
		NextStep: fmt.Sprintf(next.OrOtherPool, advice, p.Tenant),
		Fields:   []messages.FieldError{{Pointer: "/tenant", Detail: "belongs to another tenant"}},
	}
}

// inUse names one thing that a pool has and what to do about it; what is empty
// for a pool that nobody uses.
func (c poolCommands) inUse(ctx context.Context, id string) (what, advice string, err error) {
	gateways, err := c.app.repos.Gateways.List(ctx)
	if err != nil {
		return "", "", err
	}
	for _, g := range gateways {
		if g.Pool == id {
			return "the gateway " + g.ID, next.RemoveGatewaysFirst, nil
		}
	}
	open, err := c.app.store.OpenPools(ctx)
	if err != nil {
		return "", "", err
	}
	if slices.Contains(open, id) {
		return "tasks that have not ended", next.WaitOrCancelFirst, nil
	}
	const page = 200
	for after := ""; ; {
		rows, err := c.app.store.Sessions(ctx, "", id, after, page)
		if err != nil {
			return "", "", err
		}
		for _, s := range rows {
			if s.State != messages.SessionClosed {
				return "the session " + s.ID, next.CloseSessionsFirst, nil
			}
			after = persistence.SessionPlace(s)
		}
		if len(rows) < page {
			return "", "", nil
		}
	}
}
