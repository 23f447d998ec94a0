package gateway

import "sync"

// Boots knows, by boot id, which gateway each process is, so that one process
// that is reached by two URLs does not become two gateways. The first one
// keeps a process, also while it is unreachable, until it connects to another
// or ends. It covers the gateways of one node and is safe for concurrent use; a
// nil Boots knows nothing.
type Boots struct {
	mu     sync.Mutex
	owners map[string]owner  // by boot id
	boots  map[string]string // by gateway
}

type owner struct{ gateway, tenant string }

// NewBoots returns an empty registry.
func NewBoots() *Boots {
	return &Boots{owners: map[string]owner{}, boots: map[string]string{}}
}

// Claim makes the process the gateway's. If it is another's, that one keeps it
// and is named, unless it belongs to another tenant; the gateway then keeps
// what it had. An empty boot id is nobody's.
func (b *Boots) Claim(boot, gateway, tenant string) (other string) {
	if b == nil || boot == "" {
		return ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if o, ok := b.owners[boot]; ok && o.gateway != gateway {
		if o.tenant != tenant {
			return "another gateway"
		}
		return "the gateway " + o.gateway
	}
	delete(b.owners, b.boots[gateway])
	b.owners[boot], b.boots[gateway] = owner{gateway, tenant}, boot
	return ""
}

// Release gives up what the gateway has.
func (b *Boots) Release(gateway string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if boot, ok := b.boots[gateway]; ok {
		delete(b.owners, boot)
		delete(b.boots, gateway)
	}
}
