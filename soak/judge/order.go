package judge

import (
	"container/heap"
	"slices"
	"strings"
	"time"

	"github.com/dash-fleet/dash/http/api"
)

// checkOrder replays the log: no claim stands behind a smaller (class, seq) of
// the pool that is queued and may run there. A new task without a session counts
// from its place in the log on, without any tolerance. A task that was put back,
// and one of a session, counts from the moment at which it is proven that the
// pool's owner had the answer to a later write, compared with the time of the
// claim's event, which is the moment of the decision.
//
// The same by log position alone for all tasks is counted, not judged.
func (c *court) checkOrder() {
	heard := c.heard()
	c.replay(func(e *Event) time.Time {
		if e.From == "" && e.Session == "" {
			return time.Time{}
		}
		return heard[e.Seq]
	}, func(b *book, e *Event, it *item) {
		c.v.Counts.OrderChecked++
		if first := b.first(e.Gateway, e.Time); first != nil && first.before(it) {
			c.find(RuleOrder, e.ID, e.Seq, "%s/%d went to %s while %s with %s/%d, queued by event %d, could have run there",
				e.Class, e.QueueSeq, e.Gateway, first.id, first.class, first.seq, first.since)
		}
	})
	c.replay(func(*Event) time.Time { return time.Time{} }, func(b *book, e *Event, it *item) {
		if first := b.first(e.Gateway, e.Time); first != nil && first.before(it) {
			c.v.Counts.BehindInLog++
		}
	})
}

// never is later than any run.
var never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// heard tells for each event when the pool's owner surely knew of it. Answers
// reach it in the order of the log, and it answers a client, or lets a gateway
// have a run, only after the answer to that write: so it knew of everything that
// stands before the write.
func (c *court) heard() map[int64]time.Time {
	answered := map[string]time.Time{}
	for i := range c.h.Submits {
		if s := &c.h.Submits[i]; s.Task != "" {
			answered[s.Task] = s.Answered
		}
	}
	known := make(map[int64]time.Time, len(c.h.Events))
	first := never
	for i := len(c.h.Events) - 1; i >= 0; i-- {
		e := &c.h.Events[i]
		if e.Type == "task.state" {
			if at, ok := answered[e.ID]; ok && e.From == "" && at.Before(first) {
				first = at
			}
			if r := c.runs[e.RunID]; r != nil && e.State == "claimed" && r.accepted >= 0 && r.at.Before(first) {
				first = r.at
			}
		}
		known[e.Seq] = first
	}
	return known
}

// replay runs through the log; known tells from when on the owner knows of an
// event that makes a task eligible.
func (c *court) replay(known func(*Event) time.Time, claim func(*book, *Event, *item)) {
	books := map[string]*book{}
	gateways := map[string]*api.Gateway{}
	for i := range c.h.Gateways {
		gateways[c.h.Gateways[i].Id] = &c.h.Gateways[i]
	}
	for _, p := range c.h.Pools {
		if p.AgingSeconds > 0 || reserves(&p.Reserved) {
			books[p.Id] = nil // another order was asked for
		}
	}
	for i := range c.h.Events {
		e := &c.h.Events[i]
		b, ok := books[e.Pool]
		if !ok {
			b = newBook(gateways)
			books[e.Pool] = b
		}
		switch {
		case b == nil:
		case e.Type == "session.state":
			b.session(e.ID).note(e, known(e))
		case e.Type == "task.state":
			if it := b.items[e.ID]; it != nil && it.queued && e.State == "claimed" && e.From == "queued" {
				claim(b, e, it)
			}
			b.apply(e, c.tasks[e.ID].last, known(e))
		}
	}
}

func reserves(r *api.Reserved) bool {
	for _, n := range []*int{r.Critical, r.High, r.Medium, r.Low} {
		if n != nil && *n > 0 {
			return true
		}
	}
	return false
}

// classes in the order of service.
var classes = []api.Priority{"critical", "high", "medium", "low"}

// item is a task in the order.
type item struct {
	id      string
	class   api.Priority
	rank    int
	seq     int64
	since   int64 // seq of the event that queued it
	entry   int   // distinguishes its stays in the queue
	queued  bool
	session string
	need    string
	doomed  time.Time // from then on it may not be claimed; zero: never
}

func (i *item) before(o *item) bool { return i.rank < o.rank || i.rank == o.rank && i.seq < o.seq }

// stay is one stay of an item in a queue; it is void when the item moved on.
type stay struct {
	it    *item
	entry int
	seq   int64
	known time.Time // from when on the owner surely knows of it
}

func (s *stay) void() bool { return !s.it.queued || s.it.entry != s.entry }

type queue []stay

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].it.rank < q[j].it.rank || q[i].it.rank == q[j].it.rank && q[i].seq < q[j].seq
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(stay)) }
func (q *queue) Pop() any {
	old := *q
	s := old[len(old)-1]
	*q = old[:len(old)-1]
	return s
}

// arriving orders stays by the time from which on they are known.
type arriving []stay

func (q arriving) Len() int           { return len(q) }
func (q arriving) Less(i, j int) bool { return q[i].known.Before(q[j].known) }
func (q arriving) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *arriving) Push(x any)        { *q = append(*q, x.(stay)) }
func (q *arriving) Pop() any {
	old := *q
	s := old[len(old)-1]
	*q = old[:len(old)-1]
	return s
}

// shelf is one queue with those on their way into it.
type shelf struct {
	queue    queue
	arriving arriving
}

// head is the first known item; what left the queue or may not run any more is dropped.
func (q *shelf) head(now time.Time) *item {
	for q.arriving.Len() > 0 && !now.Before(q.arriving[0].known) {
		heap.Push(&q.queue, heap.Pop(&q.arriving))
	}
	for q.queue.Len() > 0 {
		s := q.queue[0]
		if !s.void() && (s.it.doomed.IsZero() || now.Before(s.it.doomed)) {
			return s.it
		}
		heap.Pop(&q.queue)
	}
	return nil
}

// line is the queue of one agent session.
type line struct {
	waiting shelf
	gateway string
	freed   time.Time       // when the owner surely knew that nothing blocks
	shut    bool            // parked, suspended, moving
	blocks  map[string]bool // tasks that keep the others back
}

// note follows the session's own events, which the pool's owner writes.
func (l *line) note(e *Event, known time.Time) {
	l.gateway = e.Gateway
	if e.State == "idle" {
		l.freed = known
	}
	switch e.State {
	case "parked", "suspended", "moving", "closed", "removed", "failed", "recovering":
		l.shut = true
	default:
		l.shut = false
	}
}

// book is the order of one pool.
type book struct {
	gateways map[string]*api.Gateway
	items    map[string]*item
	free     map[string]*shelf // tasks without a session, by what they need
	lines    map[string]*line
}

func newBook(gateways map[string]*api.Gateway) *book {
	return &book{gateways: gateways, items: map[string]*item{}, free: map[string]*shelf{}, lines: map[string]*line{}}
}

func (b *book) session(id string) *line {
	l := b.lines[id]
	if l == nil {
		l = &line{blocks: map[string]bool{}}
		b.lines[id] = l
	}
	return l
}

// apply moves a task to the state of its event.
func (b *book) apply(e *Event, last *api.Task, known time.Time) {
	it := b.items[e.ID]
	if it == nil {
		it = &item{id: e.ID, class: e.Class, rank: slices.Index(classes, e.Class), session: e.Session}
		if last != nil {
			it.need, it.doomed = need(last), doom(last)
		}
		b.items[e.ID] = it
	}
	it.queued = e.State == "queued"
	if it.queued {
		it.seq, it.since = e.QueueSeq, e.Seq
		it.entry++
		heap.Push(&b.shelfOf(it).arriving, stay{it, it.entry, it.seq, known})
	}
	if it.session == "" {
		return
	}
	l := b.session(it.session)
	if atGateway(e.State) || e.State == "held" || e.State == "retry_wait" {
		l.blocks[it.id] = true
	} else if l.blocks[it.id] {
		// The gateway's owner wrote the end of the turn; nothing in the log
		// tells when the pool's owner heard of it, but its word that the
		// session is idle.
		delete(l.blocks, it.id)
		l.freed = turnOver(known)
	}
	if e.State == "claimed" {
		l.gateway = e.Gateway
	}
}

// turnOver is when a session counts as free after a turn: by position alone at
// once, else not before its owner says so.
func turnOver(known time.Time) time.Time {
	if known.IsZero() {
		return known
	}
	return never
}

func (b *book) shelfOf(it *item) *shelf {
	if it.session != "" {
		return &b.session(it.session).waiting
	}
	q := b.free[it.need]
	if q == nil {
		q = &shelf{}
		b.free[it.need] = q
	}
	return q
}

// first is the smallest queued task that may run at the gateway now.
func (b *book) first(gateway string, now time.Time) *item {
	var best *item
	see := func(it *item) {
		if it != nil && (best == nil || it.before(best)) && b.fits(it.need, gateway) {
			best = it
		}
	}
	for _, q := range b.free {
		see(q.head(now))
	}
	for _, l := range b.lines {
		if !l.shut && len(l.blocks) == 0 && !now.Before(l.freed) && (l.gateway == "" || l.gateway == gateway) {
			see(l.waiting.head(now))
		}
	}
	return best
}

// need is what a task asks of a gateway, as one comparable word.
func need(t *api.Task) string {
	caps := slices.Sorted(slices.Values(t.Requires.Capabilities))
	return value(t.Requires.Region) + "|" + strings.Join(caps, ",")
}

func (b *book) fits(need, gateway string) bool {
	region, caps, _ := strings.Cut(need, "|")
	if region == "" && caps == "" {
		return true
	}
	g := b.gateways[gateway]
	if g == nil || region != "" && value(g.Region) != region {
		return false
	}
	for want := range strings.SplitSeq(caps, ",") {
		if want != "" && !slices.Contains(g.Capabilities, want) {
			return false
		}
	}
	return true
}

// doom is when a task may not be claimed any more: its cancel or its expiry.
func doom(t *api.Task) time.Time {
	var at time.Time
	for _, p := range []*time.Time{t.Cancel.RequestedAt, t.NotAfter} {
		if p != nil && (at.IsZero() || p.Before(at)) {
			at = *p
		}
	}
	return at
}
