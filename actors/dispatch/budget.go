package dispatch

import (
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// Budget caps the runs at once over all pools of a node. It is safe for
// concurrent use; its lock is held for a few instructions only.
type Budget struct {
	mu      sync.Mutex
	limit   int
	used    map[string]int
	total   int
	waiting map[string]*actor.PID
}

// NewBudget returns a budget of limit runs.
func NewBudget(limit int) *Budget {
	return &Budget{limit: limit, used: map[string]int{}, waiting: map[string]*actor.PID{}}
}

// budgetFreed tells a pool that was short of budget to try again.
type budgetFreed struct{}

// room states what a pool uses now and returns how many more runs it may
// start. A pool that gets none is told when another one frees some.
func (b *Budget) room(pool string, used int, self *actor.PID, send *actor.RootContext) int {
	if b == nil {
		return int(^uint(0) >> 1)
	}
	b.mu.Lock()
	freed := b.used[pool] > used
	b.total += used - b.used[pool]
	b.used[pool] = used
	if used == 0 {
		delete(b.used, pool)
	}
	n := max(0, b.limit-b.total)
	delete(b.waiting, pool)
	var wake []*actor.PID
	if freed && n > 0 {
		for id, pid := range b.waiting {
			wake = append(wake, pid)
			delete(b.waiting, id)
		}
	}
	if n == 0 {
		b.waiting[pool] = self
	}
	b.mu.Unlock()
	for _, pid := range wake {
		send.Send(pid, budgetFreed{})
	}
	return n
}

// take counts one run that the pool starts; false: the budget is used up.
func (b *Budget) take(pool string) bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.total >= b.limit {
		return false
	}
	b.total++
	b.used[pool]++
	return true
}
