package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/singleflight"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// KeysConfig tunes Keys; the zero value is good.
type KeysConfig struct {
	// Remember is how long a key that passed is used without another bcrypt
	// check; after it, and for as long again, it is still used while it is
	// checked in the background. 0: 5 minutes.
	Remember time.Duration
	// MaxRemembered bounds the keys that are remembered, and likewise the
	// wrong ones. When full, an arbitrary one is forgotten. 0: 10,000.
	MaxRemembered int
	// Checks is how many bcrypt comparisons run at once. 0: half the CPUs.
	Checks int
	// MaxWaiting bounds the checks that wait, per key id 2, and 1 where a wrong
	// text cannot be told without a check; else 503. 0: 256.
	MaxWaiting int
	// TouchEvery is how often times of last use are written. 0: 1 minute.
	TouchEvery time.Duration
}

func (c KeysConfig) withDefaults() KeysConfig {
	def := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	defInt := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&c.Remember, 5*time.Minute)
	def(&c.TouchEvery, time.Minute)
	defInt(&c.MaxRemembered, 10_000)
	defInt(&c.Checks, max(1, runtime.GOMAXPROCS(0)/2))
	defInt(&c.MaxWaiting, 256)
	return c
}

const (
	// failPause is how long a key id without digest is left alone after a wrong
	// text, so that it takes the checks from nobody else.
	failPause    = 5 * time.Second
	checkTimeout = 10 * time.Second
	touchTimeout = 5 * time.Second
)

type mac [sha256.Size]byte

// remembered is a key that passed.
type remembered struct {
	mac       mac
	version   int64
	principal *Principal
	fresh     time.Time // until then without another check
	stale     time.Time // until then while it is checked again
	checking  bool
}

// Keys authenticates API keys. It is safe for concurrent use.
type Keys struct {
	cfg     KeysConfig
	store   KeyStore
	logger  *slog.Logger
	hmacKey []byte
	flight  singleflight.Group
	slots   chan struct{} // one per bcrypt comparison under way
	again   chan struct{} // the same for keys that passed before: attacks on others do not keep them waiting
	results *prometheus.CounterVec

	mu      sync.Mutex
	passed  map[string]remembered // by key id
	wrong   map[mac]time.Time     // until when a wrong text is known as such
	waiting map[string]int        // checks under way, by key id
	failed  map[string]time.Time  // until when key ids without digest are left alone
	total   int
	used    map[string]time.Time

	run    sync.WaitGroup
	ctx    context.Context // of the goroutines, nil before Start
	cancel context.CancelFunc
}

// NewKeys returns an Authenticator over the store. r may be nil.
func NewKeys(cfg KeysConfig, store KeyStore, logger *slog.Logger, r prometheus.Registerer) (*Keys, error) {
	cfg = cfg.withDefaults()
	k := &Keys{
		cfg: cfg, store: store, logger: logger, hmacKey: make([]byte, 32),
		slots: make(chan struct{}, cfg.Checks), again: make(chan struct{}, 1),
		passed: map[string]remembered{}, wrong: map[mac]time.Time{},
		waiting: map[string]int{}, failed: map[string]time.Time{}, used: map[string]time.Time{},
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dash_auth_checks_total",
			Help: "Checks of API keys by result: remembered, passed, wrong, busy, error; stale counts those of the first two that the store did not confirm in time.",
		}, []string{"result"}),
	}
	if _, err := rand.Read(k.hmacKey); err != nil {
		return nil, fmt.Errorf("make memory key: %w", err)
	}
	if r != nil {
		if err := r.Register(k.results); err != nil {
			return nil, fmt.Errorf("register auth metrics: %w", err)
		}
	}
	return k, nil
}

// Start begins writing times of last use. It is idempotent.
func (k *Keys) Start(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ctx != nil {
		return nil
	}
	k.ctx, k.cancel = context.WithCancel(context.WithoutCancel(ctx))
	loop := k.ctx
	k.run.Go(func() { k.touchLoop(loop) })
	return nil
}

// Stop writes the last times of use and waits for its goroutines. It is idempotent.
func (k *Keys) Stop(ctx context.Context) error {
	k.mu.Lock()
	cancel := k.cancel
	if cancel != nil {
		cancel() // under mu: no re-check starts afterwards
	}
	k.mu.Unlock()
	if cancel == nil {
		return nil
	}
	done := make(chan struct{})
	go func() { k.run.Wait(); close(done) }()
	select {
	case <-done:
		return k.touch(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Authenticate implements Authenticator.
func (k *Keys) Authenticate(ctx context.Context, token string) (*Principal, error) {
	id, ok := parseKey(token)
	if !ok {
		return nil, k.refuse("wrong", Wrong())
	}
	state, err := k.store.State(ctx, id)
	if err != nil {
		return nil, k.storeError(err)
	}
	p, err := k.authenticate(ctx, id, token, state)
	if err != nil || state.Stale.IsZero() {
		return p, err
	}
	k.results.WithLabelValues("stale").Inc()
	stale := *p
	stale.Stale = state.Stale
	return &stale, nil
}

// Changed implements Authenticator.
func (k *Keys) Changed() <-chan struct{} { return k.store.Changed() }

func (k *Keys) authenticate(ctx context.Context, id, token string, state KeyState) (*Principal, error) {
	version, digest := state.Version, state.Digest
	m := k.mac(token)
	now := time.Now()

	k.mu.Lock()
	if p := k.recall(id, token, m, version, now); p != nil {
		k.used[id] = now
		k.mu.Unlock()
		k.results.WithLabelValues("remembered").Inc()
		return p, nil
	}
	until, known := k.wrong[m]
	k.mu.Unlock()
	other := len(digest) > 0 && !hmac.Equal(digest, Digest(messages.Secret(token)))
	if other || known && now.Before(until) {
		return nil, k.refuse("wrong", Wrong())
	}
	return k.verify(ctx, id, token, m, version, func() (func(), chan struct{}, bool) {
		leave, ok := k.enter(id, len(digest) > 0, now)
		return leave, k.slots, ok
	})
}

// recall finds a key that passed before. Beyond its fresh time it starts one
// check in the background. k.mu is held.
func (k *Keys) recall(id, token string, m mac, version int64, now time.Time) *Principal {
	e, ok := k.passed[id]
	if !ok || !hmac.Equal(e.mac[:], m[:]) {
		return nil
	}
	ended := !e.principal.ExpiresAt.IsZero() && !now.Before(e.principal.ExpiresAt)
	if e.version != version || now.After(e.stale) || ended {
		delete(k.passed, id)
		return nil
	}
	if now.After(e.fresh) && !e.checking && k.ctx != nil && k.ctx.Err() == nil {
		e.checking = true
		k.passed[id] = e
		ctx := k.ctx
		k.run.Go(func() { k.recheck(ctx, id, token, m, version) })
	}
	return e.principal
}

// recheck proves a remembered key again. One that does not pass is forgotten;
// one that could not be checked may be tried again until it is stale.
func (k *Keys) recheck(ctx context.Context, id, token string, m mac, version int64) {
	_, err := k.verify(ctx, id, token, m, version, func() (func(), chan struct{}, bool) { return func() {}, k.again, true })
	if err == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	e, ok := k.passed[id]
	switch {
	case !ok || e.mac != m:
	case messages.CodeOf(err) == messages.CodeUnauthorized:
		delete(k.passed, id)
	default:
		e.checking = false
		k.passed[id] = e
	}
}

// verify compares with bcrypt; equal texts share one comparison, but not with
// one that began before the key's row changed.
// enter gives the slots that it waits for, unless it may not wait.
func (k *Keys) verify(ctx context.Context, id, token string, m mac, version int64, enter func() (leave func(), slots chan struct{}, ok bool)) (*Principal, error) {
	flight := string(binary.BigEndian.AppendUint64(m[:], uint64(version)))
	ch := k.flight.DoChan(flight, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
		defer cancel()
		leave, slots, ok := enter()
		if !ok {
			return nil, k.refuse("busy", busy(nil))
		}
		defer leave()
		return k.check(ctx, id, token, m, slots)
	})
	select {
	case <-ctx.Done():
		return nil, k.refuse("busy", busy(ctx.Err()))
	case r := <-ch:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*Principal), nil
	}
}

func (k *Keys) check(ctx context.Context, id, token string, m mac, slots chan struct{}) (*Principal, error) {
	key, err := k.store.Key(ctx, id)
	if err != nil {
		return nil, k.storeError(err)
	}
	if key.ended(time.Now()) {
		return nil, k.refuse("wrong", Wrong())
	}
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return nil, k.refuse("busy", busy(ctx.Err()))
	}
	err = bcrypt.CompareHashAndPassword(key.Hash, []byte(token))
	<-slots
	if err != nil {
		k.mu.Lock()
		keep(k.wrong, m, time.Now().Add(k.cfg.Remember), k.cfg.MaxRemembered)
		if len(key.Digest) == 0 {
			keep(k.failed, id, time.Now().Add(failPause), k.cfg.MaxRemembered)
		}
		k.mu.Unlock()
		return nil, k.refuse("wrong", Wrong())
	}
	// The comparison took a while, and so did the wait for it: what counts is
	// what the key is now.
	if key, err = k.renewed(ctx, key); err != nil {
		return nil, k.storeError(err)
	}
	now := time.Now()
	if key.ended(now) {
		return nil, k.refuse("wrong", Wrong())
	}
	p := principal(key)
	k.mu.Lock()
	keep(k.passed, id, remembered{
		mac: m, version: key.Version, principal: p, fresh: now.Add(k.cfg.Remember), stale: now.Add(2 * k.cfg.Remember),
	}, k.cfg.MaxRemembered)
	k.used[id] = now
	k.mu.Unlock()
	k.results.WithLabelValues("passed").Inc()
	if len(key.Digest) == 0 {
		if err := k.store.Learn(ctx, id, Digest(messages.Secret(token))); err != nil {
			k.logger.Warn("the digest of a key was not kept", slog.String("key_id", id), slog.Any("err", err))
		}
	}
	return p, nil
}

// renewed is the key as it is now.
func (k *Keys) renewed(ctx context.Context, key Key) (Key, error) {
	state, err := k.store.State(ctx, key.ID)
	if err != nil || state.Version == key.Version {
		return key, err
	}
	return k.store.Key(ctx, key.ID)
}

func principal(key Key) *Principal {
	p := &Principal{ID: "key:" + key.ID, Name: key.Name, Tenant: key.Tenant, RateLimit: key.RateLimit, ExpiresAt: key.ExpiresAt}
	for _, s := range key.Permissions {
		p.Permissions = append(p.Permissions, Permission(s))
	}
	p.Permissions = Expand(p.Permissions)
	return p
}

// enter counts a check of the key, unless too many wait: the attacked key id
// is refused long before the others are. Only the right text of a key with a
// digest comes so far, perhaps for two versions of its row.
func (k *Keys) enter(id string, digest bool, now time.Time) (leave func(), ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	most := 1
	if digest {
		most = 2
	} else if now.Before(k.failed[id]) {
		return nil, false
	}
	if k.waiting[id] >= most || k.total >= k.cfg.MaxWaiting {
		return nil, false
	}
	k.waiting[id]++
	k.total++
	return func() { k.leave(id) }, true
}

func (k *Keys) leave(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.total--
	if k.waiting[id]--; k.waiting[id] == 0 {
		delete(k.waiting, id)
	}
}

func (k *Keys) mac(token string) (m mac) {
	h := hmac.New(sha256.New, k.hmacKey)
	h.Write([]byte(token))
	h.Sum(m[:0])
	return m
}

func (k *Keys) refuse(result string, err *messages.Error) error {
	k.results.WithLabelValues(result).Inc()
	return err
}

func (k *Keys) storeError(err error) error {
	if messages.CodeOf(err) == messages.CodeNotFound {
		return k.refuse("wrong", Wrong())
	}
	return k.refuse("error", &messages.Error{
		Code: messages.CodeUnavailable, Message: "the key store does not answer",
		NextStep: next.TryAgain, RetryAfter: time.Second, Err: err,
	})
}

func busy(cause error) *messages.Error {
	return &messages.Error{
		Code: messages.CodeUnavailable, Message: "too many API keys are being checked",
		NextStep: next.TryAgain, RetryAfter: time.Second, Err: cause,
	}
}

// keep stores a value and forgets an arbitrary other one when m is full.
func keep[K comparable, V any](m map[K]V, key K, v V, limit int) {
	if _, ok := m[key]; !ok && len(m) >= limit {
		for other := range m {
			delete(m, other)
			break
		}
	}
	m[key] = v
}

func (k *Keys) touchLoop(ctx context.Context) {
	t := time.NewTicker(k.cfg.TouchEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := k.touch(ctx); err != nil && !errors.Is(err, context.Canceled) {
				k.logger.Warn("times of last use not written", slog.Any("err", err))
			}
		}
	}
}

// touch writes the collected times of last use. What cannot be written is
// dropped: the next use brings a newer time.
func (k *Keys) touch(ctx context.Context) error {
	k.mu.Lock()
	used := k.used
	k.used = map[string]time.Time{}
	k.mu.Unlock()
	if len(used) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, touchTimeout)
	defer cancel()
	if err := k.store.Touch(ctx, used); err != nil {
		return fmt.Errorf("touch keys: %w", err)
	}
	return nil
}
