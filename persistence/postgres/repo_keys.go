package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dash-fleet/dash/persistence"
	"github.com/jackc/pgx/v5"
)

type keys struct{ db *DB }

var _ persistence.KeyWatcher = keys{}

const (
	keyColumns = `key_id, key_hash, name, tenant, permissions::text, rate_limit, created_at, expires_at, last_used_at, is_active, version, key_digest, parent`
	insertKey  = `INSERT INTO api_keys (key_id, key_hash, name, tenant, permissions, rate_limit, created_at, expires_at, last_used_at, is_active, version, key_digest, parent) `
)

func keyArgs(k *persistence.Key) ([]any, error) {
	permissions, err := json.Marshal(append([]string{}, k.Permissions...))
	if err != nil {
		return nil, fmt.Errorf("encode permissions: %w", err)
	}
	return []any{k.ID, string(k.Hash), k.Name, k.Tenant, string(permissions), k.RateLimit, k.CreatedAt,
		orNull(k.ExpiresAt), orNull(k.LastUsedAt), k.Active, max(k.Version, 1), append([]byte{}, k.Digest...), k.Parent}, nil
}

// Create stores a new key.
func (r keys) Create(ctx context.Context, k persistence.Key) error {
	if k.Parent == "" {
		_, err := r.insert(ctx, &k, insertKey+`VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7, $8, $9, $10, $11, $12, $13) RETURNING 1`)
		return err
	}
	// The lock of the parent's row waits for whoever revokes it meanwhile.
	n, err := r.insert(ctx, &k, `WITH parent AS (SELECT 1 FROM api_keys WHERE key_id = $13 AND is_active FOR SHARE) `+
		insertKey+insertValues+` FROM parent RETURNING 1`)
	if err == nil && n == 0 {
		err = fmt.Errorf("key %s, parent of %s: %w", k.Parent, k.ID, persistence.ErrNotFound)
	}
	return err
}

// insertValues are typed where a SELECT cannot guess.
const insertValues = `SELECT $1, $2, $3, $4, $5::jsonb, $6::integer, $7::timestamptz, $8::timestamptz, $9::timestamptz, $10::boolean, $11::bigint, $12::bytea, $13`

// lockKeys lets one writer at a time look and write; it conflicts with no reader.
const lockKeys = `LOCK TABLE api_keys IN SHARE ROW EXCLUSIVE MODE`

// CreateFirst stores k only if there is no key at all. The lock of the table
// lets one caller at a time look; it conflicts with no reader.
func (r keys) CreateFirst(ctx context.Context, k persistence.Key) (made bool, err error) {
	args, err := keyArgs(&k)
	if err != nil {
		return false, err
	}
	err = pgx.BeginFunc(ctx, r.db.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockKeys); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, insertKey+insertValues+`
 WHERE NOT EXISTS (SELECT 1 FROM api_keys)`, args...)
		made = tag.RowsAffected() == 1
		return err
	})
	if err != nil {
		return false, repoError(ctx, "create the first key", err)
	}
	return made, nil
}

func (r keys) insert(ctx context.Context, k *persistence.Key, query string) (int, error) {
	args, err := keyArgs(k)
	if err != nil {
		return 0, err
	}
	return r.db.exec(ctx, "create key "+k.ID, query, args...)
}

const selectKeys = `SELECT ` + keyColumns + ` FROM api_keys`

func readKey(row pgx.CollectableRow) (k persistence.Key, err error) {
	var hash, permissions string
	var expires, used *time.Time
	err = row.Scan(&k.ID, &hash, &k.Name, &k.Tenant, &permissions, &k.RateLimit, &k.CreatedAt, &expires, &used, &k.Active, &k.Version, &k.Digest, &k.Parent)
	if err != nil {
		return k, err
	}
	k.Hash, k.CreatedAt, k.ExpiresAt, k.LastUsedAt = []byte(hash), k.CreatedAt.UTC(), orZero(expires), orZero(used)
	if err := json.Unmarshal([]byte(permissions), &k.Permissions); err != nil {
		return k, fmt.Errorf("key %s: decode permissions: %w", k.ID, err)
	}
	if len(k.Permissions) == 0 {
		k.Permissions = nil
	}
	if len(k.Digest) == 0 {
		k.Digest = nil
	}
	return k, nil
}

// Get returns one key.
func (r keys) Get(ctx context.Context, id string) (persistence.Key, error) {
	step := "key " + id
	list, err := rowsFrom(ctx, r.db.keys, step, readKey, selectKeys+` WHERE key_id = $1`, id)
	return only(step, list, err)
}

// List returns all keys in the order of their creation.
func (r keys) List(ctx context.Context) ([]persistence.Key, error) {
	return rowsOf(ctx, r.db, "list keys", readKey, selectKeys+` ORDER BY id`)
}

// Page returns a page of keys in the order of their ids.
func (r keys) Page(ctx context.Context, tenant, after string, limit int) ([]persistence.Key, error) {
	return rowsOf(ctx, r.db, "list keys", readKey, selectKeys+` WHERE ($1 = '' OR tenant = $1) AND key_id COLLATE "C" > $2 ORDER BY key_id COLLATE "C" LIMIT $3`, tenant, after, limit)
}

// Versions returns the present versions of keys.
func (r keys) Versions(ctx context.Context, ids []string) (map[string]int64, error) {
	type pair struct {
		id      string
		version int64
	}
	list, err := rowsFrom(ctx, r.db.keys, "read key versions", func(row pgx.CollectableRow) (p pair, err error) {
		return p, row.Scan(&p.id, &p.version)
	}, `SELECT key_id, version FROM api_keys WHERE key_id = ANY($1)`, ids)
	versions := make(map[string]int64, len(list))
	for _, p := range list {
		versions[p.id] = p.version
	}
	return versions, err
}

// keyFamily is a key and all that it made, and those made in turn.
const keyFamily = `WITH RECURSIVE family (key_id) AS (
  SELECT $1::text COLLATE "C" UNION SELECT k.key_id FROM api_keys k JOIN family f ON k.parent = f.key_id AND k.parent <> '')
 SELECT key_id FROM family ORDER BY key_id <> $1`

// Revoke makes keys inactive. A second time changes nothing more. The lock of
// the table lets one caller at a time look at the other keys.
func (r keys) Revoke(ctx context.Context, id string, keep bool) (ended []string, err error) {
	done := func() {}
	err = pgx.BeginFunc(ctx, r.db.pool, func(tx pgx.Tx) (err error) {
		if ended, err = revoke(ctx, tx, id, keep); err == nil {
			done, err = appendIn(ctx, tx)
		}
		return err
	})
	if errors.Is(err, persistence.ErrLastAdmin) || errors.Is(err, persistence.ErrNotFound) {
		return nil, fmt.Errorf("revoke key %s: %w", id, err)
	}
	if err != nil {
		return nil, repoError(ctx, "revoke key "+id, err)
	}
	done()
	return ended, nil
}

func revoke(ctx context.Context, tx pgx.Tx, id string, keep bool) (ended []string, err error) {
	if _, err := tx.Exec(ctx, lockKeys); err != nil {
		return nil, err
	}
	ended = []string{id}
	if !keep {
		rows, err := tx.Query(ctx, keyFamily, id)
		if err != nil {
			return nil, err
		}
		if ended, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return nil, err
		}
	}
	rows, err := tx.Query(ctx, selectKeys+` WHERE is_active AND tenant = ''`)
	if err != nil {
		return nil, err
	}
	rulers, err := pgx.CollectRows(rows, readKey)
	if err != nil {
		return nil, err
	}
	if err := persistence.MayRevoke(rulers, ended, time.Now()); err != nil {
		return nil, err
	}
	tag, err := tx.Exec(ctx, `UPDATE api_keys SET version = version + is_active::int, is_active = false WHERE key_id = ANY($1)`, ended)
	if err == nil && tag.RowsAffected() == 0 {
		err = persistence.ErrNotFound
	}
	if err == nil && keep {
		_, err = tx.Exec(ctx, `UPDATE api_keys SET parent = (SELECT parent FROM api_keys WHERE key_id = $1) WHERE parent = $1`, id)
	}
	return ended, err
}

// Learn keeps the digest of a key that has none.
func (r keys) Learn(ctx context.Context, id string, digest []byte) error {
	_, err := r.db.exec(ctx, "keep the digest of key "+id, `UPDATE api_keys SET key_digest = $2 WHERE key_id = $1 AND key_digest = '' RETURNING 1`, id, digest)
	return err
}

// Touch records the last uses; an older time than the stored one is dropped,
// and so is an unknown key. Rows are locked in the order of their numbers, so
// that two nodes that write at once do not wait for each other in a circle.
func (r keys) Touch(ctx context.Context, used map[string]time.Time) error {
	if len(used) == 0 {
		return nil
	}
	ids, at := make([]string, 0, len(used)), make([]time.Time, 0, len(used))
	for id, t := range used {
		ids, at = append(ids, id), append(at, t)
	}
	_, err := r.db.exec(ctx, "write last uses", `WITH used AS (
  SELECT k.id, u.at FROM unnest($1::text[], $2::timestamptz[]) AS u (key_id, at) JOIN api_keys k USING (key_id) ORDER BY k.id FOR UPDATE OF k)
 UPDATE api_keys k SET last_used_at = greatest(k.last_used_at, used.at) FROM used WHERE k.id = used.id RETURNING 1`, ids, at)
	return err
}

// accountsChannel is where triggers tell of changed accounts, as "key:<id>"
// and "user:<id>". It is one per database, so ids of another schema may come.
const accountsChannel = "dash_accounts"

// WatchKeys listens on a connection of its own.
func (r keys) WatchKeys(ctx context.Context, ready func(), changed func(id string)) error {
	return r.db.listen(ctx, accountsChannel, ready, func(payload string) {
		if id, ok := strings.CutPrefix(payload, "key:"); ok {
			changed(id)
		}
	})
}
