package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// leaseLimit bounds a call about leases when its ctx does not.
const leaseLimit = 2 * time.Second

// Renew writes the node's row and returns the valid ones in the order of their
// ids. Expiry is judged by the server's clock; the call has a connection of its
// own and never waits behind a batch in this process.
func (db *DB) Renew(ctx context.Context, n messages.Node, ttl time.Duration) ([]messages.Node, error) {
	enc, err := json.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("encode node: %w", err)
	}
	res, err := db.lease(ctx, db.scripts.renew, n.ID, ttl.Microseconds(), enc, db.dataset())
	if err != nil {
		return nil, err
	}
	var list []messages.Node
	for i := 1; i+2 < len(res); i += 3 {
		var row messages.Node
		if err := json.Unmarshal([]byte(text(res[i+2])), &row); err != nil {
			return nil, fmt.Errorf("decode node: %w", err)
		}
		expires, err := strconv.ParseInt(text(res[i+1]), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("decode node: %w", err)
		}
		row.Expires = fromMicros(expires)
		list = append(list, row)
	}
	slices.SortFunc(list, func(a, b messages.Node) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

// NobodyWorks refuses with a *BusyError a store that nodes work on. It writes
// nothing.
func NobodyWorks(ctx context.Context, cfg Config) (err error) {
	db, err := connected(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.nobodyWorks(ctx)
}

func (db *DB) nobodyWorks(ctx context.Context) error {
	nodes, err := db.readTexts(ctx, "HVALS", db.key("node"))
	if err != nil {
		return err
	}
	now, err := db.reader.Time(ctx).Result()
	if err != nil {
		return unavailable(ctx, "read the clock", err)
	}
	running := 0
	for _, n := range nodes {
		if until, err := strconv.ParseInt(n[:min(len(n), 16)], 10, 64); err == nil && until > now.UnixMicro() {
			running++
		}
	}
	if running > 0 {
		return nodesRun(running)
	}
	return nil
}

// lease runs a script on the connections of the leases.
func (db *DB) lease(ctx context.Context, s script, args ...any) ([]any, error) {
	if err := db.lost.err(); err != nil {
		return nil, err
	}
	lctx, cancel := context.WithTimeout(ctx, leaseLimit)
	defer cancel()
	res, err := db.eval(lctx, db.leases, s, args...)
	if err != nil {
		return nil, unavailable(ctx, "lease", err)
	}
	if len(res) > 1 && text(res[0]) == "LOST" {
		return nil, db.lose(&LossError{Dataset: db.dataset(), Found: text(res[1]), Batch: db.batchSeen(), Cause: "the server holds another store than before"})
	}
	return res, nil
}

// Take makes the node owner if there is none or its lease is over.
func (db *DB) Take(ctx context.Context, scope messages.Scope, key, node string) (messages.Fence, error) {
	if node == "" {
		return messages.Fence{}, fmt.Errorf("take %s: no node id given", key)
	}
	res, err := db.lease(ctx, db.scripts.take, ownerField(scope, key), node, db.dataset())
	if err != nil {
		return messages.Fence{}, fmt.Errorf("take %s: %w", key, err)
	}
	if text(res[0]) == "OWNED" {
		return messages.Fence{}, fmt.Errorf("take %s: %w", key, persistence.ErrOwned)
	}
	return messages.Fence{Scope: scope, Key: key, Owner: node, Epoch: integer(res[1])}, nil
}

// Release empties the owner.
func (db *DB) Release(ctx context.Context, f messages.Fence) error {
	if f.Owner == "" {
		return fmt.Errorf("release %s: %w", f.Key, persistence.ErrFenced)
	}
	res, err := db.lease(ctx, db.scripts.release, ownerField(f.Scope, f.Key), ownerValue(f.Epoch, f.Owner), ownerValue(f.Epoch, ""))
	if err != nil {
		return fmt.Errorf("release %s: %w", f.Key, err)
	}
	if integer(res[0]) != 1 {
		return fmt.Errorf("release %s: %w", f.Key, persistence.ErrFenced)
	}
	return nil
}

// Owners lists all rows of a scope in the order of their keys.
func (db *DB) Owners(ctx context.Context, scope messages.Scope) ([]messages.Ownership, error) {
	all, err := db.readTexts(ctx, "HGETALL", db.key("owner"))
	if err != nil {
		return nil, err
	}
	var list []messages.Ownership
	mine := ownerField(scope, "")
	for i := 0; i+1 < len(all); i += 2 {
		key, ok := strings.CutPrefix(all[i], mine)
		if !ok {
			continue
		}
		epoch, owner, _ := strings.Cut(all[i+1], "\x00")
		n, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("decode owner of %s: %w", key, err)
		}
		list = append(list, messages.Ownership{Scope: scope, Key: key, Owner: owner, Epoch: n})
	}
	slices.SortFunc(list, func(a, b messages.Ownership) int { return strings.Compare(a.Key, b.Key) })
	return list, nil
}
