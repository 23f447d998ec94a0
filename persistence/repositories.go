package persistence

import (
	"context"

	"github.com/dash-fleet/dash/messages"
)

// Gateways is the repository of gateway configuration.
type Gateways interface {
	// Create stores a new gateway and returns it with Version 1. ErrExists;
	// ErrNotFound when its pool is neither its tenant's own nor there at the
	// moment of the write.
	Create(ctx context.Context, g messages.Gateway) (messages.Gateway, error)
	// Get returns one gateway. ErrNotFound.
	Get(ctx context.Context, id string) (messages.Gateway, error)
	// List returns all gateways in the order of their ids.
	List(ctx context.Context) ([]messages.Gateway, error)
	// Page returns the first limit gateways of a tenant (empty: all) with an id behind
	// after, in the order of their ids.
	Page(ctx context.Context, tenant, after string, limit int) ([]messages.Gateway, error)
	// Update replaces the row whose Version is g.Version and returns it with
	// Version+1. ErrVersion, ErrNotFound.
	Update(ctx context.Context, g messages.Gateway) (messages.Gateway, error)
	// Delete removes the gateway. ErrNotFound.
	Delete(ctx context.Context, id string) error
}

// Pools is the repository of pool configuration.
type Pools interface {
	Get(ctx context.Context, id string) (messages.Pool, error)
	List(ctx context.Context) ([]messages.Pool, error)
	// Put creates the pool (Version 0) or replaces the row whose Version is
	// p.Version; it returns the row with its new Version. ErrVersion.
	Put(ctx context.Context, p messages.Pool) (messages.Pool, error)
	// Delete removes the pool, in one step with the look for gateways that name
	// it: ErrInUse. A Create of one at the same time either was before or fails.
	// Tasks and sessions are its owner's affair, who takes no more of them before.
	// ErrNotFound.
	Delete(ctx context.Context, id string) error
}

// Repositories is everything that is not written under a fence.
type Repositories struct {
	Gateways      Gateways
	Pools         Pools
	Keys          Keys
	Users         Users
	LoginSessions LoginSessions
	Tenants       Tenants
	Audit         Audit
}
