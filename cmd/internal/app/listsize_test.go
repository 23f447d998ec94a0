package app

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dash-fleet/dash/cmd/internal/requests"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// whole notes lists that are read at one go.
type whole struct{ read []string }

type (
	wholeGateways struct {
		persistence.Gateways
		*whole
	}
	wholeUsers struct {
		persistence.Users
		*whole
	}
	wholeTenants struct {
		persistence.Tenants
		*whole
	}
)

func (r wholeGateways) List(ctx context.Context) ([]messages.Gateway, error) {
	r.read = append(r.read, "gateways")
	return r.Gateways.List(ctx)
}

func (r wholeUsers) List(ctx context.Context) ([]persistence.User, error) {
	r.read = append(r.read, "users")
	return r.Users.List(ctx)
}

func (r wholeTenants) List(ctx context.Context) ([]messages.Tenant, error) {
	r.read = append(r.read, "tenants")
	return r.Tenants.List(ctx)
}

// TestListsReadAPage of the store, and not everything that there is.
func TestListsReadAPage(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, _ := twoTenants(t)
	w, repos := &whole{}, a.repos
	repos.Gateways, repos.Users, repos.Tenants = wholeGateways{repos.Gateways, w}, wholeUsers{repos.Users, w}, wholeTenants{repos.Tenants, w}
	c := &commands{app: &App{node: a.node, store: a.store, repos: repos, parts: a.parts}}
	for _, op := range []string{"listGateways", "listUsers"} {
		for i := range 5 {
			if err := lists[op].make(ctx, a, fmt.Sprint(op, "-", i), "default"); err != nil {
				t.Fatal(err)
			}
		}
	}
	accounts := c.app.Commands().Accounts
	gateways, more, err := c.gateways().List(ctx, server.GatewayFilter{}, "listGateways-1", 2)
	if err != nil || !more || len(gateways) != 2 || gateways[0].Config.ID != "listGateways-2" {
		t.Errorf("gateways: %+v, %v, %v", gateways, more, err)
	}
	if users := must(accounts.Users(ctx, "", "", "listUsers-2", 3))(t); len(users) != 2 || users[0].ID != "listUsers-3" {
		t.Errorf("users: %+v", users)
	}
	for _, l := range []struct {
		tenant, email, after string
		want                 int
	}{{"", "ulistUsers-3@x", "", 1}, {"default", "ulistUsers-3@x", "", 1}, {"a", "ulistUsers-3@x", "", 0}, {"", "ulistUsers-3@x", "listUsers-3", 0}, {"", "nobody@x", "", 0}} {
		if users := must(accounts.Users(ctx, l.tenant, l.email, l.after, 3))(t); len(users) != l.want {
			t.Errorf("%+v: %+v", l, users)
		}
	}
	if tenants := must(accounts.Tenants(ctx, "", "a", 1))(t); len(tenants) != 1 || tenants[0].ID != "b" {
		t.Errorf("tenants: %+v", tenants)
	}
	for after, want := range map[string]int{"": 1, "a": 1, "b": 0} {
		if tenants := must(accounts.Tenants(ctx, "b", after, 3))(t); len(tenants) != want {
			t.Errorf("tenant b behind %q: %+v", after, tenants)
		}
	}
	if len(w.read) > 0 {
		t.Errorf("read whole: %v", w.read)
	}
}

// TestGatewaysAreFoundBehindLongOnes: a page ends in bytes before it is full, and
// what is looked for may be behind any number of others.
func TestGatewaysAreFoundBehindLongOnes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, c := twoTenants(t)
	labels := map[string]string{}
	for i := range 64 {
		labels[fmt.Sprintf("label-%d", i)] = strings.Repeat("x", 256)
	}
	const count = 300
	for i := range count {
		g := messages.Gateway{ID: fmt.Sprintf("gw-%03d", i), Tenant: "a", Pool: "a", Weight: 1, Labels: labels, CreatedAt: messages.Now(),
			Managed: &messages.Managed{Config: map[string]any{"k": "v"}, Env: map[string]string{"A_API_KEY": "secret"}}}
		if i == count-1 {
			g.Tenant, g.Pool = "b", "b"
		}
		must(a.repos.Gateways.Create(ctx, g))(t)
	}
	seen, pages := 0, 0
	for after, more := "", true; more; pages++ {
		var list []server.Gateway
		var err error
		if list, more, err = c.gateways().List(ctx, server.GatewayFilter{}, after, 1000); err != nil || len(list) == 0 {
			t.Fatal(len(list), err)
		}
		for _, g := range list {
			if want := fmt.Sprintf("gw-%03d", seen); g.Config.ID != want {
				t.Fatalf("%s, want %s", g.Config.ID, want)
			}
			if v, named := g.Config.Managed.Env["A_API_KEY"]; !named || v != "" || g.Config.Managed.Config != nil {
				t.Fatalf("%+v", g.Config.Managed)
			}
			after = g.Config.ID
			seen++
		}
	}
	if seen != count || pages != 2 {
		t.Errorf("%d of %d gateways of 17 KB on %d pages, want 2", seen, count, pages)
	}
	for what, f := range map[string]server.GatewayFilter{"pool": {Pool: "b"}, "tenant": {Tenant: "b"}, "state": {States: []string{"registered"}, Tenant: "b"}} {
		if list, more, err := c.gateways().List(ctx, f, "", 1); err != nil || more || len(list) != 1 || list[0].Config.ID != "gw-299" {
			t.Errorf("by %s: %d, more: %v, %v", what, len(list), more, err)
		}
	}
	if list, more, err := c.gateways().List(ctx, server.GatewayFilter{States: []string{"ready"}}, "", 1); err != nil || more || len(list) != 0 {
		t.Errorf("ready: %d, more: %v, %v", len(list), more, err)
	}
}

// statuses counts how often the states of all gateways are read.
type statuses struct {
	persistence.Store
	read atomic.Int32
}

func (s *statuses) GatewayStatuses(ctx context.Context) ([]messages.GatewayStatus, error) {
	s.read.Add(1)
	return s.Store.GatewayStatuses(ctx)
}

// TestAListReadsStatesOnce, of all the gateways that have no owner here.
func TestAListReadsStatesOnce(t *testing.T) {
	t.Parallel()
	a, _ := twoTenants(t)
	for i := range 50 {
		must(a.repos.Gateways.Create(t.Context(), messages.Gateway{ID: fmt.Sprint("gw-", i), Tenant: "a", Pool: "a", CreatedAt: messages.Now()}))(t)
	}
	if err := committed(t.Context(), a, persistence.Op{Gateway: &messages.GatewayStatus{ID: "gw-7", Tenant: "a", State: messages.GatewayUnreachable, Since: messages.Now()}}); err != nil {
		t.Fatal(err)
	}
	s := &statuses{Store: a.store}
	c := requests.Gateways{Store: s, Repos: &a.repos, Node: a.node}
	list, _, err := c.List(t.Context(), server.GatewayFilter{}, "", 100)
	if err != nil || len(list) != 50 || s.read.Load() != 1 {
		t.Errorf("%d gateways, states read %d times, %v", len(list), s.read.Load(), err)
	}
	for _, g := range list {
		want := messages.GatewayRegistered
		if g.Config.ID == "gw-7" {
			want = messages.GatewayUnreachable
		}
		if g.Status.State != want || g.Status.ID != g.Config.ID {
			t.Errorf("%s is %s", g.Config.ID, g.Status.State)
		}
	}
}
