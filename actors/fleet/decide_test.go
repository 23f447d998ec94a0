package fleet

import (
	"slices"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// TestDecide: what has a row runs, and what has none does not.
func TestDecide(t *testing.T) {
	t.Parallel()
	early, late := time.UnixMicro(1), time.UnixMicro(2)
	world := rows{
		gateways: []messages.Gateway{{ID: "g-1", Pool: "p-1", CreatedAt: early}, {ID: "g-2", Pool: "old", CreatedAt: late}},
		pools:    map[string]messages.Pool{"p-1": {ID: "p-1", Tenant: "acme"}, "acme": {ID: "acme", Tenant: "other"}},
		tenants:  map[string]bool{"acme": true, "quiet": true},
		open:     []string{"left", "p-1"},
	}
	nobody := func(string) bool { return false }
	for name, c := range map[string]struct {
		now                                            here
		startPools, stopPools, startGates, removeGates []string
	}{
		"nothing runs": {
			now: here{gaveUp: nobody}, startPools: []string{"default", "acme", "p-1"}, startGates: []string{"g-1", "g-2"},
		},
		"all runs": {
			now: here{pools: set("default", "acme", "p-1"), gateways: map[string]time.Time{"g-1": early, "g-2": late}, gaveUp: nobody},
		},
		"a tenant's own pool that it uses, pools that have no row but gateways or tasks": {
			now: here{pools: set("default", "acme", "p-1", "quiet", "old", "left"), gateways: map[string]time.Time{"g-1": early, "g-2": late}, gaveUp: nobody},
		},
		"a pool and a gateway that are no more": {
			now:       here{pools: set("default", "acme", "p-1", "gone"), gateways: map[string]time.Time{"g-1": early, "g-2": late, "g-3": early}, gaveUp: nobody},
			stopPools: []string{"gone"}, removeGates: []string{"g-3"},
		},
		"the owner of an earlier gateway of that id": {
			now:         here{pools: set("default", "acme", "p-1"), gateways: map[string]time.Time{"g-1": early, "g-2": early}, gaveUp: nobody},
			removeGates: []string{"g-2"},
		},
		"an owner that gave up": {
			now:        here{pools: set("default", "acme", "p-1"), gaveUp: func(id string) bool { return id == "g-1" }},
			startGates: []string{"g-2"},
		},
	} {
		got := decide(world, c.now)
		var pools, gates []string
		for _, p := range got.startPools {
			pools = append(pools, p.ID)
			if p.ID == "acme" && p.Tenant != "acme" {
				t.Errorf("%s: the pool acme is that of tenant %s", name, p.Tenant)
			}
		}
		for _, g := range got.startGateways {
			gates = append(gates, g.ID)
		}
		for what, pair := range map[string][2][]string{
			"start pools": {pools, c.startPools}, "stop pools": {got.stopPools, c.stopPools},
			"start gateways": {gates, c.startGates}, "remove gateways": {got.removeGateways, c.removeGates},
		} {
			if !slices.Equal(pair[0], pair[1]) {
				t.Errorf("%s: %s %v, want %v", name, what, pair[0], pair[1])
			}
		}
	}
}

func set(ids ...string) map[string]bool {
	s := map[string]bool{}
	for _, id := range ids {
		s[id] = true
	}
	return s
}
