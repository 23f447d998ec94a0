package app

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/dash-fleet/dash/cmd/internal/requests"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

// TestPoolsAreBounded: for each tenant, and those that are there can be changed.
func TestPoolsAreBounded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, c := twoTenants(t)
	put := func(tenant, id string, version int64) (messages.Pool, error) {
		return c.pools().Put(ctx, tenant, messages.Pool{ID: id, Tenant: tenant, Version: version, MaxConcurrency: int(version)})
	}
	for i := range requests.MaxPools {
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

// TestATenantsGatewaysAreBounded: also when several come at once. Whoever has all
// tenants may add more, and those that are there can be changed.
func TestATenantsGatewaysAreBounded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, c := twoTenants(t)
	a.networks.Within = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	gateways := c.gateways()
	gw := func(tenant string, n int) messages.Gateway {
		return messages.Gateway{ID: fmt.Sprint(tenant, "-", n), Tenant: tenant, Pool: tenant, URL: fmt.Sprintf("ws://10.1.2.3:%d/%s", n, tenant), Token: "t", Weight: 1}
	}
	for n := range 998 {
		if _, err := a.repos.Gateways.Create(ctx, gw("a", n+1)); err != nil {
			t.Fatal(err)
		}
	}
	came := make(chan error, 8)
	for n := range cap(came) {
		go func() {
			_, err := gateways.Create(ctx, "a", gw("a", 2000+n))
			came <- err
		}()
	}
	made := 0
	for range cap(came) {
		err := <-came
		if err == nil {
			made++
			continue
		}
		refusedFor(t, err, messages.CodeConflict, "tenant a has 1000 gateways", "remove one")
	}
	if made != 2 {
		t.Errorf("%d were made beside 998, want 2", made)
	}
	must(gateways.Create(ctx, "b", gw("b", 1)))(t)
	must(gateways.Create(ctx, "", gw("a", 3000)))(t)
	weight := 2
	must(gateways.Update(ctx, "a", "a-7", server.GatewayChange{Weight: &weight}, 0))(t)
	for _, id := range []string{"a-3000", "a-1"} {
		must(gateways.Delete(ctx, "a", id, false))(t)
	}
	must(gateways.Create(ctx, "a", gw("a", 4000)))(t)
}
