package app

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/http/api"
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

func (r wholeTenants) List(ctx context.Context) ([]persistence.Tenant, error) {
	r.read = append(r.read, "tenants")
	return r.Tenants.List(ctx)
}

// TestListsReadAPage of the store, and not everything that there is.
func TestListsReadAPage(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Data, cfg.Node, cfg.Listen = t.TempDir(), "n", "127.0.0.1:0"
	a, admin := startProcess(t, cfg, "")
	t.Cleanup(func() {
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
	})
	w := &whole{}
	a.repos.Gateways, a.repos.Users, a.repos.Tenants = wholeGateways{a.repos.Gateways, w}, wholeUsers{a.repos.Users, w}, wholeTenants{a.repos.Tenants, w}
	for _, op := range []string{"listGateways", "listUsers", "listTenants"} {
		for i := range 5 {
			if err := lists[op].make(t.Context(), a, fmt.Sprint(op, "-", i), "default"); err != nil {
				t.Fatal(err)
			}
		}
		if got := walkList(t, lists[op], admin, 2, nil); len(got) < 5 {
			t.Errorf("%s: %v", op, got)
		}
	}
	must(admin.ListUsers(t.Context(), "nobody@example.com", api.Page{}))(t)
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
		if list, more, err = (gatewayCommands{c}).List(ctx, server.GatewayFilter{}, after, 1000); err != nil || len(list) == 0 {
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
		if list, more, err := (gatewayCommands{c}).List(ctx, f, "", 1); err != nil || more || len(list) != 1 || list[0].Config.ID != "gw-299" {
			t.Errorf("by %s: %d, more: %v, %v", what, len(list), more, err)
		}
	}
	if list, more, err := (gatewayCommands{c}).List(ctx, server.GatewayFilter{States: []string{"ready"}}, "", 1); err != nil || more || len(list) != 0 {
		t.Errorf("ready: %d, more: %v, %v", len(list), more, err)
	}
}
