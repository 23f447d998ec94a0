package fleet

import (
	"maps"
	"slices"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// rows are what the store knows of a fleet.
type rows struct {
	gateways []messages.Gateway
	pools    map[string]messages.Pool // by id
	tenants  map[string]bool
	open     []string // pools that have a task in no terminal state; nil: nobody asked
}

// here is what has its owner on this node.
type here struct {
	pools    map[string]bool
	gateways map[string]time.Time      // when their rows were made
	gaveUp   func(gateway string) bool // its last owner failed too often: an operator decides
}

// steps bring what is here in line with the rows: pools before gateways, so that a
// demand finds its pool.
type steps struct {
	startPools     []messages.Pool
	stopPools      []string // that neither a row nor a tenant has any more
	startGateways  []messages.Gateway
	removeGateways []string
}

// decide compares the rows with what runs. It is pure. Whose shard something is in, is
// for whoever carries the steps out to ask.
func decide(r rows, now here) (s steps) {
	wanted := map[string]bool{}
	for _, id := range r.used() {
		wanted[id] = true
		if p, there := r.pool(id); there && !now.pools[id] {
			s.startPools = append(s.startPools, p)
		}
	}
	for id := range now.pools {
		if _, there := r.pool(id); !there && !wanted[id] {
			s.stopPools = append(s.stopPools, id)
		}
	}
	known := map[string]time.Time{}
	for _, g := range r.gateways {
		known[g.ID] = g.CreatedAt
		if _, runs := now.gateways[g.ID]; !runs && !now.gaveUp(g.ID) {
			s.startGateways = append(s.startGateways, g)
		}
	}
	for id, made := range now.gateways {
		if row, there := known[id]; !there || !row.Equal(made) { // or of an earlier gateway of that id
			s.removeGateways = append(s.removeGateways, id)
		}
	}
	return s
}

// used lists the pools that are to have an owner, each once: the default one, what is
// configured, and what gateways and open tasks are in. A tenant's own one that is none of
// these gets its owner with its first use.
func (r *rows) used() (ids []string) {
	seen := map[string]bool{}
	add := func(id string) {
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	add(messages.DefaultPool)
	for _, id := range slices.Sorted(maps.Keys(r.pools)) {
		add(id)
	}
	for _, g := range r.gateways {
		add(g.Pool)
	}
	for _, id := range r.open {
		add(id)
	}
	return ids
}

// pool is PoolConfig by the rows.
func (r *rows) pool(id string) (p messages.Pool, there bool) {
	if p, there = r.pools[id]; !there {
		p = messages.Pool{ID: id, Tenant: messages.DefaultTenant}
	}
	return whose(p, there, r.tenants[id])
}

// whose says to whom a pool belongs: one of a tenant's name is that tenant's, whatever
// the row says.
func whose(p messages.Pool, there, tenant bool) (messages.Pool, bool) {
	if tenant || p.ID == messages.DefaultTenant {
		p.Tenant = p.ID
		return p, true
	}
	return p, there
}
