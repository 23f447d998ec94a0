package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
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
		if _, err := c.app.Commands().Accounts.CreateTenant(t.Context(), messages.Tenant{ID: id, Name: id}); err != nil {
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
	p, err := c.pools().Get(ctx, "a", "a")
	if err != nil || p.ID != "a" || p.Tenant != "a" || p.Version != 0 {
		t.Fatalf("%+v, %v", p, err)
	}
	if list, err := c.pools().List(ctx, "a"); err != nil || len(list) != 1 || list[0].ID != "a" {
		t.Errorf("pools of a: %+v, %v", list, err)
	}
	if q, err := c.tasks().Queue(ctx, "a", "a", ""); err != nil || len(q) != len(messages.Classes) || q[0].Pool != "a" || q[0].Limit.Count == 0 {
		t.Errorf("queue of a, before anybody used it: %+v, %v", q, err)
	}
	if q, err := c.tasks().Queue(ctx, "", "", ""); err != nil || len(q) != len(messages.Classes) || q[0].Pool != "default" {
		t.Errorf("queue of all, who have not used their own pools: %+v, %v", q, err)
	}
	out, err := c.tasks().Submit(ctx, server.SubmitRequest{Tenant: "a", Class: messages.Low, Spec: spec("x")})
	if err != nil || out.Task.Pool != "a" {
		t.Fatalf("a task without a pool: %q, %v", out.Task.Pool, err)
	}
	out, err = c.tasks().Submit(ctx, server.SubmitRequest{Tenant: "a", Session: "s", Class: messages.Low, Spec: spec("x")})
	if err != nil || out.Task.Pool != "a" {
		t.Fatalf("the first task of a session without a pool: %q, %v", out.Task.Pool, err)
	}
	if q, err := c.tasks().Queue(ctx, "a", "a", ""); err != nil || q[3].Depth != 2 {
		t.Errorf("queue of a: %+v, %v", q, err)
	}
	for _, tenant := range []string{"b", ""} { // its owner's key may do everything but give it away
		_, err = c.pools().Put(ctx, tenant, messages.Pool{ID: "a", Tenant: "b"})
		if err == nil {
			t.Errorf("caller %q gave the own pool of a to b", tenant)
		}
	}
	if p, err = c.pools().Put(ctx, "a", messages.Pool{ID: "a", Tenant: "a", MaxConcurrency: 3}); err != nil || p.Version != 1 {
		t.Errorf("a sets limits of its own pool: %+v, %v", p, err)
	}
	if _, err := c.pools().Put(ctx, "b", messages.Pool{ID: "late", Tenant: "b"}); err != nil {
		t.Fatal(err)
	}
	_, err = c.app.Commands().Accounts.CreateTenant(ctx, messages.Tenant{ID: "late", Name: "late"})
	refusedFor(t, err, messages.CodeConflict, "tenant b has a pool of this name", "dash pool show late")
}

// TestNobodyClaimsTheDefaultPool, also not on a fresh node where nobody has stored it.
func TestNobodyClaimsTheDefaultPool(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, c := twoTenants(t)
	for _, version := range []int64{0, 1} {
		for _, caller := range []string{"a", ""} {
			if _, err := c.pools().Put(ctx, caller, messages.Pool{ID: "default", Tenant: "a", Version: version}); err == nil {
				t.Errorf("caller %q, version %d: a has the default pool", caller, version)
			}
		}
	}
	p, err := c.pools().Put(ctx, "default", messages.Pool{ID: "default", Tenant: "default", MaxConcurrency: 2})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.pools().Put(ctx, "a", messages.Pool{ID: "default", Tenant: "a", Version: p.Version})
	refusedFor(t, err, messages.CodeNotFound, `there is no pool "default"`)
	// Even if a row of before says so.
	if _, err := c.app.repos.Pools.Put(ctx, messages.Pool{ID: "default", Tenant: "a", Version: p.Version}); err != nil {
		t.Fatal(err)
	}
	if p, err = c.pools().Get(ctx, "", "default"); err != nil || p.Tenant != "default" {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestAForeignPoolIsNotThere: whoever names a pool of another tenant gets the
// words that he gets for one that nobody has.
func TestAForeignPoolIsNotThere(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, c := twoTenants(t)
	if _, err := c.pools().Put(ctx, "a", messages.Pool{ID: "a-1", Tenant: "a"}); err != nil {
		t.Fatal(err)
	}
	for what, try := range map[string]func(pool string) error{
		"task": func(pool string) error {
			_, err := c.tasks().Submit(ctx, server.SubmitRequest{Tenant: "b", Pool: pool, Class: messages.Low, Spec: spec("x")})
			return err
		},
		"session": func(pool string) error {
			_, err := c.sessions().Create(ctx, messages.Session{Tenant: "b", ID: "s", Pool: pool})
			return err
		},
		"gateway": func(pool string) error {
			_, err := c.gateways().Create(ctx, "", messages.Gateway{ID: "g", Tenant: "b", Pool: pool, URL: "ws://127.0.0.1:2", Token: "t", Weight: 1})
			return err
		},
		"show": func(pool string) error {
			_, err := c.pools().Get(ctx, "b", pool)
			return err
		},
		"replace": func(pool string) error {
			_, err := c.pools().Put(ctx, "b", messages.Pool{ID: pool, Tenant: "b", Version: 1})
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
	_, err := c.gateways().Create(ctx, "", messages.Gateway{ID: "g", Tenant: "b", Pool: "nobodys", URL: "ws://127.0.0.1:2", Token: "t", Weight: 1})
	refusedFor(t, err, messages.CodeInvalid, "dash pool set nobodys --tenant b")
	if _, err := c.pools().Get(ctx, "", "nobodys"); err == nil {
		t.Error("a gateway made its pool")
	}
}

// TestTakenIDsDoNotTellWhoHasThem.
func TestTakenIDsDoNotTellWhoHasThem(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, c := twoTenants(t)
	g := messages.Gateway{ID: "g", Tenant: "a", Pool: "a", URL: "ws://127.0.0.1:2", Token: "t", Weight: 1}
	if _, err := c.gateways().Create(ctx, "", g); err != nil {
		t.Fatal(err)
	}
	g.Tenant, g.Pool, g.URL = "b", "b", "ws://127.0.0.1:3"
	_, err := c.gateways().Create(ctx, "", g)
	refusedFor(t, err, messages.CodeConflict, `the id "g" is not free`)
	if strings.Contains(err.Error(), "exists") || strings.Contains(err.Error(), "change") {
		t.Errorf("b is told of the gateway of a: %v", err)
	}
	g.ID, g.URL = "h", "ws://127.0.0.1:2"
	_, err = c.gateways().Create(ctx, "", g)
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
		g, err := a.repos.Gateways.Create(ctx, messages.Gateway{ID: id, Tenant: "a", Pool: "a", URL: "ws://127.0.0.1:1/" + id, Token: "t", MaxConcurrency: 1, Weight: 1})
		if err != nil {
			t.Fatal(err)
		}
		g.Pool = pool // as an earlier release took it
		if _, err := a.repos.Gateways.Update(ctx, g); err != nil {
			t.Fatal(err)
		}
	}
	left := messages.Task{ID: messages.NewID(), Tenant: "a", Pool: "left", Class: messages.Low, State: messages.Queued, Spec: spec("x"), CreatedAt: messages.Now()}
	if err := committed(ctx, a, persistence.Op{Insert: &persistence.TaskInsert{Task: left}}); err != nil {
		t.Fatal(err)
	}
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	said.Reset()
	a = start()
	for _, id := range []string{"batch", "left"} {
		if p, err := newCommands(a).pools().Get(ctx, "a", id); err != nil || p.Tenant != "a" || p.Version != 1 {
			t.Errorf("pool %s of its gateway or task: %+v, %v", id, p, err)
		}
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
	_, key, err := c.app.Commands().Accounts.CreateKey(t.Context(), messages.Key{Name: "k", Tenant: tenant, Permissions: []string{"admin"}}, "")
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
		if _, err := c.gateways().Create(t.Context(), "", g); err != nil {
			t.Fatal(err)
		}
		reaches(t, c.gateways(), g.ID, messages.GatewayReady)
		if _, err := c.tasks().Submit(t.Context(), server.SubmitRequest{Tenant: tenant, Class: messages.Low, Spec: spec("x")}); err != nil {
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

// TestAPoolIsRemoved when nothing refers to it, with all that is left of it.
func TestAPoolIsRemoved(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, c := twoTenants(t)
	pools := c.pools()
	put := func(tenant string) {
		t.Helper()
		if _, err := pools.Put(ctx, tenant, messages.Pool{ID: "p", Tenant: tenant}); err != nil {
			t.Fatal(err)
		}
	}
	put("a")
	refusedFor(t, pools.Delete(ctx, "b", "p"), messages.CodeNotFound, `there is no pool "p"`)
	refusedFor(t, pools.Delete(ctx, "a", "a"), messages.CodeWrongState, "own one of tenant a", "dash pool set a")
	refusedFor(t, pools.Delete(ctx, "", "default"), messages.CodeWrongState, "own one of tenant default")

	if _, err := c.gateways().Create(ctx, "", messages.Gateway{ID: "g", Tenant: "a", Pool: "p", URL: "ws://127.0.0.1:2", Token: "t", Weight: 1}); err != nil {
		t.Fatal(err)
	}
	refusedFor(t, pools.Delete(ctx, "a", "p"), messages.CodeWrongState, "the gateway g", "remove its gateways first")
	if _, err := c.gateways().Delete(ctx, "a", "g", false); err != nil {
		t.Fatal(err)
	}
	out, err := c.tasks().Submit(ctx, server.SubmitRequest{Tenant: "a", Pool: "p", Session: "s", Class: messages.Low, Spec: spec("x")})
	if err != nil {
		t.Fatal(err)
	}
	refusedFor(t, pools.Delete(ctx, "a", "p"), messages.CodeWrongState, "tasks that have not ended")
	if _, err := c.tasks().Cancel(ctx, "a", out.Task.ID, ""); err != nil {
		t.Fatal(err)
	}
	refusedFor(t, pools.Delete(ctx, "a", "p"), messages.CodeWrongState, "the session s", "close its sessions first")
	if err := c.sessions().Close(ctx, "a", "s"); err != nil {
		t.Fatal(err)
	}
	if err := pools.Delete(ctx, "a", "p"); err != nil {
		t.Fatal(err)
	}
	refusedFor(t, pools.Delete(ctx, "a", "p"), messages.CodeNotFound)
	if _, err := a.store.Session(ctx, "a", "s"); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("a closed session of the pool: %v", err)
	}
	_, err = c.tasks().Submit(ctx, server.SubmitRequest{Tenant: "a", Pool: "p", Class: messages.Low, Spec: spec("x")})
	refusedFor(t, err, messages.CodeInvalid, `tenant a has no pool "p"`)
	families, err := a.deps.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "pool" && l.GetValue() == "p" {
					t.Errorf("%s still has the pool", f.GetName())
				}
			}
		}
	}

	// Its name is free, and what a had there does not come to b.
	dead := messages.Task{ID: messages.NewID(), Tenant: "a", Pool: "p", Class: messages.Low, State: messages.Queued, Spec: spec("x"), CreatedAt: messages.Now()}
	end := dead
	end.State, end.FinishedAt = messages.DeadLetter, messages.Now()
	if err := committed(ctx, a, persistence.Op{Insert: &persistence.TaskInsert{Task: dead}}, persistence.Op{Update: &persistence.TaskUpdate{Task: end, From: messages.Queued}}); err != nil {
		t.Fatal(err)
	}
	put("b")
	_, _, err = c.tasks().Replay(ctx, "a", dead.ID, "")
	refusedFor(t, err, messages.CodeInvalid, `tenant a has no pool "p"`)
	if matched, done, err := c.tasks().ReplayDeadLetters(ctx, server.TaskFilter{}, "", false); matched+done != 0 || err != nil {
		t.Errorf("%d matched, %d put back, %v", matched, done, err)
	}
	if _, err := c.tasks().Submit(ctx, server.SubmitRequest{Tenant: "b", Pool: "p", Class: messages.Low, Spec: spec("x")}); err != nil {
		t.Errorf("the new pool of that name: %v", err)
	}
}

// TestAPoolIsRemovedOrUsed: whatever comes while a pool is removed either keeps it
// or is refused, and a pool that stays goes on.
func TestAPoolIsRemovedOrUsed(t *testing.T) {
	t.Parallel()
	_, c := twoTenants(t)
	pools, removed := c.pools(), 0
	for i := range 40 {
		if _, err := pools.Put(t.Context(), "a", messages.Pool{ID: "p", Tenant: "a"}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		use := func() error {
			if i%2 == 0 {
				_, err := c.sessions().Create(ctx, messages.Session{ID: "s", Tenant: "a", Pool: "p"})
				return err
			}
			_, err := c.tasks().Submit(ctx, server.SubmitRequest{Tenant: "a", Pool: "p", Class: messages.Low, Spec: spec("x")})
			return err
		}
		used := make(chan error, 1)
		go func() {
			time.Sleep(time.Duration(i%5) * 200 * time.Microsecond)
			used <- use()
		}()
		gone, came := pools.Delete(t.Context(), "a", "p"), <-used
		what, _, err := pools.InUse(t.Context(), messages.Pool{ID: "p", Tenant: "a"}, true)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case gone == nil && (came == nil || what != ""):
			t.Fatalf("round %d: it was removed, and used: %v; it has %q", i, came, what)
		case gone == nil:
			removed++
		case came != nil && messages.CodeOf(came) != messages.CodeTimeout && messages.CodeOf(came) != messages.CodeUnavailable:
			t.Fatalf("round %d: it stayed (%v), and refused: %v", i, gone, came)
		case i%2 == 0 && what != "":
			if err := c.sessions().Close(ctx, "a", "s"); err != nil {
				t.Fatalf("round %d: the pool that stayed: %v", i, err)
			}
		case what != "":
			list, err := c.tasks().Tasks(ctx, server.TaskFilter{Pool: "p", States: []messages.TaskState{messages.Queued}}, "", 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, task := range list.Tasks {
				if _, err := c.tasks().Cancel(ctx, "a", task.ID, ""); err != nil {
					t.Fatalf("round %d: the pool that stayed: %v", i, err)
				}
			}
		}
		if gone != nil {
			if err := pools.Delete(t.Context(), "a", "p"); err != nil {
				t.Fatalf("round %d: nobody uses it any more: %v", i, err)
			}
		}
		cancel()
	}
	t.Logf("removed %d of 40 times at once", removed)
}
