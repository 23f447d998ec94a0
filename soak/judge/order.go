package judge

import (
	"container/heap"
	"slices"
	"strings"
	"time"

	"github.com/dash-fleet/dash/http/api"
)

// checkOrder replays the log: when a claim gives a task to a gateway, no
// smaller (class, seq) of the pool that may run there is queued.
func (c *court) checkOrder() {
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
		b, known := books[e.Pool]
		if !known {
			b = newBook(gateways)
			books[e.Pool] = b
		}
		switch {
		case b == nil:
		case e.Type == "session.state":
			b.session(e.ID).note(e)
		case e.Type == "task.state":
			if e.State == "claimed" && e.From == "queued" {
				c.checkClaim(b, e)
			}
			b.apply(e, c.tasks[e.ID].last)
		}
	}
}

func (c *court) checkClaim(b *book, e *Event) {
	c.v.Counts.OrderChecked++
	it := b.items[e.ID]
	if it == nil || !it.queued {
		return // states_follow tells
	}
	if first := b.first(e.Gateway, e.Time); first != nil && first.before(it) {
		c.find(RuleOrder, e.ID, e.Seq, "%s/%d went to %s while %s with %s/%d, queued by event %d, could have run there",
			e.Class, e.QueueSeq, e.Gateway, first.id, first.class, first.seq, first.since)
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
}

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

// head drops what left the queue or may not run any more.
func (q *queue) head(now time.Time) *item {
	for q.Len() > 0 {
		s := (*q)[0]
		if s.it.queued && s.it.entry == s.entry && (s.it.doomed.IsZero() || now.Before(s.it.doomed)) {
			return s.it
		}
		heap.Pop(q)
	}
	return nil
}

// line is the queue of one agent session.
type line struct {
	waiting queue
	gateway string
	shut    bool            // parked, suspended, moving
	blocks  map[string]bool // tasks that keep the others back
}

func (l *line) note(e *Event) {
	l.gateway = e.Gateway
	switch e.State {
	case "parked", "suspended", "moving", "closed", "failed", "recovering":
		l.shut = true
	default:
		l.shut = false
	}
}

// book is the order of one pool.
type book struct {
	gateways map[string]*api.Gateway
	items    map[string]*item
	free     map[string]*queue // tasks without a session, by what they need
	lines    map[string]*line
}

func newBook(gateways map[string]*api.Gateway) *book {
	return &book{gateways: gateways, items: map[string]*item{}, free: map[string]*queue{}, lines: map[string]*line{}}
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
func (b *book) apply(e *Event, last *api.Task) {
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
		heap.Push(b.queueOf(it), stay{it, it.entry, it.seq})
	}
	if it.session == "" {
		return
	}
	l := b.session(it.session)
	if atGateway(e.State) || e.State == "held" || e.State == "retry_wait" {
		l.blocks[it.id] = true
	} else {
		delete(l.blocks, it.id)
	}
	if e.State == "claimed" {
		l.gateway = e.Gateway
	}
}

func (b *book) queueOf(it *item) *queue {
	if it.session != "" {
		return &b.session(it.session).waiting
	}
	q := b.free[it.need]
	if q == nil {
		q = &queue{}
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
		if !l.shut && len(l.blocks) == 0 && (l.gateway == "" || l.gateway == gateway) {
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
