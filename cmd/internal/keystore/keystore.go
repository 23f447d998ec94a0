// Package keystore gives the API its view of the keys, which other processes may
// change at any time: a revoked key is refused within a second everywhere, and a
// store that is away for a while locks nobody out.
package keystore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// How long what the store said about a key is believed. A key that another
// process revoked is refused after at most fresh while the store answers:
// pollEvery + pollTimeout stay below it, and below the second that is promised.
const (
	fresh       = 900 * time.Millisecond
	pollEvery   = 300 * time.Millisecond
	pollTimeout = 400 * time.Millisecond
	// grace is how long a key that the store confirmed is believed while the
	// store does not answer: a restart or a fail-over of the database locks
	// nobody out, and one that is cut off cannot keep a revoked key alive.
	// It is also how long an unused key is remembered.
	grace = 5 * time.Minute
	// readTime bounds the read of a key that nothing is known about.
	readTime = 2 * time.Second
	// maxKnownKeys bounds the memory; past it any key makes room.
	maxKnownKeys = 10_000
	// maxKeyReads bounds the reads of single keys under way: wrong key ids must
	// not take the store from others.
	maxKeyReads = 8
	// watchPause is waited before listening again.
	watchPause = time.Second
)

// Store gives the API's authenticator its view of the keys, which other
// processes may change at any time. It remembers versions and has them
// confirmed by one query for all; an engine that tells of changes makes it
// forget a key at once. Its goroutines run from start to stop.
type Store struct {
	repo   persistence.Keys
	logger *slog.Logger
	lookup lookup
	flight singleflight.Group
	reads  chan struct{}

	mu      sync.RWMutex
	known   map[string]*known
	forgets uint64      // grows with every forget, so that a read under way is not remembered
	failing bool        // the store did not answer last time
	changed auth.Signal // what State says may have changed

	run    sync.WaitGroup
	cancel context.CancelFunc
}

// known is what the store said. All but used belongs to Store.mu.
type known struct {
	version int64
	digest  []byte
	read    time.Time    // when the read began
	used    atomic.Int64 // when it was last asked for, in nanoseconds
}

// New is a view of the keys of a repository.
func New(repo persistence.Keys, logger *slog.Logger) *Store {
	return &Store{repo: repo, lookup: lookup{repo: repo}, logger: logger, reads: make(chan struct{}, maxKeyReads), known: map[string]*known{}}
}

// Changed implements auth.KeyStore.
func (k *Store) Changed() <-chan struct{} { return k.changed.Next() }

// Start begins to have versions confirmed.
func (k *Store) Start(ctx context.Context) {
	ctx, k.cancel = context.WithCancel(ctx)
	k.run.Go(func() { k.pollLoop(ctx) })
	if w, ok := k.repo.(persistence.KeyWatcher); ok {
		k.run.Go(func() { k.watchLoop(ctx, w) })
	}
}

// Stop ends the goroutines and waits for them.
func (k *Store) Stop() {
	k.cancel()
	k.run.Wait()
	k.lookup.run.Wait()
}

// State implements auth.KeyStore.
func (k *Store) State(ctx context.Context, id string) (s auth.KeyState, err error) {
	now := time.Now()
	k.mu.RLock()
	e, failing := k.known[id], k.failing
	var age time.Duration
	if e != nil {
		e.used.Store(now.UnixNano())
		s, age = auth.KeyState{Version: e.version, Digest: e.digest}, now.Sub(e.read)
		if age > fresh {
			s.Stale = e.read
		}
	}
	k.mu.RUnlock()
	if e != nil && (age <= fresh || failing && age <= grace) {
		return s, nil
	}
	if e == nil {
		if err := k.lookup.exists(ctx, id); err != nil {
			return s, err
		}
	}
	if e == nil || age > grace {
		key, err := k.read(ctx, id)
		return auth.KeyState{Version: key.Version, Digest: key.Digest}, err
	}
	brief, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	key, err := k.read(brief, id)
	if err != nil && messages.CodeOf(err) != messages.CodeNotFound && ctx.Err() == nil {
		return s, nil
	}
	return auth.KeyState{Version: key.Version, Digest: key.Digest}, err
}

// Learn implements auth.KeyStore.
func (k *Store) Learn(ctx context.Context, id string, digest []byte) error {
	if err := k.repo.Learn(ctx, id, digest); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.known[id]; e != nil {
		e.digest = digest
	}
	return nil
}

// Key implements auth.KeyStore.
func (k *Store) Key(ctx context.Context, id string) (auth.Key, error) {
	return k.read(ctx, id)
}

// read asks the store for one key; callers at once share the answer.
func (k *Store) read(ctx context.Context, id string) (auth.Key, error) {
	ch := k.flight.DoChan(id, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTime)
		defer cancel()
		return k.fetch(ctx, id)
	})
	select {
	case <-ctx.Done():
		return auth.Key{}, fmt.Errorf("read api key: %w", ctx.Err())
	case r := <-ch:
		key, _ := r.Val.(auth.Key)
		return key, r.Err
	}
}

func (k *Store) fetch(ctx context.Context, id string) (auth.Key, error) {
	select {
	case k.reads <- struct{}{}:
		defer func() { <-k.reads }()
	case <-ctx.Done():
		return auth.Key{}, fmt.Errorf("read api key: %w", ctx.Err())
	}
	k.mu.RLock()
	forgets := k.forgets
	k.mu.RUnlock()
	began := time.Now()
	row, err := k.repo.Get(ctx, id)
	if errors.Is(err, persistence.ErrNotFound) {
		k.answered(nil)
		k.mu.Lock()
		if k.known[id] != nil {
			delete(k.known, id) // no forget: wrong key ids must not keep right ones from being remembered
			k.changed.Ring()
		}
		k.mu.Unlock()
		return auth.Key{}, noSuchKey()
	}
	k.answered(err)
	if err != nil {
		return auth.Key{}, fmt.Errorf("read api key: %w", err)
	}
	k.remember(id, &known{version: row.Version, digest: row.Digest, read: began}, forgets)
	return auth.Key{
		ID: row.ID, Hash: row.Hash, Digest: row.Digest, Name: row.Name, Tenant: row.Tenant, Permissions: row.Permissions,
		RateLimit: row.RateLimit, ExpiresAt: row.ExpiresAt, Active: row.Active, Version: row.Version,
	}, nil
}

func (k *Store) remember(id string, e *known, forgets uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.forgets != forgets {
		return // it may be what was to be forgotten
	}
	if len(k.known) >= maxKnownKeys && k.known[id] == nil {
		for other := range k.known {
			delete(k.known, other)
			break
		}
	}
	e.used.Store(e.read.UnixNano())
	if old := k.known[id]; old != nil && old.version != e.version {
		defer k.changed.Ring()
	}
	k.known[id] = e
}

// Forget makes the next use of a key ask the store.
func (k *Store) Forget(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forgets++
	delete(k.known, id)
	k.changed.Ring()
	k.flight.Forget(id)
}

// answered notes whether the store could be reached.
func (k *Store) answered(err error) {
	k.mu.Lock()
	before := k.failing
	k.failing = err != nil
	if before != k.failing {
		k.changed.Ring()
	}
	k.mu.Unlock()
	switch {
	case err != nil && !before:
		k.logger.Warn("the key store does not answer; keys that it confirmed stay valid for now", slog.Duration("at_most", grace), slog.Any("err", err))
	case err == nil && before:
		k.logger.Info("the key store answers again")
	}
}

// Touch implements auth.KeyStore.
func (k *Store) Touch(ctx context.Context, used map[string]time.Time) error {
	return k.repo.Touch(ctx, used)
}

func (k *Store) pollLoop(ctx context.Context) {
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			k.poll(ctx)
		}
	}
}

// poll has all versions confirmed in one query.
func (k *Store) poll(ctx context.Context) {
	began := time.Now()
	asked, failing := k.askable(began)
	if len(asked) == 0 && !failing {
		return
	}
	limit := pollTimeout
	if failing {
		limit = readTime // slow is better than none
	}
	ids := make([]string, 0, len(asked))
	for id := range asked {
		ids = append(ids, id)
	}
	qctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	versions, err := k.repo.Versions(qctx, ids)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		k.answered(err)
		return
	}
	k.confirm(asked, versions, began)
	k.answered(nil) // after it: whoever that wakes finds what was confirmed
}

// confirm takes over what the store says of the versions that were asked for.
func (k *Store) confirm(asked map[string]*known, versions map[string]int64, began time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	changed := false
	for id, e := range asked {
		if k.known[id] != e {
			continue // forgotten or read anew meanwhile
		}
		version, ok := versions[id]
		if !ok {
			delete(k.known, id)
			changed = true
			continue
		}
		changed = changed || e.version != version
		e.version, e.read = version, began
	}
	if changed {
		k.changed.Ring()
	}
}

// askable lists the keys in use and forgets the others.
func (k *Store) askable(now time.Time) (asked map[string]*known, failing bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	asked = make(map[string]*known, len(k.known))
	for id, e := range k.known {
		if now.Sub(time.Unix(0, e.used.Load())) > grace {
			delete(k.known, id)
			continue
		}
		asked[id] = e
	}
	return asked, k.failing
}

// watchLoop forgets keys as soon as the store says that they changed. What it
// misses, poll finds.
func (k *Store) watchLoop(ctx context.Context, w persistence.KeyWatcher) {
	for told := false; ; {
		err := w.WatchKeys(ctx, func() { told = false }, k.Forget)
		if ctx.Err() != nil {
			return
		}
		if !told {
			k.logger.Warn("changed keys are not announced for now; they are found by asking", slog.Any("err", err))
			told = true
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchPause):
		}
	}
}
