package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/jackc/pgx/v5"
)

type gateways struct{ db *DB }

const gatewayColumns = `id, tenant, pool, node, region, url, token, max_concurrency, weight, capabilities::text, labels::text, managed::text, drained, version, created_at, home`

// gatewayArgs are the values of gatewayColumns. The token is stored as it is:
// access to the database is its protection.
func gatewayArgs(g *messages.Gateway) ([]any, error) {
	capabilities, err1 := encoded(g.Capabilities, len(g.Capabilities) == 0)
	labels, err2 := encoded(g.Labels, len(g.Labels) == 0)
	managed, err3 := encoded(g.Managed, g.Managed == nil)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("gateway %s: %w", g.ID, err)
	}
	return []any{g.ID, g.Tenant, g.Pool, g.Node, g.Region, g.URL, g.Token.Reveal(), g.MaxConcurrency, g.Weight,
		capabilities, labels, managed, g.Drained, g.Version, g.CreatedAt, g.Home}, nil
}

func readGateway(row pgx.CollectableRow) (g messages.Gateway, err error) {
	var token string
	var capabilities, labels, managed *string
	err = row.Scan(&g.ID, &g.Tenant, &g.Pool, &g.Node, &g.Region, &g.URL, &token, &g.MaxConcurrency, &g.Weight,
		&capabilities, &labels, &managed, &g.Drained, &g.Version, &g.CreatedAt, &g.Home)
	if err != nil {
		return g, err
	}
	g.Token, g.CreatedAt = messages.Secret(token), set(g.CreatedAt)
	return g, errors.Join(decode(capabilities, &g.Capabilities), decode(labels, &g.Labels), decode(managed, &g.Managed))
}

// set is a time as it was given: PostgreSQL keeps Go's zero time as the year 1.
func set(t time.Time) time.Time {
	if t.Year() <= 1 {
		return time.Time{}
	}
	return t.UTC()
}

// sqlCreateGateway keeps the pool's row from being removed until the gateway is
// there. Without the row, unless the pool is the tenant's own, nothing is.
const sqlCreateGateway = `WITH p AS MATERIALIZED (SELECT FROM pools WHERE id = $3 FOR KEY SHARE)
 INSERT INTO gateways (id, tenant, pool, node, region, url, token, max_concurrency, weight, capabilities, labels, managed, drained, version, created_at, home)
 SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10::json, $11::json, $12::json, $13, $14, $15, $16 WHERE $17 OR EXISTS (SELECT FROM p) RETURNING ` + gatewayColumns

// Create stores a new gateway.
func (r gateways) Create(ctx context.Context, g messages.Gateway) (messages.Gateway, error) {
	g.Version = 1
	args, err := gatewayArgs(&g)
	if err != nil {
		return messages.Gateway{}, err
	}
	return rowOf(ctx, r.db, "create gateway "+g.ID, readGateway, sqlCreateGateway, append(args, g.Pool == messages.OwnPool(g.Tenant))...)
}

// Get returns one gateway.
func (r gateways) Get(ctx context.Context, id string) (messages.Gateway, error) {
	return rowOf(ctx, r.db, "gateway "+id, readGateway, `SELECT `+gatewayColumns+` FROM gateways WHERE id = $1`, id)
}

// List returns all gateways in the order of their ids.
func (r gateways) List(ctx context.Context) ([]messages.Gateway, error) {
	return rowsOf(ctx, r.db, "list gateways", readGateway, `SELECT `+gatewayColumns+` FROM gateways ORDER BY id`)
}

// Page returns a page of gateways in the order of their ids.
func (r gateways) Page(ctx context.Context, tenant, after string, limit int) ([]messages.Gateway, error) {
	return rowsOf(ctx, r.db, "list gateways", readGateway, `SELECT `+gatewayColumns+` FROM gateways WHERE ($1 = '' OR tenant = $1) AND id > $2 ORDER BY id LIMIT $3`, tenant, after, limit)
}

// Update replaces the row whose version is g.Version; its time of creation stays.
func (r gateways) Update(ctx context.Context, g messages.Gateway) (messages.Gateway, error) {
	args, err := gatewayArgs(&g)
	if err != nil {
		return messages.Gateway{}, err
	}
	return change(ctx, r.db, "gateway", "gateways", g.ID, readGateway, `UPDATE gateways SET tenant=$2, pool=$3, node=$4, region=$5, url=$6, token=$7,
 max_concurrency=$8, weight=$9, capabilities=$10::json, labels=$11::json, managed=$12::json, drained=$13, version=version+1, home=$15
 WHERE id=$1 AND version=$14 RETURNING `+gatewayColumns, append(args[:14:14], g.Home)...)
}

// Delete removes the gateway.
func (r gateways) Delete(ctx context.Context, id string) error {
	return r.db.remove(ctx, "gateway", `DELETE FROM gateways WHERE id = $1 RETURNING 1`, id)
}

type pools struct{ db *DB }

const poolColumns = `id, tenant, max_concurrency, limits::text, reserved::text, aging_seconds, away_seconds, version, created_at`

func readPool(row pgx.CollectableRow) (p messages.Pool, err error) {
	var limits, reserved *string
	err = row.Scan(&p.ID, &p.Tenant, &p.MaxConcurrency, &limits, &reserved, &p.AgingSeconds, &p.AwaySeconds, &p.Version, &p.CreatedAt)
	if err != nil {
		return p, err
	}
	p.CreatedAt = set(p.CreatedAt)
	return p, errors.Join(decode(limits, &p.Limits), decode(reserved, &p.Reserved))
}

// Get returns one pool.
func (r pools) Get(ctx context.Context, id string) (messages.Pool, error) {
	return rowOf(ctx, r.db, "pool "+id, readPool, `SELECT `+poolColumns+` FROM pools WHERE id = $1`, id)
}

// List returns all pools in the order of their ids.
func (r pools) List(ctx context.Context) ([]messages.Pool, error) {
	return rowsOf(ctx, r.db, "list pools", readPool, `SELECT `+poolColumns+` FROM pools ORDER BY id`)
}

// Put creates the pool (Version 0; ErrVersion if it exists) or replaces the row
// whose Version is p.Version; its time of creation stays.
func (r pools) Put(ctx context.Context, p messages.Pool) (messages.Pool, error) {
	limits, err1 := encoded(p.Limits, len(p.Limits) == 0)
	reserved, err2 := encoded(p.Reserved, len(p.Reserved) == 0)
	if err := errors.Join(err1, err2); err != nil {
		return messages.Pool{}, fmt.Errorf("pool %s: %w", p.ID, err)
	}
	args := []any{p.ID, p.Tenant, p.MaxConcurrency, limits, reserved, p.AgingSeconds, p.AwaySeconds, p.Version}
	query := `UPDATE pools SET tenant=$2, max_concurrency=$3, limits=$4::json, reserved=$5::json, aging_seconds=$6, away_seconds=$7, version=version+1
 WHERE id=$1 AND version=$8 RETURNING ` + poolColumns
	if p.Version == 0 {
		args = append(args, p.CreatedAt)
		query = `INSERT INTO pools (id, tenant, max_concurrency, limits, reserved, aging_seconds, away_seconds, version, created_at)
 VALUES ($1, $2, $3, $4::json, $5::json, $6, $7, $8::bigint + 1, $9) ON CONFLICT DO NOTHING RETURNING ` + poolColumns
	}
	stored, err := rowOf(ctx, r.db, "put pool "+p.ID, readPool, query, args...)
	if errors.Is(err, persistence.ErrNotFound) {
		err = fmt.Errorf("pool %s: %w", p.ID, persistence.ErrVersion)
	}
	return stored, err
}

// Delete removes the pool unless a gateway names it. The row is locked first:
// who creates a gateway of it was before, or waits and finds it gone.
func (r pools) Delete(ctx context.Context, id string) error {
	done := func() {}
	err := pgx.BeginFunc(ctx, r.db.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `SELECT FROM pools WHERE id = $1 FOR UPDATE`, id)
		if err == nil && tag.RowsAffected() == 0 {
			err = persistence.ErrNotFound
		}
		if err != nil {
			return err
		}
		tag, err = tx.Exec(ctx, `DELETE FROM pools WHERE id = $1 AND NOT EXISTS (SELECT FROM gateways WHERE pool = $1)`, id)
		if err == nil && tag.RowsAffected() == 0 {
			err = persistence.ErrInUse
		}
		if err == nil {
			done, err = appendIn(ctx, tx)
		}
		return err
	})
	switch {
	case errors.Is(err, persistence.ErrNotFound), errors.Is(err, persistence.ErrInUse):
		return fmt.Errorf("pool %s: %w", id, err)
	case err != nil:
		return repoError(ctx, "remove pool "+id, err)
	}
	done()
	return nil
}
