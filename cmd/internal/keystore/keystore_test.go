package keystore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// keyRows is a table of keys that other processes change, and that can be cut off.
type keyRows struct {
	persistence.Keys
	mu       sync.Mutex
	versions map[string]int64
	err      error
	hang     bool          // answers never come
	slow     chan struct{} // answers of Versions wait for it, when set
	gets     int
	changed  func(string)
}

func (r *keyRows) enter(ctx context.Context) error {
	r.mu.Lock()
	err, hang := r.err, r.hang
	r.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (r *keyRows) Get(ctx context.Context, id string) (persistence.Key, error) {
	if err := r.enter(ctx); err != nil {
		return persistence.Key{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gets++
	v, ok := r.versions[id]
	if !ok {
		return persistence.Key{}, persistence.ErrNotFound
	}
	return persistence.Key{Key: messages.Key{ID: id, Version: v}}, nil
}

func (r *keyRows) Versions(ctx context.Context, ids []string) (map[string]int64, error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	m := map[string]int64{}
	for _, id := range ids {
		if v, ok := r.versions[id]; ok {
			m[id] = v
		}
	}
	slow := r.slow
	r.mu.Unlock()
	if slow != nil {
		<-slow
	}
	return m, nil
}

func (r *keyRows) set(change func(*keyRows)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

// announcing is keyRows of an engine that tells of changes.
type announcing struct{ *keyRows }

func (a announcing) WatchKeys(ctx context.Context, ready func(), changed func(string)) error {
	a.set(func(r *keyRows) { r.changed = changed })
	ready()
	<-ctx.Done()
	return ctx.Err()
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// withStore runs a test in a bubble of time, over a key "k" of version 1.
func withStore(t *testing.T, watch bool, test func(t *testing.T, s *Store, rows *keyRows)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		rows := &keyRows{versions: map[string]int64{"k": 1}}
		var repo persistence.Keys = rows
		if watch {
			repo = announcing{rows}
		}
		s := New(repo, quiet())
		s.Start(t.Context())
		defer s.Stop()
		synctest.Wait()
		test(t, s, rows)
	})
}

func wantVersion(t *testing.T, s *Store, want int64, when string) {
	t.Helper()
	if v, err := s.State(t.Context(), "k"); err != nil || v.Version != want {
		t.Errorf("%s: version %d, %v; want %d", when, v.Version, err, want)
	}
}

// slowKey is keyRows that takes its time over the key "k".
type slowKey struct {
	*keyRows
	asked, answer chan struct{}
}

func (r slowKey) Get(ctx context.Context, id string) (persistence.Key, error) {
	if id == "k" {
		r.asked <- struct{}{}
		<-r.answer
	}
	return r.keyRows.Get(ctx, id)
}

// TestWrongKeysDoNotHinderOthers: a key is remembered although somebody tries
// wrong ones while it is read.
func TestWrongKeysDoNotHinderOthers(t *testing.T) {
	t.Parallel()
	rows := slowKey{keyRows: &keyRows{versions: map[string]int64{"k": 1}}, asked: make(chan struct{}), answer: make(chan struct{})}
	s := New(rows, quiet())
	var read sync.WaitGroup
	read.Go(func() { wantVersion(t, s, 1, "read beside wrong keys") })
	<-rows.asked
	if _, err := s.State(t.Context(), "wrong"); messages.CodeOf(err) != messages.CodeNotFound {
		t.Errorf("a wrong key: %v", err)
	}
	close(rows.answer)
	read.Wait()
	wantVersion(t, s, 1, "remembered")
	if rows.gets != 1 {
		t.Errorf("%d reads, want one of the key", rows.gets)
	}
}

// far is keyRows at the end of a long line.
type far struct{ *keyRows }

func (r far) Get(ctx context.Context, id string) (persistence.Key, error) {
	time.Sleep(20 * time.Millisecond)
	return r.keyRows.Get(ctx, id)
}

func (r far) Versions(ctx context.Context, ids []string) (map[string]int64, error) {
	time.Sleep(20 * time.Millisecond)
	return r.keyRows.Versions(ctx, ids)
}

// TestAFloodOfUnknownIDs: a key that nothing is known about does not wait for
// thousands of ids that are no key's.
func TestAFloodOfUnknownIDs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rows := &keyRows{versions: map[string]int64{"k": 1}}
		s := New(far{rows}, quiet())
		s.Start(t.Context())
		defer s.Stop()
		var flood sync.WaitGroup
		for i := range 4000 {
			flood.Go(func() {
				if _, err := s.State(t.Context(), fmt.Sprint("wrong-", i)); messages.CodeOf(err) != messages.CodeNotFound {
					t.Errorf("an unknown id: %v", err)
				}
			})
		}
		synctest.Wait()
		began := time.Now()
		wantVersion(t, s, 1, "beside the flood")
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("a key was found after %v", took)
		}
		flood.Wait()
		if took := time.Since(began); took > time.Second {
			t.Errorf("the flood was answered after %v", took)
		}
	})
}

func TestKeyStoreFindsChanges(t *testing.T) {
	t.Parallel()
	withStore(t, false, func(t *testing.T, s *Store, rows *keyRows) {
		for range 100 { // 10 s of constant use cost one read of the row
			wantVersion(t, s, 1, "in use")
			time.Sleep(100 * time.Millisecond)
		}
		if rows.gets != 1 {
			t.Errorf("%d reads of the row", rows.gets)
		}
		rows.set(func(r *keyRows) { r.versions["k"] = 2 })
		time.Sleep(time.Second)
		wantVersion(t, s, 2, "a second after another process changed it")
		rows.set(func(r *keyRows) { delete(r.versions, "k") })
		time.Sleep(time.Second)
		if _, err := s.State(t.Context(), "k"); messages.CodeOf(err) != messages.CodeNotFound {
			t.Errorf("a removed key: %v", err)
		}
	})
}

func TestKeyStoreHearsOfChanges(t *testing.T) {
	t.Parallel()
	withStore(t, true, func(t *testing.T, s *Store, rows *keyRows) {
		wantVersion(t, s, 1, "first")
		rows.set(func(r *keyRows) { r.versions["k"] = 2 })
		wantVersion(t, s, 1, "not told yet")
		rows.changed("k")
		wantVersion(t, s, 2, "told")
	})
}

func TestKeyStoreWithoutStore(t *testing.T) {
	t.Parallel()
	withStore(t, false, func(t *testing.T, s *Store, rows *keyRows) {
		wantVersion(t, s, 1, "first")
		rows.set(func(r *keyRows) { r.err = persistence.ErrUnavailable })
		for range 29 { // almost all of the grace
			time.Sleep(grace / 30)
			wantVersion(t, s, 1, "the store is down")
		}
		if _, err := s.State(t.Context(), "unknown"); !errors.Is(err, persistence.ErrUnavailable) {
			t.Errorf("a key that nobody confirmed: %v", err)
		}
		rows.set(func(r *keyRows) { r.err = nil; r.versions["k"] = 2 })
		time.Sleep(time.Second)
		wantVersion(t, s, 2, "a second after the store is back")
		rows.set(func(r *keyRows) { r.err = persistence.ErrUnavailable })
		time.Sleep(grace + time.Second)
		if _, err := s.State(t.Context(), "k"); !errors.Is(err, persistence.ErrUnavailable) {
			t.Errorf("beyond the grace: %v", err)
		}
	})
}

// A store that takes questions and never answers costs a request little, once.
func TestKeyStoreCutOff(t *testing.T) {
	t.Parallel()
	withStore(t, false, func(t *testing.T, s *Store, rows *keyRows) {
		wantVersion(t, s, 1, "first")
		rows.set(func(r *keyRows) { r.hang = true })
		var longest time.Duration
		for range 600 {
			start := time.Now()
			wantVersion(t, s, 1, "cut off")
			longest = max(longest, time.Since(start))
			time.Sleep(100 * time.Millisecond)
		}
		if longest > pollTimeout {
			t.Errorf("a request waited %v", longest)
		}
		start := time.Now()
		if _, err := s.State(t.Context(), "unknown"); err == nil || time.Since(start) > readTime {
			t.Errorf("an unknown key: %v after %v", err, time.Since(start))
		}
		rows.set(func(r *keyRows) { r.hang = false; r.versions["k"] = 2 })
		time.Sleep(readTime + time.Second) // the question under way must end first
		wantVersion(t, s, 2, "connected again")
	})
}

// TestKeyStoreSaysHowOldItIs: who trusts a key of a store that does not answer is
// told since when, and everybody who waits is told when that begins and ends.
func TestKeyStoreSaysHowOldItIs(t *testing.T) {
	t.Parallel()
	withStore(t, false, func(t *testing.T, s *Store, rows *keyRows) {
		wantVersion(t, s, 1, "first")
		confirmed := time.Now()
		rows.set(func(r *keyRows) { r.hang = true })
		changed := s.Changed()
		for range 20 {
			state, err := s.State(t.Context(), "k")
			age := time.Since(confirmed)
			if err != nil || state.Stale.IsZero() != (age <= fresh) || !state.Stale.IsZero() && !state.Stale.Equal(confirmed) {
				t.Errorf("after %v: stale since %v, %v", age, state.Stale, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		select {
		case <-changed:
		default:
			t.Error("nobody was told that the store does not answer")
		}
		changed = s.Changed()
		rows.set(func(r *keyRows) { r.hang = false })
		time.Sleep(readTime + pollEvery)
		select {
		case <-changed:
		default:
			t.Error("nobody was told that the store answers again")
		}
		if state, err := s.State(t.Context(), "k"); err != nil || !state.Stale.IsZero() {
			t.Errorf("stale since %v, %v although the store answers", state.Stale, err)
		}
	})
}

// What is forgotten while all versions are being read stays forgotten.
func TestKeyStoreForgets(t *testing.T) {
	t.Parallel()
	withStore(t, false, func(t *testing.T, s *Store, rows *keyRows) {
		wantVersion(t, s, 1, "first")
		slow := make(chan struct{})
		rows.set(func(r *keyRows) { r.slow = slow })
		time.Sleep(pollEvery)
		synctest.Wait() // a poll has read version 1 and waits
		rows.set(func(r *keyRows) { r.versions["k"], r.slow = 2, nil })
		s.Forget("k")
		close(slow)
		synctest.Wait()
		wantVersion(t, s, 2, "forgotten")
	})
}

// What was read before a key was forgotten is not remembered.
func TestKeyStoreForgetsWhatIsRead(t *testing.T) {
	t.Parallel()
	s := New(nil, quiet())
	before := s.forgets // as fetch notes it
	s.Forget("k")
	s.remember("k", &known{version: 1, read: time.Now()}, before)
	if s.known["k"] != nil {
		t.Error("the version of before is believed")
	}
}

func TestKeyStoreIsBounded(t *testing.T) {
	t.Parallel()
	s := New(nil, quiet())
	for i := range maxKnownKeys + 10 {
		s.remember(string(rune(i)), &known{version: 1, read: time.Now()}, 0)
	}
	if len(s.known) != maxKnownKeys {
		t.Errorf("%d keys in memory", len(s.known))
	}
	if asked, _ := s.askable(time.Now().Add(2 * grace)); len(asked) != 0 || len(s.known) != 0 {
		t.Errorf("%d unused keys stay", len(s.known))
	}
}
