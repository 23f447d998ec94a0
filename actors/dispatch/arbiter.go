package dispatch

import (
	"time"

	"github.com/dash-fleet/dash/messages"
)

// An Arbiter decides which waiting task goes to which gateway. It is pure: no
// I/O, no clock, no goroutine, no randomness; the same calls give the same
// answers. It belongs to one pool and is not safe for concurrent use.
//
// A credit of a gateway goes to the smallest (class, seq) that may run there;
// of the gateways with credit the session's own is taken, else the one that is
// least loaded for its weight. Tasks are kept in buckets of equal requirements,
// so that tasks nobody can run now cost nothing.
type Arbiter struct {
	limits   Limits
	gateways map[string]*gateway
	order    []*gateway // by id
	buckets  map[bucketKey]*bucket
	idle     int // empty buckets among them
	sessions map[string]*line
	open     [numClasses]heap[*lane] // lanes with a task and a gateway that has credit
	running  [numClasses]int
	queued   [numClasses]int
	flying   int // tasks at gateways
	free     int // sum of the gateways' credits
}

// numClasses leaves index 0 unused, so that a Class is its own index.
const numClasses = int(messages.Low) + 1

// Limits are the pool's caps and opt-ins as the arbiter needs them.
type Limits struct {
	MaxRunning int // over all gateways; 0: no cap
	// Reserved slots are kept free for a class as long as it uses fewer.
	Reserved map[messages.Class]int
	// Aging lifts a task by one class for each such time it has waited; 0: never.
	Aging time.Duration
}

// Need is what a task asks of its gateway. Tenant and Region are compared for
// equality, an empty Region fits all; Capabilities is the sorted, comma-joined set.
type Need struct {
	Tenant       string
	Region       string
	Capabilities string
	Provider     string // of its model; empty: the gateway's default
}

// Offer is what a gateway says of itself. An empty Tenant serves all tenants.
type Offer struct {
	ID           string
	Tenant       string
	Region       string
	Capabilities []string
	Weight       int // 0: 1
	Window       int
	Paused       []string // providers that it does not ask now, sorted
}

// Phase is what the arbiter needs to know of a task's state.
type Phase uint8

// Phases of an Item.
const (
	Gone     Phase = iota // unknown, scheduled or terminal
	Waiting               // in the order
	Blocking              // waits for something else and keeps later tasks of its session back
	Flying                // at a gateway, counts against its window
)

// Item is a task in the arbiter. The fields above the line are set by the
// caller before the first Set and do not change while the item is known.
type Item struct {
	ID      string
	Class   messages.Class
	Seq     int64
	Since   int64  // when it entered the order, µs since 1970; rises with Seq inside a class
	Session string // key of its session, empty for none
	Need    Need
	Owner   any // the caller's own

	phase  Phase
	at     int // place in its lane
	late   bool
	lane   *lane
	line   *line
	flight *gateway
}

// Phase tells where the item is.
func (it *Item) Phase() Phase { return it.phase }

func (it *Item) less(o *Item) bool {
	return it.Class < o.Class || it.Class == o.Class && it.Seq < o.Seq
}
func (it *Item) place() *int { return &it.at }

// gateway is what the arbiter keeps of an Offer.
type gateway struct {
	Offer
	caps    map[string]bool
	flying  int
	buckets map[*bucket]struct{} // those whose tasks it may run
}

func (g *gateway) credit() int { return g.Window - g.flying }

// NewArbiter returns an arbiter without tasks and gateways.
func NewArbiter() *Arbiter {
	return &Arbiter{gateways: map[string]*gateway{}, buckets: map[bucketKey]*bucket{}, sessions: map[string]*line{}}
}

// Configure sets the pool's limits.
func (a *Arbiter) Configure(l Limits) { a.limits = l }

// Set brings an item into a phase; repeating it changes nothing. at names the
// gateway for Flying and is ignored otherwise.
func (a *Arbiter) Set(it *Item, p Phase, at string) {
	if it.phase == p && (p != Flying || it.flight.ID == at) {
		return
	}
	a.leave(it)
	it.phase = p
	switch p {
	case Waiting:
		a.queued[it.Class]++
		if it.Session == "" {
			a.list(it, "")
			return
		}
	case Flying:
		a.launch(it, at)
	}
	if it.Session != "" && p != Gone {
		a.join(it)
	}
}

// leave takes the item out of wherever it is.
func (a *Arbiter) leave(it *Item) {
	switch it.phase {
	case Waiting:
		a.queued[it.Class]--
	case Flying:
		g := it.flight
		it.flight = nil
		a.flying--
		a.running[it.Class]--
		a.change(g, func() { g.flying-- })
	}
	if it.lane != nil {
		a.unlist(it)
	}
	if it.line != nil {
		a.part(it)
	}
	it.phase = Gone
}

func (a *Arbiter) launch(it *Item, at string) {
	g := a.gateway(at)
	it.flight = g
	a.flying++
	a.running[it.Class]++
	a.change(g, func() { g.flying++ })
}

// Next moves the smallest task that may run now to a gateway and returns both.
// nil: nothing can be assigned.
func (a *Arbiter) Next(now time.Time) (*Item, string) {
	l := a.pick(now.UnixMicro())
	if l == nil {
		return nil, ""
	}
	it := l.items.first()
	g := l.bucket.best()
	a.Set(it, Flying, g.ID)
	return it, g.ID
}

// pick returns the open lane whose head is first in the order.
func (a *Arbiter) pick(now int64) *lane {
	slack := a.slack()
	if slack <= 0 {
		return nil
	}
	var best *lane
	var bestRank messages.Class
	for _, c := range messages.Classes {
		l, ok := a.open[c].top()
		if !ok || slack <= a.reservedFromOthers(c) {
			continue
		}
		head := l.items.first()
		if a.limits.Aging <= 0 {
			return l
		}
		rank := aged(head, now, a.limits.Aging)
		if best == nil || rank < bestRank || rank == bestRank && head.Seq < best.items.first().Seq {
			best, bestRank = l, rank
		}
	}
	return best
}

// slack is how many tasks may start now.
func (a *Arbiter) slack() int {
	if a.limits.MaxRunning > 0 {
		return min(a.free, a.limits.MaxRunning-a.flying)
	}
	return a.free
}

// reservedFromOthers is how many of the free slots a task of class c must leave.
func (a *Arbiter) reservedFromOthers(c messages.Class) int {
	n := 0
	for d, want := range a.limits.Reserved {
		if d != c && d.Valid() {
			n += max(0, want-a.running[d])
		}
	}
	return n
}

// slots is how many tasks can be at gateways at once.
func (a *Arbiter) slots() int {
	n := 0
	for _, g := range a.order {
		n += max(0, g.Window)
	}
	if a.limits.MaxRunning > 0 {
		n = min(n, a.limits.MaxRunning)
	}
	return n
}

// starves says whether the slots reserved for other classes leave class c none
// of those there are, whatever ends. Without slots nothing runs anyway.
func (a *Arbiter) starves(c messages.Class) (slots, reserved int, yes bool) {
	slots = a.slots()
	for d, want := range a.limits.Reserved {
		if d != c && d.Valid() {
			reserved += want
		}
	}
	return slots, reserved, slots > 0 && reserved >= slots
}

// kept is how many slots are free but kept for other classes, so that a task
// of class c does not start now; 0: that is not what keeps it.
func (a *Arbiter) kept(c messages.Class) int {
	if slack := a.slack(); slack <= a.reservedFromOthers(c) {
		return max(0, slack)
	}
	return 0
}

// aged is the class a task counts as after its waiting time.
func aged(it *Item, now int64, step time.Duration) messages.Class {
	up := max(0, now-it.Since) / step.Microseconds()
	if up >= int64(it.Class-messages.Critical) {
		return messages.Critical
	}
	return it.Class - messages.Class(up)
}

// Queued is how many tasks of a class wait in the order, blocked ones included.
func (a *Arbiter) Queued(c messages.Class) int { return a.queued[c] }

// Running is how many tasks of a class are at gateways.
func (a *Arbiter) Running(c messages.Class) int { return a.running[c] }

// Oldest returns since when, in µs since 1970, the first task of a class waits;
// 0 when none does. It looks at the head of every bucket and session.
func (a *Arbiter) Oldest(c messages.Class) int64 {
	var oldest int64
	see := func(it *Item) {
		if it.Class == c && (oldest == 0 || it.Since < oldest) {
			oldest = it.Since
		}
	}
	for _, b := range a.buckets {
		if it := b.lanes[c].items.first(); it != nil {
			see(it)
		}
	}
	for _, l := range a.sessions {
		if it, ok := l.first(c); ok {
			see(it)
		}
	}
	return oldest
}
