package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/jackc/pgx/v5"
)

// sqlRenew lists the nodes as the statement finds them; the row that it writes
// is put in their place by the caller. Rows that ended an hour ago are removed.
const sqlRenew = `WITH gone AS (DELETE FROM nodes WHERE expires < clock_timestamp() - interval '1 hour' AND id <> $1),
 mine AS (INSERT INTO nodes AS n (id, addr, region, version, sees, expires, home) VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6::bigint * interval '1 microsecond', $7)
 ON CONFLICT (id) DO UPDATE SET addr = excluded.addr, region = excluded.region, version = excluded.version, sees = excluded.sees, expires = excluded.expires, home = excluded.home
 RETURNING id, addr, region, version, sees, expires, home)
SELECT id, addr, region, version, sees, expires, home FROM mine
UNION ALL SELECT id, addr, region, version, sees, expires, home FROM nodes WHERE id <> $1 AND expires > clock_timestamp() ORDER BY id`

// Renew writes the node's row and returns the valid ones in the order of their
// ids. It has connections of its own.
func (db *DB) Renew(ctx context.Context, n messages.Node, ttl time.Duration) ([]messages.Node, error) {
	rows, err := db.leases.Query(ctx, sqlRenew, n.ID, n.Addr, n.Region, n.Version, n.Sees, ttl.Microseconds(), n.Home)
	if err != nil {
		return nil, readError(ctx, "renew", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[messages.Node])
	if err != nil {
		return nil, readError(ctx, "renew", err)
	}
	for i := range list {
		list[i].Expires = list[i].Expires.UTC()
	}
	return list, nil
}

// sqlTake is one conditional update. The node row of the owner is not locked:
// an owner that renews while its lease ends may lose what it holds, and its
// epoch fences it.
const sqlTake = `INSERT INTO ownership AS o (scope, key, owner, epoch) VALUES ($1, $2, $3, 1)
ON CONFLICT (scope, key) DO UPDATE SET owner = excluded.owner, epoch = o.epoch + 1
 WHERE o.owner = '' OR (o.owner <> excluded.owner AND NOT EXISTS (SELECT FROM nodes n WHERE n.id = o.owner AND n.expires > clock_timestamp()))
RETURNING epoch`

// Take makes the node owner if there is none or its lease is over. It waits for
// the batches that are under way under the old epoch.
func (db *DB) Take(ctx context.Context, scope messages.Scope, key, node string) (messages.Fence, error) {
	if node == "" {
		return messages.Fence{}, fmt.Errorf("take %s: no node id given", key)
	}
	f := messages.Fence{Scope: scope, Key: key, Owner: node}
	// Between the two statements somebody else may take what this node held:
	// then the first one may succeed after all.
	for range takeTries {
		taken, err := db.number1(ctx, &f.Epoch, sqlTake, int16(scope), key, node)
		if err != nil || taken {
			return f, wrap("take "+key, err)
		}
		held, err := db.number1(ctx, &f.Epoch, `SELECT epoch FROM ownership WHERE scope = $1 AND key = $2 AND owner = $3`, int16(scope), key, node)
		if err != nil || held {
			return f, wrap("take "+key, err)
		}
	}
	return messages.Fence{}, fmt.Errorf("take %s: %w", key, persistence.ErrOwned)
}

// takeTries bounds the repetitions of a Take whose row changes hands meanwhile.
const takeTries = 5

// Release empties the owner.
func (db *DB) Release(ctx context.Context, f messages.Fence) error {
	var epoch int64
	done, err := db.number1(ctx, &epoch, `UPDATE ownership SET owner = '' WHERE scope = $1 AND key = $2 AND owner = $3 AND epoch = $4 AND owner <> '' RETURNING epoch`,
		int16(f.Scope), f.Key, f.Owner, f.Epoch)
	if err == nil && !done {
		err = persistence.ErrFenced
	}
	return wrap("release "+f.Key, err)
}

// number1 reads one number on a lease connection and says whether there was one.
func (db *DB) number1(ctx context.Context, n *int64, query string, args ...any) (found bool, err error) {
	rows, err := db.leases.Query(ctx, query, args...)
	if err != nil {
		return false, readError(ctx, "lease", err)
	}
	for rows.Next() {
		*n, found = number(rows.RawValues()[0]), true
	}
	return found, readError(ctx, "lease", rows.Err())
}

func wrap(step string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", step, err)
}

// Owners lists all rows of a scope in the order of their keys.
func (db *DB) Owners(ctx context.Context, scope messages.Scope) (list []messages.Ownership, err error) {
	err = db.rows(ctx, func(v [][]byte) error {
		list = append(list, messages.Ownership{Scope: scope, Key: string(v[0]), Owner: string(v[1]), Epoch: number(v[2])})
		return nil
	}, `SELECT key, owner, epoch FROM ownership WHERE scope = $1 ORDER BY key`, int16(scope))
	return list, err
}
