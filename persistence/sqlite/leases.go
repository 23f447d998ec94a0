package sqlite

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// nodes holds the node rows. They live in memory only: the folder's lock says
// that no other process is there, and all leases of an earlier one are over at
// open. So a renewal never waits for the disk or behind a commit.
type nodes struct {
	mu   sync.Mutex
	rows map[string]messages.Node // Expires carries the monotonic clock
}

func (n *nodes) valid(id string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	row, ok := n.rows[id]
	return ok && time.Now().Before(row.Expires)
}

// Renew writes the node's row and returns the valid ones in the order of their ids.
func (db *DB) Renew(ctx context.Context, n messages.Node, ttl time.Duration) ([]messages.Node, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	db.nodes.mu.Lock()
	defer db.nodes.mu.Unlock()
	if db.nodes.rows == nil {
		db.nodes.rows = map[string]messages.Node{}
	}
	at := time.Now()
	n.Expires = at.Add(ttl)
	db.nodes.rows[n.ID] = n
	var list []messages.Node
	for id, row := range db.nodes.rows {
		if !at.Before(row.Expires) {
			delete(db.nodes.rows, id)
			continue
		}
		row.Expires = row.Expires.UTC().Round(0)
		list = append(list, row)
	}
	slices.SortFunc(list, func(a, b messages.Node) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

// Take makes the node owner if there is none or its lease is over.
func (db *DB) Take(ctx context.Context, scope messages.Scope, key, node string) (messages.Fence, error) {
	if node == "" {
		return messages.Fence{}, fmt.Errorf("take %s: no node id given", key)
	}
	w, k := db.w, ownerKey{scope, key}
	if err := w.acquire(ctx); err != nil {
		return messages.Fence{}, err
	}
	defer w.release()
	if err := w.ensure(ctx); err != nil {
		return messages.Fence{}, err
	}
	o := w.owners[k]
	switch {
	case o.node == node:
		return messages.Fence{Scope: scope, Key: key, Owner: node, Epoch: o.epoch}, nil
	case o.node != "" && db.nodes.valid(o.node):
		return messages.Fence{}, fmt.Errorf("take %s: %w", key, persistence.ErrOwned)
	}
	o = owner{node, o.epoch + 1}
	if err := w.setOwner(ctx, k, o); err != nil {
		return messages.Fence{}, fmt.Errorf("take %s: %w", key, err)
	}
	return messages.Fence{Scope: scope, Key: key, Owner: node, Epoch: o.epoch}, nil
}

// Release empties the owner.
func (db *DB) Release(ctx context.Context, f messages.Fence) error {
	w, k := db.w, ownerKey{f.Scope, f.Key}
	if err := w.acquire(ctx); err != nil {
		return err
	}
	defer w.release()
	if err := w.ensure(ctx); err != nil {
		return err
	}
	o := w.owners[k]
	if f.Owner == "" || o.node != f.Owner || o.epoch != f.Epoch {
		return fmt.Errorf("release %s: %w", f.Key, persistence.ErrFenced)
	}
	if err := w.setOwner(ctx, k, owner{epoch: o.epoch}); err != nil {
		return fmt.Errorf("release %s: %w", f.Key, err)
	}
	return nil
}

func (w *writer) setOwner(ctx context.Context, k ownerKey, o owner) error {
	err := w.transactHeld(ctx, func(c *conn) error {
		_, err := c.run(stPutOwner, int64(k.scope), k.key, o.node, o.epoch)
		return err
	}, w.sameCounters)
	if err == nil {
		w.owners[k] = o
	}
	return err
}

func (w *writer) sameCounters() (seq, drift int64) { return w.seq, w.drift }

// Owners lists all rows of a scope in the order of their keys.
func (db *DB) Owners(ctx context.Context, scope messages.Scope) ([]messages.Ownership, error) {
	if err := db.w.acquire(ctx); err != nil {
		return nil, err
	}
	defer db.w.release()
	var list []messages.Ownership
	for k, o := range db.w.owners {
		if k.scope == scope {
			list = append(list, messages.Ownership{Scope: scope, Key: k.key, Owner: o.node, Epoch: o.epoch})
		}
	}
	slices.SortFunc(list, func(a, b messages.Ownership) int { return strings.Compare(a.Key, b.Key) })
	return list, nil
}
