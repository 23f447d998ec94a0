// Package workers runs mailboxes on goroutines that are kept between turns.
// protoactor's own dispatcher starts a goroutine per scheduled mailbox, whose
// stack then grows anew in every turn: a seventh of the CPU of a busy node
// went into copying stacks.
package workers

import (
	"sync"
	"time"
)

// Bounds of a pool. A turn never waits: without an idle worker it gets a new
// goroutine, so the number of goroutines is bounded by that of busy actors.
const (
	sweepEvery = time.Second
	throughput = 300 // messages of one actor before others get a turn
)

// Pool implements actor.Dispatcher. Its goroutines end by themselves: once a
// second those that were idle all the time do.
type Pool struct {
	mu       sync.Mutex
	idle     []worker // the last one has the warmest stack and goes first
	spare    int      // least number of idle workers since the last sweep
	workers  int
	sweeping bool
}

// worker is the way to an idle goroutine; nil ends it. It has room for one
// turn, so handing it over never waits.
type worker chan func()

// New returns an empty pool.
func New() *Pool { return &Pool{} }

// Schedule runs one mailbox, on an idle worker if there is one.
func (p *Pool) Schedule(fn func()) {
	if w := p.take(); w != nil {
		w <- fn
		return
	}
	go p.run(make(worker, 1), fn)
}

// Throughput implements actor.Dispatcher.
func (p *Pool) Throughput() int { return throughput }

// take returns an idle worker, or nil and counts a new one.
func (p *Pool) take() worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle) - 1
	if n < 0 {
		p.workers++
		if !p.sweeping {
			p.sweeping = true
			time.AfterFunc(sweepEvery, p.sweep)
		}
		return nil
	}
	w := p.idle[n]
	p.idle = p.idle[:n]
	p.spare = min(p.spare, n)
	return w
}

func (p *Pool) run(w worker, fn func()) {
	for fn != nil {
		fn()
		p.mu.Lock()
		p.idle = append(p.idle, w)
		p.mu.Unlock()
		fn = <-w
	}
}

// sweep ends the workers that nobody needed since the last sweep.
func (p *Pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.idle[:p.spare] {
		w <- nil
	}
	p.workers -= p.spare
	p.idle = append([]worker(nil), p.idle[p.spare:]...)
	p.spare = len(p.idle)
	if p.sweeping = p.workers > 0; p.sweeping {
		time.AfterFunc(sweepEvery, p.sweep)
	}
}
