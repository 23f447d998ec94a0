package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

type tenants struct{ db *DB }

const tenantColumns = `id, name, created_at, version`

// Create stores a new tenant.
func (r tenants) Create(ctx context.Context, t messages.Tenant) (messages.Tenant, error) {
	t.Version = 1
	err := r.db.w.transact(ctx, func(c *conn) error {
		err := c.text(`INSERT INTO tenants (`+tenantColumns+`) VALUES (?1, ?2, ?3, ?4)`, t.ID, t.Name, micros(t.CreatedAt), t.Version)
		return taken(err, "tenant", t.ID)
	})
	return t, err
}

// Get returns one tenant.
func (r tenants) Get(ctx context.Context, id string) (messages.Tenant, error) {
	list, err := r.list(ctx, ` WHERE id = ?`, id)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("tenant %s: %w", id, persistence.ErrNotFound)
	}
	if err != nil {
		return messages.Tenant{}, err
	}
	return list[0], nil
}

// List returns all tenants in the order of their ids.
func (r tenants) List(ctx context.Context) ([]messages.Tenant, error) {
	return r.list(ctx, ` ORDER BY id`)
}

// Page returns a page of tenants in the order of their ids.
func (r tenants) Page(ctx context.Context, after string, limit int) ([]messages.Tenant, error) {
	return r.list(ctx, ` WHERE id > ?1 ORDER BY id LIMIT ?2`, after, limit)
}

func (r tenants) list(ctx context.Context, where string, args ...any) ([]messages.Tenant, error) {
	return list(ctx, r.db, decodeTenant, 4, `SELECT `+tenantColumns+` FROM tenants`+where, args...)
}

func decodeTenant(v []driver.Value) (messages.Tenant, error) {
	return messages.Tenant{ID: text(v[0]), Name: text(v[1]), CreatedAt: fromMicros(integer(v[2])), Version: integer(v[3])}, nil
}
