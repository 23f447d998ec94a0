package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"

	"github.com/dash-fleet/dash/messages"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is a KeyStore in memory.
type store struct {
	mu      sync.Mutex
	keys    map[string]Key
	reads   int           // of whole keys: one per bcrypt comparison
	block   chan struct{} // reads wait for it, when set
	after   func()        // runs once after the next read
	old     bool          // it keeps no digests
	err     error
	stale   time.Time // what State says
	changed Signal
	touched map[string]time.Time
}

func (s *store) State(_ context.Context, id string) (KeyState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return KeyState{}, s.err
	}
	k, ok := s.keys[id]
	if !ok {
		return KeyState{}, &messages.Error{Code: messages.CodeNotFound}
	}
	return KeyState{Version: k.Version, Digest: k.Digest, Stale: s.stale}, nil
}

func (s *store) Changed() <-chan struct{} { return s.changed.Next() }

func (s *store) Learn(_ context.Context, id string, digest []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[id]
	if !s.old {
		k.Digest = digest
	}
	s.keys[id] = k
	return nil
}

func (s *store) Key(ctx context.Context, id string) (Key, error) {
	s.mu.Lock()
	s.reads++
	k, block, after := s.keys[id], s.block, s.after
	s.after = nil
	s.mu.Unlock()
	if after != nil {
		after()
	}
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return k, ctx.Err()
		}
	}
	return k, nil
}

func (s *store) Touch(_ context.Context, used map[string]time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touched = used
	return nil
}

func (s *store) change(id string, f func(*Key)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[id]
	f(&k)
	k.Version++
	s.keys[id] = k
	s.changed.Ring()
}

func (s *store) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

// setup returns Keys over a store with one key.
func setup(t *testing.T, cfg KeysConfig) (k *Keys, s *store, text, id string) {
	t.Helper()
	secret, id, hash, err := NewKey(bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	s = &store{keys: map[string]Key{id: {ID: id, Hash: hash, Name: "test", Permissions: []string{"tasks:read"}, Active: true, Version: 1}}}
	k, err = NewKeys(cfg, s, slog.New(slog.NewTextHandler(io.Discard, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return k, s, secret.Reveal(), id
}

func TestNewKeyIsReadable(t *testing.T) {
	t.Parallel()
	text, id, hash, err := NewKey(bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := parseKey(text.Reveal()); !ok || got != id || len(text.Reveal()) > 72 {
		t.Errorf("%q %v, %d bytes", got, ok, len(text.Reveal()))
	}
	if strings.Contains(fmt.Sprint(text), id) || bcrypt.CompareHashAndPassword(hash, []byte(text.Reveal())) != nil {
		t.Error("the key prints itself or does not fit its hash")
	}
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	k, s, text, id := setup(t, KeysConfig{})
	ctx := t.Context()
	for range 3 {
		p, err := k.Authenticate(ctx, text)
		if err != nil || p.ID != "key:"+id || !p.May(TasksRead) || p.May(TasksWrite) {
			t.Fatalf("%+v %v", p, err)
		}
	}
	if s.count() != 1 {
		t.Errorf("%d bcrypt checks for three uses", s.count())
	}
	wrong := text[:len(text)-1] + string('A'+(text[len(text)-1]-'A'+1)%26)
	for _, token := range []string{wrong, wrong, text + "x", text[:len(text)-1], "", "dash_", strings.Repeat("x", 100), "dash_unknownid000_" + strings.Repeat("a", 43)} {
		if _, err := k.Authenticate(ctx, token); messages.CodeOf(err) != messages.CodeUnauthorized {
			t.Errorf("%q: %v", token, err)
		}
	}
	if s.count() != 1 {
		t.Errorf("%d bcrypt checks, want 1: wrong keys need none", s.count())
	}
	if _, err := k.Authenticate(ctx, text); err != nil {
		t.Errorf("the right key suffers from the wrong one: %v", err)
	}
}

func TestRevokedKeyEndsAtOnce(t *testing.T) {
	t.Parallel()
	k, s, text, id := setup(t, KeysConfig{})
	if _, err := k.Authenticate(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	s.change(id, func(k *Key) { k.Active = false })
	if _, err := k.Authenticate(t.Context(), text); messages.CodeOf(err) != messages.CodeUnauthorized {
		t.Errorf("revoked: %v", err)
	}
	s.change(id, func(k *Key) { k.Active = true; k.Permissions = []string{"admin"} })
	if p, err := k.Authenticate(t.Context(), text); err != nil || !p.May(GatewaysWrite) {
		t.Errorf("changed: %+v %v", p, err)
	}
}

// TestRevokedDuringItsCheck: a key that is revoked while it is compared lets
// nobody in.
func TestRevokedDuringItsCheck(t *testing.T) {
	t.Parallel()
	k, s, text, id := setup(t, KeysConfig{})
	s.after = func() { s.change(id, func(k *Key) { k.Active = false }) }
	if _, err := k.Authenticate(t.Context(), text); messages.CodeOf(err) != messages.CodeUnauthorized {
		t.Errorf("revoked during the check: %v", err)
	}
}

// TestChangedKeyIsNotCheckedWithTheOldOne: who comes after a change does not
// share a check that began before it.
func TestChangedKeyIsNotCheckedWithTheOldOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, s, text, id := setup(t, KeysConfig{})
		s.change(id, func(k *Key) { k.Digest = Digest(messages.Secret(text)) })
		block := make(chan struct{})
		s.block = block
		first := make(chan error, 1)
		go func() { _, err := k.Authenticate(t.Context(), text); first <- err }()
		synctest.Wait()
		s.change(id, func(k *Key) { k.Permissions = []string{"admin"} })
		s.mu.Lock()
		s.block = nil
		s.mu.Unlock()
		p, err := k.Authenticate(t.Context(), text)
		if err != nil || !p.May(GatewaysWrite) {
			t.Errorf("after the change: %+v %v", p, err)
		}
		close(block)
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}

func TestMemoryEndsAndIsRenewedInTheBackground(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, s, text, id := setup(t, KeysConfig{Remember: time.Minute, TouchEvery: time.Hour})
		if err := k.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		use := func() error {
			_, err := k.Authenticate(t.Context(), text)
			synctest.Wait()
			return err
		}
		if err := use(); err != nil || s.count() != 1 {
			t.Fatalf("%v %d", err, s.count())
		}
		time.Sleep(61 * time.Second)
		if err := use(); err != nil || s.count() != 2 {
			t.Errorf("not checked again in the background: %v, %d checks", err, s.count())
		}
		time.Sleep(30 * time.Second)
		if err := use(); err != nil || s.count() != 2 {
			t.Errorf("checked again too early: %v, %d checks", err, s.count())
		}
		time.Sleep(3 * time.Minute)
		if err := use(); err != nil || s.count() != 3 {
			t.Errorf("a stale memory was used: %v, %d checks", err, s.count())
		}
		s.change(id, func(k *Key) { k.ExpiresAt = time.Now().Add(10 * time.Second) })
		if err := use(); err != nil {
			t.Error(err)
		}
		time.Sleep(11 * time.Second)
		if err := use(); messages.CodeOf(err) != messages.CodeUnauthorized {
			t.Errorf("expired: %v", err)
		}
		if err := k.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if s.touched[id].IsZero() {
			t.Error("the last use was not written")
		}
	})
}

// TestWrongKeysHurtNobodyElse is about keys without a digest.
func TestWrongKeysHurtNobodyElse(t *testing.T) {
	t.Parallel()
	k, s, text, id := setup(t, KeysConfig{Checks: 1, MaxWaiting: 20})
	s.old = true
	if _, err := k.Authenticate(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	other, otherID, hash, err := NewKey(bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	s.change(otherID, func(k *Key) { *k = Key{ID: otherID, Hash: hash, Active: true} })
	block := make(chan struct{})
	s.mu.Lock()
	s.block = block
	s.mu.Unlock()
	var wg sync.WaitGroup
	results := make(chan messages.Code, 100)
	for i := range 100 {
		wg.Go(func() {
			_, err := k.Authenticate(t.Context(), fmt.Sprintf("dash_%s_%043d", id, i))
			results <- messages.CodeOf(err)
		})
	}
	// All but the one that may wait are refused at once.
	for range 100 - 1 {
		if code := <-results; code != messages.CodeUnavailable {
			t.Errorf("refused with %s", code)
		}
	}
	if _, err := k.Authenticate(t.Context(), text); err != nil {
		t.Errorf("a known key waits behind wrong ones: %v", err)
	}
	close(block)
	if _, err := k.Authenticate(t.Context(), other.Reveal()); err != nil {
		t.Errorf("a new key of another id is refused: %v", err)
	}
	wg.Wait()
	if code := <-results; code != messages.CodeUnauthorized {
		t.Errorf("a waiting wrong key ends with %s", code)
	}
	if _, err := k.Authenticate(t.Context(), fmt.Sprintf("dash_%s_%043d", id, 100)); messages.CodeOf(err) != messages.CodeUnavailable {
		t.Errorf("the next wrong text of the key: %v, want a pause", err)
	}
}

// TestAKeyInUseOutlivesAnAttack: whoever takes all checks does not keep a key
// that passed from being proved again.
func TestAKeyInUseOutlivesAnAttack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, _, text, id := setup(t, KeysConfig{Remember: time.Minute, Checks: 1, MaxWaiting: 1})
		if err := k.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Authenticate(t.Context(), text); err != nil {
			t.Fatal(err)
		}
		k.slots <- struct{}{} // somebody else's check, and a queue
		k.mu.Lock()
		k.waiting[id], k.total = 2, 1
		k.mu.Unlock()
		for range 50 { // 5 times as long as it is remembered
			time.Sleep(6 * time.Second)
			if _, err := k.Authenticate(t.Context(), text); err != nil {
				t.Fatalf("a key in constant use: %v", err)
			}
			synctest.Wait()
		}
		if err := k.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestWrongKeysCostNoCheck: once the digest of a key is known, which the first
// use that passes sees to, wrong texts of it are told from right ones at once,
// however many come and whoever waits for a comparison.
func TestWrongKeysCostNoCheck(t *testing.T) {
	t.Parallel()
	k, s, text, id := setup(t, KeysConfig{Checks: 1, MaxWaiting: 1})
	if _, err := k.Authenticate(t.Context(), text); err != nil || len(s.keys[id].Digest) == 0 {
		t.Fatalf("the digest is not kept: %v", err)
	}
	cold, err := NewKeys(KeysConfig{Checks: 1, MaxWaiting: 1}, s, slog.New(slog.NewTextHandler(io.Discard, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	before := s.count()
	for i := range 1000 {
		if _, err := cold.Authenticate(t.Context(), fmt.Sprintf("dash_%s_%043d", id, i)); messages.CodeOf(err) != messages.CodeUnauthorized {
			t.Fatalf("wrong text %d: %v", i, err)
		}
	}
	if n := s.count() - before; n != 0 {
		t.Errorf("%d checks for wrong texts", n)
	}
	s.change(id, func(k *Key) { k.Hash = []byte("$2a$04$other") })
	if _, err := cold.Authenticate(t.Context(), text); messages.CodeOf(err) != messages.CodeUnauthorized {
		t.Errorf("the digest lets in what the hash does not: %v", err)
	}
}

func TestEqualMissesShareOneCheck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, s, text, _ := setup(t, KeysConfig{})
		s.block = make(chan struct{})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := k.Authenticate(t.Context(), text); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(s.block)
		wg.Wait()
		if s.count() != 1 {
			t.Errorf("%d checks for 50 first uses at once", s.count())
		}
	})
}

func TestStoreDownIsNotAWrongKey(t *testing.T) {
	t.Parallel()
	k, s, text, _ := setup(t, KeysConfig{})
	s.err = errors.New("disk full")
	_, err := k.Authenticate(t.Context(), text)
	var e *messages.Error
	if !errors.As(err, &e) || e.Code != messages.CodeUnavailable || e.RetryAfter == 0 || strings.Contains(e.Message, "disk") {
		t.Errorf("%v", err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	m := map[int]int{}
	for i := range 100 {
		keep(m, i, i, 10)
		if m[i] != i || len(m) > 10 {
			t.Fatalf("%d of 10 kept, newest %d", len(m), m[i])
		}
	}
}

func TestAccess(t *testing.T) {
	t.Parallel()
	p := &Principal{Permissions: []Permission{TasksRead}}
	for _, c := range []struct {
		access Access
		p      *Principal
		want   messages.Code
	}{
		{Access{}, p, messages.CodeForbidden},
		{Access{}, &Principal{Permissions: []Permission{""}}, messages.CodeForbidden},
		{Access{}, nil, messages.CodeUnauthorized},
		{Public(), nil, ""},
		{Need(TasksRead), nil, messages.CodeUnauthorized},
		{Need(TasksRead), p, ""},
		{Need(TasksWrite), p, messages.CodeForbidden},
		{Need(TasksWrite), &Principal{Permissions: []Permission{Admin}}, ""},
		{InBand(EventsRead), p, messages.CodeForbidden},
	} {
		var got messages.Code
		if err := c.access.Allows(c.p); err != nil {
			got = messages.CodeOf(err)
		}
		if got != c.want {
			t.Errorf("%+v for %+v: %q, want %q", c.access, c.p, got, c.want)
		}
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	for v, want := range map[string]string{"Bearer abc": "abc", "bearer abc": "abc", "Bearer": "!", "Bearer ": "!", "Bearer  abc": "!", "Basic abc": "!", "abc": "!"} {
		got, err := Token(http.Header{"Authorization": {v}})
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", v, got, want)
		}
	}
	if _, err := Token(http.Header{"Authorization": {"Bearer a", "Bearer b"}}); err == nil {
		t.Error("two credentials are accepted")
	}
	if got, err := Token(http.Header{}); got != "" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}
