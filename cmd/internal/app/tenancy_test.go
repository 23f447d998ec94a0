package app

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

// twoTenants is a node with the tenants a and b.
func twoTenants(t *testing.T) (*App, *commands) {
	t.Helper()
	a := benchNode(t, t.TempDir(), 0, 1, nil)
	c := newCommands(a)
	makeTenants(t, c, "a", "b")
	return a, c
}

func makeTenants(t *testing.T, c *commands, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if _, err := (accountCommands{c}).CreateTenant(t.Context(), server.Tenant{ID: id, Name: id}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestATenantHasAPoolOfItsOwn: it need not make it, nobody else can have it, and
// what names no pool goes there.
func TestATenantHasAPoolOfItsOwn(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, c := twoTenants(t)
	p, err := poolCommands{c}.Get(ctx, "a", "a")
	if err != nil || p.ID != "a" || p.Tenant != "a" || p.Version != 0 {
		t.Fatalf("%+v, %v", p, err)
	}
	if list, err := (poolCommands{c}).List(ctx, "a"); err != nil || len(list) != 1 || list[0].ID != "a" {
		t.Errorf("pools of a: %+v, %v", list, err)
	}
	if q, err := (taskCommands{c}).Queue(ctx, "a", "a"); err != nil || len(q) != len(messages.Classes) || q[0].Pool != "a" || q[0].Limit.Count == 0 {
		t.Errorf("queue of a, before anybody used it: %+v, %v", q, err)
	}
	if q, err := (taskCommands{c}).Queue(ctx, "", ""); err != nil || len(q) != len(messages.Classes) || q[0].Pool != "default" {
		t.Errorf("queue of all, who have not used their own pools: %+v, %v", q, err)
	}
	out, err := taskCommands{c}.Submit(ctx, server.SubmitRequest{Tenant: "a", Class: messages.Low, Spec: spec("x")})
	if err != nil || out.Task.Pool != "a" {
		t.Fatalf("a task without a pool: %q, %v", out.Task.Pool, err)
	}
	out, err = taskCommands{c}.Submit(ctx, server.SubmitRequest{Tenant: "a", Session: "s", Class: messages.Low, Spec: spec("x")})
	if err != nil || out.Task.Pool != "a" {
		t.Fatalf("the first task of a session without a pool: %q, %v", out.Task.Pool, err)
	}
	if q, err := (taskCommands{c}).Queue(ctx, "a", "a"); err != nil || q[3].Depth != 2 {
		t.Errorf("queue of a: %+v, %v", q, err)
	}
	for _, tenant := range []string{"b", ""} { // its owner's key may do everything but give it away
		_, err = poolCommands{c}.Put(ctx, tenant, messages.Pool{ID: "a", Tenant: "b"})
		if err == nil {
			t.Errorf("caller %q gave the own pool of a to b", tenant)
		}
	}
	if p, err = (poolCommands{c}).Put(ctx, "a", messages.Pool{ID: "a", Tenant: "a", MaxConcurrency: 3}); err != nil || p.Version != 1 {
		t.Errorf("a sets limits of its own pool: %+v, %v", p, err)
	}
	if _, err := (poolCommands{c}).Put(ctx, "b", messages.Pool{ID: "late", Tenant: "b"}); err != nil {
		t.Fatal(err)
	}
	_, err = accountCommands{c}.CreateTenant(ctx, server.Tenant{ID: "late", Name: "late"})
	refusedFor(t, err, messages.CodeConflict, "tenant b has a pool of this name", "dash pool show late")
}

// TestNobodyClaimsTheDefaultPool, also not on a fresh node where nobody has stored it.
func TestNobodyClaimsTheDefaultPool(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, c := twoTenants(t)
	for _, version := range []int64{0, 1} {
		for _, caller := range []string{"a", ""} {
			if _, err := (poolCommands{c}).Put(ctx, caller, messages.Pool{ID: "default", Tenant: "a", Version: version}); err == nil {
				t.Errorf("caller %q, version %d: a has the default pool", caller, version)
			}
		}
	}
	p, err := poolCommands{c}.Put(ctx, "default", messages.Pool{ID: "default", Tenant: "default", MaxConcurrency: 2})
	if err != nil {
		t.Fatal(err)
	}
	_, err = poolCommands{c}.Put(ctx, "a", messages.Pool{ID: "default", Tenant: "a", Version: p.Version})
	refusedFor(t, err, messages.CodeNotFound, `there is no pool "default"`)
	// Even if a row of before says so.
	if _, err := c.app.repos.Pools.Put(ctx, messages.Pool{ID: "default", Tenant: "a", Version: p.Version}); err != nil {
		t.Fatal(err)
	}
	if p, err = (poolCommands{c}).Get(ctx, "", "default"); err != nil || p.Tenant != "default" {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestAForeignPoolIsNotThere: whoever names a pool of another tenant gets the
// words that he gets for one that nobody has.
func TestAForeignPoolIsNotThere(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, c := twoTenants(t)
	if _, err := (poolCommands{c}).Put(ctx, "a", messages.Pool{ID: "a-1", Tenant: "a"}); err != nil {
		t.Fatal(err)
	}
	for what, try := range map[string]func(pool string) error{
		"task": func(pool string) error {
			_, err := taskCommands{c}.Submit(ctx, server.SubmitRequest{Tenant: "b", Pool: pool, Class: messages.Low, Spec: spec("x")})
			return err
		},
		"session": func(pool string) error {
			_, err := sessionCommands{c}.Create(ctx, messages.Session{Tenant: "b", ID: "s", Pool: pool})
			return err
		},
		"gateway": func(pool string) error {
			_, err := gatewayCommands{c}.Create(ctx, "", messages.Gateway{ID: "g", Tenant: "b", Pool: pool, URL: "ws://127.0.0.1:2", Token: "t", Weight: 1})
			return err
		},
		"show": func(pool string) error {
			_, err := poolCommands{c}.Get(ctx, "b", pool)
			return err
		},
		"replace": func(pool string) error {
			_, err := poolCommands{c}.Put(ctx, "b", messages.Pool{ID: pool, Tenant: "b", Version: 1})
			return err
		},
	} {
		never := try("nobodys")
		if never == nil {
			t.Errorf("%s: taken for a pool that nobody has", what)
			continue
		}
		for _, pool := range []string{"a-1", "a"} {
			err := try(pool)
			if err == nil || strings.ReplaceAll(err.Error(), pool+`"`, `nobodys"`) != strings.ReplaceAll(never.Error(), "set nobodys", "set "+pool) {
				t.Errorf("%s of pool %s:\n%v\nof one that nobody has:\n%v", what, pool, err, never)
			}
		}
	}
	_, err := gatewayCommands{c}.Create(ctx, "", messages.Gateway{ID: "g", Tenant: "b", Pool: "nobodys", URL: "ws://127.0.0.1:2", Token: "t", Weight: 1})
	refusedFor(t, err, messages.CodeInvalid, "dash pool set nobodys --tenant b")
	if _, err := (poolCommands{c}).Get(ctx, "", "nobodys"); err == nil {
		t.Error("a gateway made its pool")
	}
}

// TestTakenIDsDoNotTellWhoHasThem.
func TestTakenIDsDoNotTellWhoHasThem(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, c := twoTenants(t)
	g := messages.Gateway{ID: "g", Tenant: "a", Pool: "a", URL: "ws://127.0.0.1:2", Token: "t", Weight: 1}
	if _, err := (gatewayCommands{c}).Create(ctx, "", g); err != nil {
		t.Fatal(err)
	}
	g.Tenant, g.Pool, g.URL = "b", "b", "ws://127.0.0.1:3"
	_, err := gatewayCommands{c}.Create(ctx, "", g)
	refusedFor(t, err, messages.CodeConflict, `the id "g" is not free`)
	if strings.Contains(err.Error(), "exists") || strings.Contains(err.Error(), "change") {
		t.Errorf("b is told of the gateway of a: %v", err)
	}
	g.ID, g.URL = "h", "ws://127.0.0.1:2"
	_, err = gatewayCommands{c}.Create(ctx, "", g)
	refusedFor(t, err, messages.CodeConflict, "another gateway has this URL")
}

// TestPoolsOfBefore: an earlier release let gateways name pools that nobody made
// and pools of others. The first become their tenant's; of the rest is told.
func TestPoolsOfBefore(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	cfg := config.Default()
	cfg.Listen, cfg.Data, cfg.Node, cfg.Retention = "127.0.0.1:0", dir, "n", 0
	var said strings.Builder
	start := func() *App {
		a, err := Start(ctx, cfg, Deps{Logger: slog.New(slog.NewTextHandler(&said, nil)), Registry: prometheus.NewRegistry(), BcryptCost: 4})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := start()
	makeTenants(t, newCommands(a), "a")
	for id, pool := range map[string]string{"g-1": "batch", "g-2": "default"} {
		if _, err := a.repos.Gateways.Create(ctx, messages.Gateway{ID: id, Tenant: "a", Pool: pool, URL: "ws://127.0.0.1:1/" + id, Token: "t", MaxConcurrency: 1, Weight: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	said.Reset()
	a = start()
	p, err := poolCommands{newCommands(a)}.Get(ctx, "a", "batch")
	if err != nil || p.Tenant != "a" || p.Version != 1 {
		t.Errorf("pool of its gateway: %+v, %v", p, err)
	}
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	if log := said.String(); !strings.Contains(log, "in a pool of another tenant") || !strings.Contains(log, "dash gateway remove g-2") || strings.Contains(log, "remove g-1") {
		t.Errorf("log:\n%s", log)
	}
}

// keyOf makes a key with all permissions; of no tenant, of all.
func keyOf(t *testing.T, c *commands, tenant string) messages.Secret {
	t.Helper()
	_, key, err := accountCommands{c}.CreateKey(t.Context(), server.Key{Name: "k", Tenant: tenant, Permissions: []string{"admin"}})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// asked is the status and the body of an answer.
func asked(t *testing.T, a *App, key messages.Secret, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, a.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key.Reveal())
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestATenantReadsItsOwnMetrics: the series of its pools and gateways, and
// nothing that is counted over all tenants. Nor does it see where nodes are, or
// what their checks found.
func TestATenantReadsItsOwnMetrics(t *testing.T) {
	t.Parallel()
	a, c := twoTenants(t)
	for _, tenant := range []string{"a", "b"} {
		g := messages.Gateway{ID: "g-" + tenant, Tenant: tenant, Pool: tenant, URL: "ws://127.0.0.1:1/" + tenant, Token: "t", Weight: 1}
		if _, err := (gatewayCommands{c}).Create(t.Context(), "", g); err != nil {
			t.Fatal(err)
		}
		reaches(t, gatewayCommands{c}, g.ID, messages.GatewayReady)
		if _, err := (taskCommands{c}).Submit(t.Context(), server.SubmitRequest{Tenant: tenant, Class: messages.Low, Spec: spec("x")}); err != nil {
			t.Fatal(err)
		}
	}
	all, one := keyOf(t, c, ""), keyOf(t, c, "b")
	_, text := asked(t, a, all, "GET", "/metrics", "")
	for _, want := range []string{`pool="a"`, `pool="b"`, `gateway="g-a"`, `dash_tasks_total`} {
		if !strings.Contains(text, want) {
			t.Errorf("an operator's metrics lack %s", want)
		}
	}
	_, text = asked(t, a, one, "GET", "/metrics", "")
	if !strings.Contains(text, `pool="b"`) || !strings.Contains(text, `gateway="g-b"`) {
		t.Errorf("metrics of b lack its own:\n%s", text)
	}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") && !strings.Contains(line, `pool="b"`) && !strings.Contains(line, `gateway="g-b"`) {
			t.Errorf("b is shown %s", line)
		}
	}
	for _, path := range []string{"/api/v1/nodes", "/health?verbose=true"} {
		_, told := asked(t, a, all, "GET", path, "")
		_, kept := asked(t, a, one, "GET", path, "")
		words := map[string]string{"/api/v1/nodes": a.URL()[len("http://"):], "/health?verbose=true": "open tasks in the default pool"}[path]
		if !strings.Contains(told, words) || strings.Contains(kept, words) {
			t.Errorf("%s\nan operator: %s\nb: %s", path, told, kept)
		}
	}
}

// TestPoolsAreBounded: for each tenant, and those that are there can be changed.
func TestPoolsAreBounded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, c := twoTenants(t)
	put := func(tenant, id string, version int64) (messages.Pool, error) {
		return poolCommands{c}.Put(ctx, tenant, messages.Pool{ID: id, Tenant: tenant, Version: version, MaxConcurrency: int(version)})
	}
	for i := range maxPools {
		if _, err := put("a", fmt.Sprintf("a-%d", i), 0); err != nil {
			t.Fatalf("pool %d: %v", i, err)
		}
	}
	_, err := put("a", "a-more", 0)
	refusedFor(t, err, messages.CodeConflict, "tenant a has 200 pools")
	if p, err := put("a", "a-7", 1); err != nil || p.MaxConcurrency != 1 {
		t.Errorf("a change of one that is there: %+v, %v", p, err)
	}
	if _, err := put("b", "b-1", 0); err != nil {
		t.Errorf("a pool of another tenant: %v", err)
	}
}
