package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

var repositoryTests = map[string]func(*testing.T, Engine){
	"gateways":             gatewayRepo,
	"gateway update race":  gatewayRace,
	"pools":                poolRepo,
	"pool and its gateway": poolRace,
	"keys":                 keyRepo,
	"key versions":         keyVersions,
	"key revoke race":      keyRace,
	"the first key is one": firstKey,
	"the last admin key":   lastAdmin,
	"key pages":            keyPages,
	"user pages":           userPages,
	"tenant pages":         tenantPages,
	"gateway pages":        gatewayPages,
	"key families":         keyFamilies,
	"key family race":      keyFamilyRace,
	"last admin race":      lastAdminRace,
	"users":                userRepo,
	"user race":            userRace,
	"login sessions":       loginRepo,
	"login sessions end":   loginsEnd,
	"tenants":              tenantRepo,
	"audit":                auditRepo,
	"audit race":           auditRace,
	"audit in one step":    auditInOneStep,
	"audit filters":        auditFilters,
	"audit pages":          auditPages,
}

func gatewayRepo(t *testing.T, e Engine) {
	ctx, r := t.Context(), e.Repositories().Gateways
	g := messages.Gateway{
		ID: "gw-1", Tenant: "acme", Pool: "acme", Node: "n", Home: "h-1", Region: "eu", URL: "ws://127.0.0.1:1", Token: "s3cret", MaxConcurrency: 8, Weight: 2,
		Capabilities: []string{"web", "code"}, Labels: map[string]string{"a": "b'\x00"}, Drained: true, CreatedAt: messages.Now(),
		Managed: &messages.Managed{Command: []string{"/bin/x", "-y"}, Port: 7, StateDir: "/s", Config: map[string]any{"a": map[string]any{"b": []any{1.5, "c", nil}}}, Env: map[string]string{"K": "V"}},
	}
	got, err := r.Create(ctx, g)
	if err != nil {
		t.Fatal(err)
	}
	g.Version = 1
	same(t, got, g)
	if _, err := r.Create(ctx, g); !errors.Is(err, persistence.ErrExists) {
		t.Errorf("create twice: %v", err)
	}
	if _, err := r.Create(ctx, messages.Gateway{ID: "gw-0", CreatedAt: messages.Now()}); err != nil {
		t.Fatal(err)
	}
	e.Restart(t)
	r = e.Repositories().Gateways
	if got, err = r.Get(ctx, "gw-1"); err != nil {
		t.Fatal(err)
	}
	same(t, got, g)
	h := g
	h.URL, h.Managed, h.Capabilities, h.Drained, h.Token, h.Home = "ws://127.0.0.1:2", nil, nil, false, "other", "h-2"
	if got, err = r.Update(ctx, h); err != nil {
		t.Fatal(err)
	}
	h.Version = 2
	same(t, got, h)
	if _, err := r.Update(ctx, g); !errors.Is(err, persistence.ErrVersion) {
		t.Errorf("update of an old version: %v", err)
	}
	if _, err := r.Update(ctx, messages.Gateway{ID: "none", Version: 1}); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("update of nothing: %v", err)
	}
	list, err := r.List(ctx)
	if err != nil || len(list) != 2 || list[0].ID != "gw-0" {
		t.Fatalf("list %v, %v", list, err)
	}
	same(t, list[1], h)
	if err := r.Delete(ctx, "gw-1"); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(ctx, "gw-1"); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("delete twice: %v", err)
	}
	if _, err := r.Get(ctx, "gw-1"); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("get after delete: %v", err)
	}
}

func gatewayRace(t *testing.T, e Engine) {
	r := e.Repositories().Gateways
	g, err := r.Create(t.Context(), messages.Gateway{ID: "gw"})
	if err != nil {
		t.Fatal(err)
	}
	var ok atomic.Int64
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			h := g
			h.Weight = i
			if _, err := r.Update(t.Context(), h); err == nil {
				ok.Add(1)
			} else if !errors.Is(err, persistence.ErrVersion) {
				t.Errorf("update: %v", err)
			}
		})
	}
	wg.Wait()
	if ok.Load() != 1 {
		t.Errorf("%d updates of one version", ok.Load())
	}
}

func poolRepo(t *testing.T, e Engine) {
	ctx, r := t.Context(), e.Repositories().Pools
	p := messages.Pool{
		ID: "p", Tenant: "acme", MaxConcurrency: 9, Limits: map[messages.Class]messages.ClassLimit{messages.Low: {Count: 5, Bytes: 6}},
		Reserved: map[messages.Class]int{messages.Critical: 2}, AgingSeconds: 3, AwaySeconds: 4, CreatedAt: messages.Now(),
	}
	got, err := r.Put(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	if got.Version != 1 {
		t.Errorf("version %d", got.Version)
	}
	if _, err := r.Put(ctx, p); !errors.Is(err, persistence.ErrVersion) {
		t.Errorf("create twice: %v", err)
	}
	p = got
	p.Limits, p.AgingSeconds = nil, 0
	if got, err = r.Put(ctx, p); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Put(ctx, p); !errors.Is(err, persistence.ErrVersion) {
		t.Errorf("old version: %v", err)
	}
	p.Version = 2
	same(t, got, p)
	if _, err := r.Put(ctx, messages.Pool{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	list, err := r.List(ctx)
	if err != nil || len(list) != 2 || list[0].ID != "a" {
		t.Fatalf("list %v, %v", list, err)
	}
	same(t, list[1], p)
	if _, err := r.Get(ctx, "none"); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("get nothing: %v", err)
	}
}

// poolRace: a pool is removed while gateways of it are made. It goes, and none of
// them is there, or it stays.
func poolRace(t *testing.T, e Engine) {
	ctx, r := t.Context(), e.Repositories()
	if err := r.Pools.Delete(ctx, "p"); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("delete nothing: %v", err)
	}
	if _, err := r.Gateways.Create(ctx, messages.Gateway{ID: "g", Tenant: "acme", Pool: "p"}); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("a gateway of no pool: %v", err)
	}
	if _, err := r.Gateways.Create(ctx, messages.Gateway{ID: "own", Tenant: "acme", Pool: "acme"}); err != nil {
		t.Errorf("a gateway of its tenant's own pool: %v", err)
	}
	gone, kept := 0, 0
	for i := range 40 {
		if _, err := r.Pools.Put(ctx, messages.Pool{ID: "p", Tenant: "acme"}); err != nil {
			t.Fatal(err)
		}
		id, created := fmt.Sprint("g-", i), make(chan error, 1)
		go func() {
			_, err := r.Gateways.Create(ctx, messages.Gateway{ID: id, Tenant: "acme", Pool: "p"})
			created <- err
		}()
		time.Sleep(time.Duration(i%8) * 100 * time.Microsecond)
		err, made := r.Pools.Delete(ctx, "p"), <-created
		_, there := r.Pools.Get(ctx, "p")
		switch {
		case err == nil && errors.Is(made, persistence.ErrNotFound) && errors.Is(there, persistence.ErrNotFound):
			gone++
		case errors.Is(err, persistence.ErrInUse) && made == nil && there == nil:
			kept++
			if err := r.Gateways.Delete(ctx, id); err != nil {
				t.Fatal(err)
			}
			if err := r.Pools.Delete(ctx, "p"); err != nil {
				t.Fatalf("nobody uses it: %v", err)
			}
		default:
			t.Fatalf("round %d: deleted: %v; created: %v; there: %v", i, err, made, there)
		}
	}
	t.Logf("the pool went %d times, and stayed %d times", gone, kept)
}

func key(id string) persistence.Key {
	return persistence.Key{Key: messages.Key{ID: id, Name: "name " + id, Tenant: "default", Permissions: []string{"tasks:write", "tasks:read"}, RateLimit: 100, CreatedAt: messages.Now(), ExpiresAt: messages.Now().Add(time.Hour), Active: true, Version: 1}, Hash: []byte("$2a$12$" + id), Digest: []byte("digest of " + id)}
}

func keyRepo(t *testing.T, e Engine) {
	ctx, r := t.Context(), e.Repositories().Keys
	a, b := key("a"), key("b")
	b.ExpiresAt, b.Permissions, b.Tenant, b.RateLimit, b.Digest = time.Time{}, nil, "", 0, nil
	for _, k := range []persistence.Key{a, b} {
		if err := r.Create(ctx, k); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Create(ctx, a); !errors.Is(err, persistence.ErrExists) {
		t.Errorf("create twice: %v", err)
	}
	if done, err := r.CreateFirst(ctx, key("c")); err != nil || done {
		t.Errorf("first key beside others: %v, %v", done, err)
	}
	e.Restart(t)
	r = e.Repositories().Keys
	list, err := r.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	same(t, list, []persistence.Key{a, b})
	at := messages.Now()
	if err := r.Touch(ctx, map[string]time.Time{"a": at, "b": at, "gone": at}); err != nil {
		t.Fatal(err)
	}
	if err := r.Touch(ctx, map[string]time.Time{"a": at.Add(-time.Hour)}); err != nil {
		t.Fatal(err)
	}
	for id, digest := range map[string]string{"a": "another", "b": "learned", "gone": "nobody's"} {
		if err := r.Learn(ctx, id, []byte(digest)); err != nil {
			t.Fatal(err)
		}
	}
	b.Digest, b.LastUsedAt = []byte("learned"), at
	if got, err := r.Get(ctx, "b"); err != nil {
		t.Fatal(err)
	} else {
		same(t, got, b)
	}
	if _, err := r.Revoke(ctx, "a", false); err != nil {
		t.Fatal(err)
	}
	a.LastUsedAt, a.Active, a.Version = at, false, 2
	for range 2 { // revoking again changes nothing
		got, err := r.Get(ctx, "a")
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, a)
		if _, err := r.Revoke(ctx, "a", false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Revoke(ctx, "none", false); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("revoke nothing: %v", err)
	}
	if _, err := r.Get(ctx, "none"); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("get nothing: %v", err)
	}
}

func firstKey(t *testing.T, e Engine) {
	var won atomic.Int64
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			done, err := e.Repositories().Keys.CreateFirst(t.Context(), key(fmt.Sprint("k-", i)))
			if err != nil {
				t.Errorf("create first: %v", err)
			}
			if done {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if list, err := e.Repositories().Keys.List(t.Context()); err != nil || len(list) != 1 || won.Load() != 1 {
		t.Errorf("%d first keys, %d stored, %v", won.Load(), len(list), err)
	}
}
