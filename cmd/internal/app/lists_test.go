package app

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/testserver"
)

// shapes are ids whose order differs between bytes, letters and tenants.
var shapes = []string{"-a", "0", "1", "10", "2", "9", ":", "A", "AA", "Z", "_", "a", "a-", "a.", "a:", "aA", "a_", "aa", "b", "m", "z", "zz"}

// owner spreads things over tenants whose order is not that of the ids.
func owner(i int) string { return [...]string{"default", "acme", "Z-1"}[i%3] }

// aList is one list of the API: how to make its nth thing, named id, directly in the
// store, and what names an item.
type aList struct {
	path string
	make func(ctx context.Context, a *App, id, tenant string) error
	drop func(ctx context.Context, a *App, id string) error
	same bool // an id may be taken by each tenant
}

func putTask(ctx context.Context, a *App, id, tenant string) error {
	t := messages.Task{ID: id, Tenant: tenant, Pool: "default", Class: messages.Low, State: messages.Queued, Spec: &messages.TaskSpec{Message: "m"}, CreatedAt: messages.Now()}
	end := t
	end.State, end.FinishedAt = messages.Cancelled, messages.Now()
	return committed(ctx, a, persistence.Op{Insert: &persistence.TaskInsert{Task: t}}, persistence.Op{Update: &persistence.TaskUpdate{Task: end, From: messages.Queued}})
}

func putSession(ctx context.Context, a *App, id, tenant string) error {
	s := messages.Session{ID: id, Tenant: tenant, Pool: "default", State: messages.SessionIdle, CreatedAt: messages.Now(), UpdatedAt: messages.Now()}
	return committed(ctx, a, persistence.Op{Session: &persistence.SessionWrite{Session: s, FromGeneration: -1}})
}

func committed(ctx context.Context, a *App, ops ...persistence.Op) error {
	out, err := a.store.Commit(ctx, ops)
	for _, o := range out {
		if o.Status != persistence.OK {
			return fmt.Errorf("commit: %s", o.Status)
		}
	}
	return err
}

// lists has every operation of the document that takes a cursor, but for
// getTranscript, the list of one session (persistence/storetest), and getQueue, which
// is not in the store (TestTheQueueEndsInBytes).
var lists = map[string]aList{
	"listTasks":    {path: "/tasks", make: putTask},
	"listSessions": {path: "/sessions", make: putSession, same: true},
	"listGateways": {path: "/gateways", make: func(ctx context.Context, a *App, id, tenant string) error {
		_, err := a.repos.Gateways.Create(ctx, messages.Gateway{ID: id, Tenant: tenant, Pool: tenant, Node: "n", URL: "ws://127.0.0.1:1", Token: "t", MaxConcurrency: 1, Weight: 1, CreatedAt: messages.Now()})
		return err
	}, drop: func(ctx context.Context, a *App, id string) error { return a.repos.Gateways.Delete(ctx, id) }},
	"listPools": {path: "/pools", make: func(ctx context.Context, a *App, id, tenant string) error {
		_, err := a.repos.Pools.Put(ctx, messages.Pool{ID: id, Tenant: tenant, CreatedAt: messages.Now()})
		return err
	}},
	"listKeys": {path: "/keys", make: func(ctx context.Context, a *App, id, tenant string) error {
		return a.repos.Keys.Create(ctx, persistence.Key{Key: messages.Key{ID: id, Name: id, Tenant: tenant, CreatedAt: messages.Now(), Active: true, Version: 1}, Hash: []byte("hash of " + id)})
	}},
	"listUsers": {path: "/users", make: func(ctx context.Context, a *App, id, tenant string) error {
		_, err := a.repos.Users.Create(ctx, persistence.User{User: messages.User{ID: id, Email: "u" + strings.ReplaceAll(id, ":", "!") + "@x", Tenant: tenant, CreatedAt: messages.Now()}, PasswordHash: []byte("h")})
		return err
	}, drop: func(ctx context.Context, a *App, id string) error { return a.repos.Users.Delete(ctx, id) }},
	"listTenants": {path: "/tenants", make: func(ctx context.Context, a *App, id, _ string) error {
		_, err := a.repos.Tenants.Create(ctx, messages.Tenant{ID: id, Name: id, CreatedAt: messages.Now()})
		return err
	}},
	"listAudit": {path: "/audit", make: func(ctx context.Context, a *App, id, tenant string) error {
		_, err := a.repos.Audit.Append(ctx, persistence.AuditEntry{Time: messages.Now(), Tenant: tenant, Actor: "test", Action: "a", Target: id, RequestID: "r"})
		return err
	}},
}

// TestEveryListIsWhole pages through every list of the API on every engine, for
// a caller of all tenants and one of a single tenant, with pages of several
// sizes, while nothing changes and while rows come and go: what was there all the time comes once.
func TestEveryListIsWhole(t *testing.T) {
	t.Parallel()
	doc, err := openapi3.NewLoader().LoadFromData(api.Document)
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range doc.Paths.Map() {
		for _, op := range item.Operations() {
			if op.Parameters.GetByInAndName("query", "cursor") != nil && lists[op.OperationID].path == "" && op.OperationID != "getTranscript" && op.OperationID != "getQueue" {
				t.Errorf("the list %s is not looked at", op.OperationID)
			}
		}
	}
	for name, change := range map[string]func(*config.Config){
		"sqlite": func(*config.Config) {},
		"postgres": func(c *config.Config) {
			c.Store, c.PostgresURL = config.EnginePostgres, messages.Secret(testserver.Postgres(t).Database(t))
		},
		"redis": func(c *config.Config) {
			c.Store, c.PostgresURL = config.EngineRedis, messages.Secret(testserver.Postgres(t).Database(t))
			c.RedisURL = messages.Secret(testserver.Redis(t).Database(t))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config.Default()
			cfg.Data, cfg.Node, cfg.Listen = t.TempDir(), "n", "127.0.0.1:0"
			change(&cfg)
			a, admin := startProcess(t, cfg, "")
			t.Cleanup(func() {
				if err := a.Stop(); err != nil {
					t.Error(err)
				}
			})
			for _, tenant := range []string{"acme", "Z-1"} {
				if err := lists["listTenants"].make(t.Context(), a, tenant, ""); err != nil {
					t.Fatal(err)
				}
			}
			acme := "acme"
			key := must(admin.CreateKey(t.Context(), api.CreateKey{Name: "one", Permissions: []api.Permission{"admin"}, Tenant: &acme, RateLimit: new(int)}))(t)
			for _, op := range slices.Sorted(mapKeys(lists)) {
				wholeList(t, a, lists[op], admin, apiClient(t, a, messages.Secret(*key.Key)))
			}
		})
	}
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func wholeList(t *testing.T, a *App, l aList, all, one *api.Client) {
	t.Helper()
	for i, id := range shapes {
		tenants := []string{owner(i)}
		if l.same {
			tenants = []string{"default", "acme", "Z-1"}
		}
		for _, tenant := range tenants {
			if err := l.make(t.Context(), a, id, tenant); err != nil {
				t.Fatalf("%s: make %s: %v", l.path, id, err)
			}
		}
	}
	for who, c := range map[string]*api.Client{"all tenants": all, "one tenant": one} {
		truth := walkList(t, l, c, 1000, nil)
		if want := len(shapes) / 3; len(truth) < want && l.path != "/tenants" || who == "all tenants" && len(truth) < len(shapes) {
			t.Errorf("%s: %d rows for %s", l.path, len(truth), who)
		}
		for _, limit := range []int{1, 2, 7, len(truth), max(1, len(truth)-1)} {
			if got := walkList(t, l, c, limit, nil); !slices.Equal(got, truth) {
				t.Errorf("%s, pages of %d, %s: %d rows, want %d:\n%v\n%v", l.path, limit, who, len(got), len(truth), got, truth)
			}
		}
		coming, last := 0, ""
		got := walkList(t, l, c, 3, func() {
			id := fmt.Sprintf("%s-comes-%s-%d", [...]string{"0", "m", "zzz"}[coming%3], strings.ReplaceAll(who, " ", "-"), coming)
			if coming++; coming > 10 {
				return
			}
			if last != "" && l.drop != nil { // and goes
				if err := l.drop(t.Context(), a, last); err != nil {
					t.Fatalf("%s: drop %s: %v", l.path, last, err)
				}
			}
			if err := l.make(t.Context(), a, id, "acme"); err != nil {
				t.Fatalf("%s: make %s: %v", l.path, id, err)
			}
			last = id
		})
		before := map[string]bool{}
		for _, id := range truth {
			before[id] = true
		}
		if kept := slices.DeleteFunc(slices.Clone(got), func(id string) bool { return !before[id] }); !slices.Equal(kept, truth) {
			t.Errorf("%s, %s, while rows come: %d of %d rows:\n%v\n%v", l.path, who, len(kept), len(truth), kept, truth)
		}
		if slices.Sort(got); len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%s, %s: a row came twice", l.path, who)
		}
	}
}

// walkList pages to the end and names what came; between is called between pages.
func walkList(t *testing.T, l aList, c *api.Client, limit int, between func()) (got []string) {
	t.Helper()
	q := url.Values{"limit": {fmt.Sprint(limit)}}
	for pages := 1; ; pages++ {
		var p struct {
			Items []map[string]any `json:"items"`
			Next  *string          `json:"next_cursor"`
		}
		if err := c.Do(t.Context(), "GET", l.path, q, nil, &p); err != nil {
			t.Fatalf("%s: %v", l.path, err)
		}
		for _, v := range p.Items {
			got = append(got, fmt.Sprint(v["id"], v["seq"], " of ", v["tenant"]))
		}
		switch {
		case p.Next == nil && between == nil && pages > 1 && len(p.Items) == 0:
			t.Errorf("%s, pages of %d: a full page had a cursor to nothing", l.path, limit)
		case p.Next != nil && len(p.Items) != limit:
			t.Errorf("%s, pages of %d: %d rows on a page that is not the last", l.path, limit, len(p.Items))
		case pages > 400:
			t.Fatalf("%s, pages of %d: no end", l.path, limit)
		}
		if p.Next == nil {
			return got
		}
		q.Set("cursor", *p.Next)
		if between != nil {
			between()
		}
	}
}
