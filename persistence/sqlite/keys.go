package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

type keys struct{ db *DB }

const (
	keyColumns = `key_id, key_hash, name, tenant, permissions, rate_limit, created_at, expires_at, last_used_at, is_active, version, key_digest, parent`
	keyWidth   = 13
	insertKey  = `INSERT INTO api_keys (` + keyColumns + `)`
)

func keyArgs(k *persistence.Key) ([]driver.Value, error) {
	permissions, err := json.Marshal(append([]string{}, k.Permissions...))
	if err != nil {
		return nil, fmt.Errorf("encode permissions: %w", err)
	}
	var active int64
	if k.Active {
		active = 1
	}
	return []driver.Value{k.ID, string(k.Hash), k.Name, k.Tenant, string(permissions), int64(k.RateLimit), micros(k.CreatedAt),
		nullTime(k.ExpiresAt), nullTime(k.LastUsedAt), active, max(k.Version, 1), append([]byte{}, k.Digest...), k.Parent}, nil
}

// nullTime stores "never" as NULL, as the table has it.
func nullTime(t time.Time) driver.Value {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// Create stores a new key.
func (r keys) Create(ctx context.Context, k persistence.Key) error {
	_, err := r.insert(ctx, &k, fmt.Errorf("key %s, parent of %s: %w", k.Parent, k.ID, persistence.ErrNotFound),
		insertKey+` SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13
 WHERE ?13 = '' OR EXISTS (SELECT 1 FROM api_keys WHERE key_id = ?13 AND is_active = 1)`)
	return err
}

// CreateFirst stores k only if there is no key at all: the test and the insert
// are one statement of the only writer.
func (r keys) CreateFirst(ctx context.Context, k persistence.Key) (bool, error) {
	n, err := r.insert(ctx, &k, nil, insertKey+` SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13 WHERE NOT EXISTS (SELECT 1 FROM api_keys)`)
	return n == 1, err
}

// insert fails with none, which may be nil, when the query inserts nothing.
func (r keys) insert(ctx context.Context, k *persistence.Key, none error, query string) (n int64, err error) {
	args, err := keyArgs(k)
	if err != nil {
		return 0, err
	}
	err = r.db.w.transact(ctx, func(c *conn) error {
		if n, err = c.exec(query, args...); isUnique(err) {
			return &opError{fmt.Errorf("key %s: %w", k.ID, persistence.ErrExists)}
		}
		if err == nil && n == 0 && none != nil {
			return &opError{none}
		}
		return err
	})
	return n, err
}

// Get returns one key.
func (r keys) Get(ctx context.Context, id string) (persistence.Key, error) {
	list, err := r.list(ctx, ` WHERE key_id = ?`, id)
	if err != nil {
		return persistence.Key{}, err
	}
	if len(list) == 0 {
		return persistence.Key{}, fmt.Errorf("key %s: %w", id, persistence.ErrNotFound)
	}
	return list[0], nil
}

// List returns all keys in the order of their creation.
func (r keys) List(ctx context.Context) ([]persistence.Key, error) {
	return r.list(ctx, ` ORDER BY id`)
}

// Page returns a page of keys in the order of their ids.
func (r keys) Page(ctx context.Context, tenant, after string, limit int) ([]persistence.Key, error) {
	return r.list(ctx, ` WHERE (?1 = '' OR tenant = ?1) AND key_id > ?2 ORDER BY key_id LIMIT ?3`, tenant, after, limit)
}

func (r keys) list(ctx context.Context, where string, args ...any) ([]persistence.Key, error) {
	return list(ctx, r.db, decodeKey, keyWidth, `SELECT `+keyColumns+` FROM api_keys`+where, args...)
}

func decodeKey(v []driver.Value) (persistence.Key, error) {
	k := persistence.Key{Hash: []byte(text(v[1])), Key: messages.Key{
		ID: text(v[0]), Name: text(v[2]), Tenant: text(v[3]), RateLimit: int(integer(v[5])), CreatedAt: fromMicros(integer(v[6])),
		ExpiresAt: fromMicros(integer(v[7])), LastUsedAt: fromMicros(integer(v[8])), Active: integer(v[9]) != 0, Version: integer(v[10]),
	}}
	if err := json.Unmarshal([]byte(text(v[4])), &k.Permissions); err != nil {
		return k, fmt.Errorf("key %s: decode permissions: %w", k.ID, err)
	}
	if len(k.Permissions) == 0 {
		k.Permissions = nil
	}
	k.Parent = text(v[12])
	if d, _ := v[11].([]byte); len(d) > 0 {
		k.Digest = slices.Clone(d)
	}
	return k, nil
}

// Versions returns the present versions of keys.
func (r keys) Versions(ctx context.Context, ids []string) (map[string]int64, error) {
	list, err := json.Marshal(append([]string{}, ids...))
	if err != nil {
		return nil, fmt.Errorf("encode ids: %w", err)
	}
	versions := make(map[string]int64, len(ids))
	err = r.db.readRows(ctx, func(v []driver.Value) error {
		versions[text(v[0])] = integer(v[1])
		return nil
	}, 2, `SELECT key_id, version FROM api_keys WHERE key_id IN (SELECT value FROM json_each(?))`, string(list))
	return versions, err
}

// keyFamily is a key and all that it made, and those made in turn.
const keyFamily = `WITH RECURSIVE family (key_id) AS (
  SELECT ?1 UNION SELECT k.key_id FROM api_keys k JOIN family f ON k.parent = f.key_id AND k.parent <> '')
 SELECT key_id FROM family ORDER BY key_id <> ?1`

// Revoke makes keys inactive. A second time changes nothing more. Nobody else
// writes between the look at the other keys and the update.
func (r keys) Revoke(ctx context.Context, id string, keep bool) (ended []string, err error) {
	err = r.db.w.transact(ctx, func(c *conn) error {
		ended = []string{id}
		if !keep {
			ended = nil
			if err := c.query(keyFamily, func(v []driver.Value) error { ended = append(ended, text(v[0])); return nil }, id); err != nil {
				return err
			}
		}
		var rulers []persistence.Key
		err := c.query(`SELECT `+keyColumns+` FROM api_keys WHERE is_active = 1 AND tenant = ''`, func(v []driver.Value) error {
			k, err := decodeKey(v)
			rulers = append(rulers, k)
			return err
		})
		if err != nil {
			return err
		}
		if err := persistence.MayRevoke(rulers, ended, time.Now()); err != nil {
			return &opError{err}
		}
		for i, one := range ended {
			n, err := c.exec(`UPDATE api_keys SET version = version + is_active, is_active = 0 WHERE key_id = ?1`, one)
			if err != nil {
				return err
			}
			if n == 0 && i == 0 {
				return &opError{fmt.Errorf("key %s: %w", id, persistence.ErrNotFound)}
			}
		}
		if !keep {
			return nil
		}
		return c.text(`UPDATE api_keys SET parent = (SELECT parent FROM api_keys WHERE key_id = ?1) WHERE parent = ?1`, id)
	})
	return ended, err
}

// Learn keeps the digest of a key that has none.
func (r keys) Learn(ctx context.Context, id string, digest []byte) error {
	return r.db.w.transact(ctx, func(c *conn) error {
		return c.text(`UPDATE api_keys SET key_digest = ?2 WHERE key_id = ?1 AND key_digest = x''`, id, digest)
	})
}

// Touch records the last uses; an older time than the stored one is dropped,
// and so is an unknown key.
func (r keys) Touch(ctx context.Context, used map[string]time.Time) error {
	if len(used) == 0 {
		return nil
	}
	return r.db.w.transact(ctx, func(c *conn) error {
		for id, at := range used {
			if err := c.text(`UPDATE api_keys SET last_used_at = max(coalesce(last_used_at, 0), ?2) WHERE key_id = ?1`, id, at.UnixMicro()); err != nil {
				return err
			}
		}
		return nil
	})
}
