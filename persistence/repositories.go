package persistence

import (
	"context"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// Gateways is the repository of gateway configuration.
type Gateways interface {
	// Create stores a new gateway and returns it with Version 1. ErrExists.
	Create(ctx context.Context, g messages.Gateway) (messages.Gateway, error)
	// Get returns one gateway. ErrNotFound.
	Get(ctx context.Context, id string) (messages.Gateway, error)
	// List returns all gateways in the order of their ids.
	List(ctx context.Context) ([]messages.Gateway, error)
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
}

// Key is an API key as stored: the bcrypt hash is the authority, KeyID finds it.
type Key struct {
	ID          string // public key_id, part of the key's text
	Hash        []byte // bcrypt
	Name        string
	Tenant      string // empty: all tenants
	Permissions []string
	RateLimit   int // per minute
	CreatedAt   time.Time
	ExpiresAt   time.Time // zero: never
	LastUsedAt  time.Time
	Active      bool
	Version     int64
}

// Keys is the repository of API keys.
type Keys interface {
	// Create stores a new key. ErrExists.
	Create(ctx context.Context, k Key) error
	// CreateFirst stores k only if there is no key at all and says whether it
	// did: of many callers at once exactly one succeeds.
	CreateFirst(ctx context.Context, k Key) (bool, error)
	Get(ctx context.Context, id string) (Key, error)
	List(ctx context.Context) ([]Key, error)
	// Revoke makes the key inactive and raises its version. ErrNotFound.
	Revoke(ctx context.Context, id string) error
	// Touch records when keys were last used, in one write.
	Touch(ctx context.Context, used map[string]time.Time) error
}

// Repositories is everything that is not written under a fence.
type Repositories struct {
	Gateways Gateways
	Pools    Pools
	Keys     Keys
}
