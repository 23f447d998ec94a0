package requests

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/actors/fleet"
	"github.com/dash-fleet/dash/cmd/internal/accounts"
	"github.com/dash-fleet/dash/cmd/internal/audit"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// Pools implements server.Pools.
type Pools struct {
	Store   persistence.Store
	Repos   *persistence.Repositories
	Tenants *accounts.Tenants
	Owners  *dispatch.Client
	Fleet   *fleet.Fleet
	// Works refuses while this node does no work.
	Works func() error
}

// List implements server.Pools: what is configured, and what each tenant has of its own.
func (c *Pools) List(ctx context.Context, tenant string) ([]messages.Pool, error) {
	rows, err := c.Repos.Pools.List(ctx)
	if err != nil {
		return nil, persistence.Refusal(err, "pool", "")
	}
	tenants, err := c.Repos.Tenants.List(ctx)
	if err != nil {
		return nil, persistence.Refusal(err, "tenant", "")
	}
	all := map[string]messages.Pool{}
	for _, p := range rows {
		all[p.ID] = p
	}
	for _, id := range append(ids(tenants), messages.DefaultTenant) {
		own := messages.OwnPool(id)
		p := all[own]
		p.ID, p.Tenant = own, id
		all[own] = p
	}
	rows = slices.DeleteFunc(slices.Collect(maps.Values(all)), func(p messages.Pool) bool { return tenant != "" && p.Tenant != tenant })
	slices.SortFunc(rows, func(a, b messages.Pool) int { return strings.Compare(a.ID, b.ID) })
	return rows, nil
}

func ids(tenants []messages.Tenant) []string {
	list := make([]string, len(tenants))
	for i, t := range tenants {
		list[i] = t.ID
	}
	return list
}

// Get implements server.Pools.
func (c *Pools) Get(ctx context.Context, tenant, id string) (messages.Pool, error) {
	p, there, err := c.Fleet.PoolConfig(ctx, id)
	switch {
	case err != nil:
		return p, persistence.Refusal(err, "pool", id)
	case !there || tenant != "" && p.Tenant != tenant:
		return messages.Pool{}, persistence.NotThere("pool", id)
	}
	return p, nil
}

// Put implements server.Pools.
func (c *Pools) Put(ctx context.Context, tenant string, p messages.Pool) (messages.Pool, error) {
	if err := c.Works(); err != nil {
		return p, err
	}
	if err := c.Tenants.Exists(ctx, p.Tenant); err != nil {
		return p, err
	}
	done, err := c.Fleet.ChangePools(ctx)
	if err != nil {
		return p, persistence.Refusal(err, "pool", p.ID)
	}
	defer done()
	old, there, err := c.Fleet.PoolConfig(ctx, p.ID)
	switch {
	case err != nil:
		return p, persistence.Refusal(err, "pool", p.ID)
	case p.Version != 0 && (!there || tenant != "" && old.Tenant != tenant):
		return p, persistence.NotThere("pool", p.ID)
	case tenant != "" && there && old.Tenant != tenant:
		return p, persistence.Taken(p.ID)
	}
	if there && old.Tenant != p.Tenant {
		end, err := c.Fleet.Alone(ctx, p.ID)
		if err != nil {
			return p, err
		}
		defer end()
		if err := c.keepsTenant(ctx, old, p.Tenant); err != nil {
			return p, err
		}
	}
	if err := reservesTooMuch(p); err != nil {
		return p, err
	}
	if !there || old.Tenant != p.Tenant {
		if err := c.roomFor(ctx, p); err != nil {
			return p, err
		}
	}
	if old.Version > 0 && old.Version == p.Version && old.Same(&p) {
		return old, nil // as it is: a new version would only clash with others' changes
	}
	if p.CreatedAt.IsZero() {
		p.CreatedAt = messages.Now()
	}
	var before map[string]any
	if old.Version > 0 {
		before = recordedPool(old)
	}
	stored, err := c.Repos.Pools.Put(audit.Change(ctx, p.ID, before, recordedPool(p)), p)
	if err != nil {
		return p, persistence.Refusal(err, "pool", p.ID)
	}
	if err := c.Fleet.EnsurePool(ctx, stored.ID); err != nil {
		return stored, persistence.Refusal(err, "pool", stored.ID)
	}
	if there && old.Tenant != stored.Tenant {
		c.Fleet.ChangedHands(stored)
	}
	return stored, c.Owners.SetPool(ctx, stored)
}

// MaxPools is how many pools a tenant may have: each has dispatchers of its own
// (50 KiB) and rows in the queue's list, which comes in one answer.
const MaxPools = 200

// roomFor refuses one pool more than a tenant may have.
func (c *Pools) roomFor(ctx context.Context, p messages.Pool) error {
	rows, err := c.Repos.Pools.List(ctx)
	if err != nil {
		return persistence.Refusal(err, "pool", p.ID)
	}
	has := 0
	for i := range rows {
		if rows[i].Tenant == p.Tenant {
			has++
		}
	}
	if has < MaxPools {
		return nil
	}
	return &messages.Error{
		Code: messages.CodeConflict, Message: fmt.Sprintf("tenant %s has %d pools, and may have no more", p.Tenant, has), NextStep: next.UsePoolThere,
	}
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

// keepsTenant refuses to give a tenant's own pool to another, and one that is in
// use: its gateways, sessions and tasks would stay with the old tenant.
func (c *Pools) keepsTenant(ctx context.Context, old messages.Pool, to string) error {
	wrong := &messages.Error{
		Code: messages.CodeWrongState, NextStep: fmt.Sprintf(next.OtherPool, to),
		Fields: []messages.FieldError{{Pointer: "/tenant", Detail: "belongs to another tenant"}},
	}
	if old.ID == messages.OwnPool(old.Tenant) {
		wrong.Message = "the pool " + old.ID + " is the own one of tenant " + old.Tenant
		return wrong
	}
	what, advice, err := c.InUse(ctx, old, false)
	if err != nil || what == "" {
		return persistence.Refusal(err, "pool", old.ID)
	}
	wrong.Message = "the pool " + old.ID + " has " + what + ", so it must stay with tenant " + old.Tenant
	wrong.NextStep = fmt.Sprintf(next.OrOtherPool, advice, to)
	return wrong
}

// InUse names one thing that a pool has and what to do about it; what is empty
// for a pool that nobody uses. Closed sessions count only if they are asked for.
func (c *Pools) InUse(ctx context.Context, p messages.Pool, closed bool) (what, advice string, err error) {
	name := func(kind, id, tenant string) string {
		if tenant != p.Tenant { // of an earlier release
			return "a " + kind + " of another tenant"
		}
		return "the " + kind + " " + id
	}
	gateways, err := c.Repos.Gateways.List(ctx)
	if err != nil {
		return "", "", err
	}
	for _, g := range gateways {
		if g.Pool == p.ID {
			return name("gateway", g.ID, g.Tenant), next.RemoveGatewaysFirst, nil
		}
	}
	open, err := c.Store.OpenPools(ctx)
	if err != nil {
		return "", "", err
	}
	if slices.Contains(open, p.ID) {
		return "tasks that have not ended", next.WaitOrCancelFirst, nil
	}
	err = c.sessions(ctx, p.ID, func(page []messages.Session) (more bool, err error) {
		for _, s := range page {
			if closed || s.State != messages.SessionClosed {
				what, advice = name("session", s.ID, s.Tenant), next.CloseSessionsFirst
				return false, nil
			}
		}
		return true, nil
	})
	return what, advice, err
}

// SessionPage is how many sessions are read at a time.
const SessionPage = 200

// sessions goes through the sessions of a pool, a page at a time, until each
// wants no more.
func (c *Pools) sessions(ctx context.Context, pool string, each func([]messages.Session) (more bool, err error)) error {
	for after := ""; ; {
		page, err := c.Store.Sessions(ctx, "", pool, after, SessionPage)
		if err != nil {
			return err
		}
		if more, err := each(page); err != nil || !more || len(page) < SessionPage {
			return err
		}
		after = persistence.SessionPlace(page[len(page)-1])
	}
}

// Delete implements server.Pools.
func (c *Pools) Delete(ctx context.Context, tenant, id string) error {
	if err := c.Works(); err != nil {
		return err
	}
	f := c.Fleet
	done, err := f.ChangePools(ctx)
	if err != nil {
		return persistence.Refusal(err, "pool", id)
	}
	defer done()
	p, there, err := f.PoolConfig(ctx, id)
	switch {
	case err != nil:
		return persistence.Refusal(err, "pool", id)
	case !there || tenant != "" && p.Tenant != tenant:
		return persistence.NotThere("pool", id)
	case id == messages.OwnPool(p.Tenant):
		return &messages.Error{
			Code: messages.CodeWrongState, Message: "the pool " + id + " is the own one of tenant " + p.Tenant + ", which always has it",
			NextStep: fmt.Sprintf(next.SetPoolLimits, id),
		}
	}
	if err := c.unused(ctx, p, false); err != nil {
		return err
	}
	end, err := f.Alone(ctx, id)
	if err != nil {
		return err
	}
	defer end()
	err = c.remove(ctx, p)
	f.Removed(context.WithoutCancel(ctx), id)
	return err
}

// unused refuses a pool that something refers to.
func (c *Pools) unused(ctx context.Context, p messages.Pool, closed bool) error {
	what, advice, err := c.InUse(ctx, p, closed)
	if err != nil || what == "" {
		return persistence.Refusal(err, "pool", p.ID)
	}
	return &messages.Error{Code: messages.CodeWrongState, Message: "the pool " + p.ID + " has " + what, NextStep: advice}
}

// remove ends a pool's owner, and removes its row if nothing refers to it then:
// what had been on its way is written by that time, and nobody else writes.
func (c *Pools) remove(ctx context.Context, p messages.Pool) error {
	if err := c.retireAll(ctx, p.ID); err != nil {
		return err
	}
	if err := c.Fleet.RemovePool(ctx, p.ID); err != nil {
		return persistence.Refusal(err, "pool", p.ID)
	}
	if err := c.unused(ctx, p, true); err != nil {
		return err
	}
	err := c.Repos.Pools.Delete(audit.Change(ctx, p.ID, recordedPool(p), nil), p.ID)
	if errors.Is(err, persistence.ErrInUse) {
		return c.unused(ctx, p, true) // names the gateway that came meanwhile
	}
	return persistence.Refusal(err, "pool", p.ID)
}

// retireAll removes a pool's closed sessions.
func (c *Pools) retireAll(ctx context.Context, id string) error {
	due := dispatch.RetireSessions{ClosedSince: messages.Now().Add(time.Hour)}
	err := c.sessions(ctx, id, func(page []messages.Session) (bool, error) {
		due.Sessions = page
		_, err := c.Owners.RetireSessions(ctx, id, due)
		return true, err
	})
	return persistence.Refusal(err, "pool", id)
}
