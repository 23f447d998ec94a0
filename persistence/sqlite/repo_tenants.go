package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/dash-fleet/dash/persistence"
)

type tenants struct{ db *DB }

// Create stores a new tenant.
func (r tenants) Create(ctx context.Context, t persistence.Tenant) (persistence.Tenant, error) {
	t.Version = 1
	err := r.db.w.transact(ctx, func(c *conn) error {
		err := c.text(`INSERT INTO tenants (id, name, created_at, version) VALUES (?1, ?2, ?3, ?4)`, t.ID, t.Name, micros(t.CreatedAt), t.Version)
		return taken(err, "tenant", t.ID)
	})
	return t, err
}

// Get returns one tenant.
func (r tenants) Get(ctx context.Context, id string) (persistence.Tenant, error) {
	list, err := r.list(ctx, ` WHERE id = ?`, id)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("tenant %s: %w", id, persistence.ErrNotFound)
	}
	if err != nil {
		return persistence.Tenant{}, err
	}
	return list[0], nil
}

// List returns all tenants in the order of their ids.
func (r tenants) List(ctx context.Context) ([]persistence.Tenant, error) {
	return r.list(ctx, ` ORDER BY id`)
}

func (r tenants) list(ctx context.Context, where string, args ...any) (list []persistence.Tenant, err error) {
	err = r.db.readRows(ctx, func(v []driver.Value) error {
		list = append(list, persistence.Tenant{ID: text(v[0]), Name: text(v[1]), CreatedAt: fromMicros(integer(v[2])), Version: integer(v[3])})
		return nil
	}, 4, `SELECT id, name, created_at, version FROM tenants`+where, args...)
	return list, err
}
