package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

type gateways struct{ db *DB }

const gatewayColumns = `id, tenant, pool, node, region, url, token, max_concurrency, weight, capabilities, labels, managed, drained, version, created_at, home`

// gatewayArgs are the values of gatewayColumns. The token is stored as it is:
// the database file is readable by its owner only (mode 0600).
func gatewayArgs(g *messages.Gateway) ([]driver.Value, error) {
	capabilities, err := encodeJSON(g.Capabilities, len(g.Capabilities) == 0)
	if err != nil {
		return nil, err
	}
	labels, err := encodeJSON(g.Labels, len(g.Labels) == 0)
	if err != nil {
		return nil, err
	}
	var managed driver.Value
	if g.Managed != nil {
		if managed, err = encodeJSON(g.Managed, false); err != nil {
			return nil, err
		}
	}
	var drained int64
	if g.Drained {
		drained = 1
	}
	return []driver.Value{g.ID, g.Tenant, g.Pool, g.Node, g.Region, g.URL, g.Token.Reveal(), int64(g.MaxConcurrency), int64(g.Weight),
		capabilities, labels, managed, drained, g.Version, micros(g.CreatedAt), g.Home}, nil
}

func decodeGateway(v []driver.Value) (messages.Gateway, error) {
	g := messages.Gateway{
		ID: text(v[0]), Tenant: text(v[1]), Pool: text(v[2]), Node: text(v[3]), Region: text(v[4]), URL: text(v[5]), Token: messages.Secret(text(v[6])),
		MaxConcurrency: int(integer(v[7])), Weight: int(integer(v[8])), Drained: integer(v[12]) != 0, Version: integer(v[13]), CreatedAt: fromMicros(integer(v[14])), Home: text(v[15]),
	}
	for _, f := range []struct {
		enc string
		to  any
	}{{text(v[9]), &g.Capabilities}, {text(v[10]), &g.Labels}, {text(v[11]), &g.Managed}} {
		if f.enc == "" {
			continue
		}
		if err := json.Unmarshal([]byte(f.enc), f.to); err != nil {
			return g, fmt.Errorf("gateway %s: decode: %w", g.ID, err)
		}
	}
	return g, nil
}

// Create stores a new gateway.
func (r gateways) Create(ctx context.Context, g messages.Gateway) (messages.Gateway, error) {
	g.Version = 1
	args, err := gatewayArgs(&g)
	if err != nil {
		return messages.Gateway{}, err
	}
	err = r.db.w.transact(ctx, func(c *conn) error {
		if err := c.poolIsThere(&g); err != nil {
			return err
		}
		err := c.text(`INSERT INTO gateways (`+gatewayColumns+`) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)`, args...)
		if isUnique(err) {
			return &opError{fmt.Errorf("gateway %s: %w", g.ID, persistence.ErrExists)}
		}
		return err
	})
	return g, err
}

// poolIsThere refuses a gateway whose pool nobody has.
func (c *conn) poolIsThere(g *messages.Gateway) error {
	if g.Pool == messages.OwnPool(g.Tenant) {
		return nil
	}
	n, err := c.one(`SELECT count(*) FROM pools WHERE id = ?1`, g.Pool)
	if err == nil && n == 0 {
		return &opError{fmt.Errorf("pool %s of gateway %s: %w", g.Pool, g.ID, persistence.ErrNotFound)}
	}
	return err
}

// Get returns one gateway.
func (r gateways) Get(ctx context.Context, id string) (messages.Gateway, error) {
	list, err := r.list(ctx, ` WHERE id = ?`, id)
	if err != nil {
		return messages.Gateway{}, err
	}
	if len(list) == 0 {
		return messages.Gateway{}, fmt.Errorf("gateway %s: %w", id, persistence.ErrNotFound)
	}
	return list[0], nil
}

// List returns all gateways in the order of their ids.
func (r gateways) List(ctx context.Context) ([]messages.Gateway, error) {
	return r.list(ctx, ` ORDER BY id`)
}

// Page returns a page of gateways in the order of their ids.
func (r gateways) Page(ctx context.Context, tenant, after string, limit int) ([]messages.Gateway, error) {
	return r.list(ctx, ` WHERE (?1 = '' OR tenant = ?1) AND id > ?2 ORDER BY id LIMIT ?3`, tenant, after, limit)
}

func (r gateways) list(ctx context.Context, where string, args ...any) ([]messages.Gateway, error) {
	return list(ctx, r.db, decodeGateway, 16, `SELECT `+gatewayColumns+` FROM gateways`+where, args...)
}

// Update replaces the row whose version is g.Version; its time of creation stays.
func (r gateways) Update(ctx context.Context, g messages.Gateway) (messages.Gateway, error) {
	args, err := gatewayArgs(&g)
	if err != nil {
		return messages.Gateway{}, err
	}
	err = r.db.w.transact(ctx, func(c *conn) error {
		n, err := c.exec(`UPDATE gateways SET tenant=?2, pool=?3, node=?4, region=?5, url=?6, token=?7, max_concurrency=?8, weight=?9,
 capabilities=?10, labels=?11, managed=?12, drained=?13, version=version+1, home=?15 WHERE id=?1 AND version=?14`, append(args[:14:14], g.Home)...)
		if err != nil || n == 1 {
			return err
		}
		return c.versionOrMissing("gateway", "gateways", g.ID)
	})
	if err != nil {
		return messages.Gateway{}, err
	}
	return r.Get(ctx, g.ID)
}

// Delete removes the gateway.
func (r gateways) Delete(ctx context.Context, id string) error {
	return r.db.w.transact(ctx, func(c *conn) error {
		n, err := c.exec(`DELETE FROM gateways WHERE id = ?1`, id)
		if err == nil && n == 0 {
			return &opError{fmt.Errorf("gateway %s: %w", id, persistence.ErrNotFound)}
		}
		return err
	})
}

// versionOrMissing says why a conditional update found no row.
func (c *conn) versionOrMissing(kind, table, id string) error {
	n, err := c.one(`SELECT count(*) FROM `+table+` WHERE id = ?1`, id)
	switch {
	case err != nil:
		return err
	case n == 0:
		return &opError{fmt.Errorf("%s %s: %w", kind, id, persistence.ErrNotFound)}
	}
	return &opError{fmt.Errorf("%s %s: %w", kind, id, persistence.ErrVersion)}
}

type pools struct{ db *DB }

// Get returns one pool.
func (r pools) Get(ctx context.Context, id string) (messages.Pool, error) {
	list, err := r.list(ctx, ` WHERE id = ?`, id)
	if err != nil {
		return messages.Pool{}, err
	}
	if len(list) == 0 {
		return messages.Pool{}, fmt.Errorf("pool %s: %w", id, persistence.ErrNotFound)
	}
	return list[0], nil
}

// List returns all pools in the order of their ids.
func (r pools) List(ctx context.Context) ([]messages.Pool, error) { return r.list(ctx, ` ORDER BY id`) }

func (r pools) list(ctx context.Context, where string, args ...any) ([]messages.Pool, error) {
	return list(ctx, r.db, decodePool, 9, `SELECT `+poolColumns+` FROM pools`+where, args...)
}

const poolColumns = `id, tenant, max_concurrency, limits, reserved, aging_seconds, away_seconds, version, created_at`

func decodePool(v []driver.Value) (messages.Pool, error) {
	p := messages.Pool{
		ID: text(v[0]), Tenant: text(v[1]), MaxConcurrency: int(integer(v[2])), AgingSeconds: int(integer(v[5])), AwaySeconds: int(integer(v[6])),
		Version: integer(v[7]), CreatedAt: fromMicros(integer(v[8])),
	}
	for _, f := range []struct {
		enc string
		to  any
	}{{text(v[3]), &p.Limits}, {text(v[4]), &p.Reserved}} {
		if f.enc == "" {
			continue
		}
		if err := json.Unmarshal([]byte(f.enc), f.to); err != nil {
			return p, fmt.Errorf("pool %s: decode: %w", p.ID, err)
		}
	}
	return p, nil
}

// Put creates the pool (Version 0; ErrVersion if it exists) or replaces the row
// whose Version is p.Version; its time of creation stays.
func (r pools) Put(ctx context.Context, p messages.Pool) (messages.Pool, error) {
	limits, err := encodeJSON(p.Limits, len(p.Limits) == 0)
	if err != nil {
		return messages.Pool{}, err
	}
	reserved, err := encodeJSON(p.Reserved, len(p.Reserved) == 0)
	if err != nil {
		return messages.Pool{}, err
	}
	args := []driver.Value{p.ID, p.Tenant, int64(p.MaxConcurrency), limits, reserved, int64(p.AgingSeconds), int64(p.AwaySeconds), p.Version, micros(p.CreatedAt)}
	query := `UPDATE pools SET tenant=?2, max_concurrency=?3, limits=?4, reserved=?5, aging_seconds=?6, away_seconds=?7, version=version+1 WHERE id=?1 AND version=?8`
	if p.Version == 0 {
		query = `INSERT OR IGNORE INTO pools (id, tenant, max_concurrency, limits, reserved, aging_seconds, away_seconds, version, created_at)
 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 + 1, ?9)`
	} else {
		args = args[:8]
	}
	err = r.db.w.transact(ctx, func(c *conn) error {
		n, err := c.exec(query, args...)
		if err == nil && n == 0 {
			return &opError{fmt.Errorf("pool %s: %w", p.ID, persistence.ErrVersion)}
		}
		return err
	})
	if err != nil {
		return messages.Pool{}, err
	}
	return r.Get(ctx, p.ID)
}

// Delete removes the pool unless a gateway names it.
func (r pools) Delete(ctx context.Context, id string) error {
	return r.db.w.transact(ctx, func(c *conn) error {
		n, err := c.one(`SELECT count(*) FROM gateways WHERE pool = ?1`, id)
		switch {
		case err != nil:
			return err
		case n > 0:
			return &opError{fmt.Errorf("pool %s: %w", id, persistence.ErrInUse)}
		}
		deleted, err := c.exec(`DELETE FROM pools WHERE id = ?1`, id)
		if err == nil && deleted == 0 {
			return &opError{fmt.Errorf("pool %s: %w", id, persistence.ErrNotFound)}
		}
		return err
	})
}
