// Package workers runs mailboxes on goroutines that are kept between turns.
// protoactor's own dispatcher starts a goroutine per scheduled mailbox, whose
// stack then grows anew in every turn: a seventh of the CPU of a busy node
// went into copying stacks.
package workers

import "time"

// Bounds of a pool. A turn never waits: without an idle worker it gets a new
// goroutine, so the number of goroutines is bounded by that of busy actors.
const (
	idleFor    = time.Second
	throughput = 300 // messages of one actor before others get a turn
)

// Pool implements actor.Dispatcher. Its goroutines end by themselves when they
// had nothing to do for a second.
type Pool struct{ work chan func() }

// New returns an empty pool.
func New() *Pool { return &Pool{work: make(chan func())} }

// Schedule runs one mailbox, on an idle worker if there is one.
func (p *Pool) Schedule(fn func()) {
	select {
	case p.work <- fn:
	default:
		go p.run(fn)
	}
}

// Throughput implements actor.Dispatcher.
func (p *Pool) Throughput() int { return throughput }

func (p *Pool) run(fn func()) {
	idle := time.NewTimer(idleFor)
	defer idle.Stop()
	for {
		fn()
		idle.Reset(idleFor)
		select {
		case fn = <-p.work:
		case <-idle.C:
			return
		}
	}
}
