package dispatch

import (
	"cmp"
	"slices"
	"strings"

	"github.com/dash-fleet/dash/messages"
)

// bucketKey is what tasks of one bucket have in common: every gateway may run
// all of them or none. At is the gateway their session is bound to.
type bucketKey struct {
	Need
	At string
}

// bucket holds tasks with equal requirements, one lane per class.
type bucket struct {
	key      bucketKey
	gateways []*gateway // that may run its tasks, by id
	free     int        // how many of them have credit
	count    int        // tasks in its lanes
	kept     bool       // it has held a task before
	lanes    [numClasses]lane
}

// idleBuckets bounds the empty buckets that are kept: most pools have one or
// two kinds of tasks, which come and go all the time.
const idleBuckets = 16

// lane is the queue of one class in one bucket. It is in Arbiter.open while it
// has a task and a gateway with credit.
type lane struct {
	bucket *bucket
	class  messages.Class
	items  queue
	at     int
}

func (l *lane) less(o *lane) bool { return l.items.first().Seq < o.items.first().Seq }
func (l *lane) place() *int       { return &l.at }

// best is the gateway with credit that has the least load for its weight; ties
// go to the smaller id.
func (b *bucket) best() *gateway {
	var best *gateway
	for _, g := range b.gateways {
		if g.credit() <= 0 {
			continue
		}
		if best == nil || (g.flying+1)*best.Weight < (best.flying+1)*g.Weight {
			best = g
		}
	}
	return best
}

// Offer adds a gateway or replaces what is known of it.
func (a *Arbiter) Offer(o Offer) {
	o.Weight = max(1, o.Weight)
	o.Window = max(0, o.Window)
	g := a.gateway(o.ID)
	same := g.Tenant == o.Tenant && g.Region == o.Region && slices.Equal(g.Capabilities, o.Capabilities) && slices.Equal(g.Paused, o.Paused)
	a.change(g, func() { g.Window, g.Weight = o.Window, o.Weight })
	if same {
		return
	}
	window := g.Window
	a.change(g, func() { g.Window = -1 << 30 }) // no credit while its buckets change
	g.Offer = o
	g.Window = -1 << 30
	g.caps = make(map[string]bool, len(o.Capabilities))
	for _, c := range o.Capabilities {
		g.caps[c] = true
	}
	for _, b := range a.buckets {
		b.drop(g)
		if b.fits(g) {
			b.add(g)
		}
	}
	a.change(g, func() { g.Window = window })
}

// Forget drops a gateway that has no tasks; it reports whether it did.
func (a *Arbiter) Forget(id string) bool {
	g := a.gateways[id]
	if g == nil || g.flying > 0 {
		return g == nil
	}
	a.change(g, func() { g.Window = 0 })
	for b := range g.buckets {
		b.drop(g)
	}
	delete(a.gateways, id)
	a.order = slices.DeleteFunc(a.order, func(o *gateway) bool { return o == g })
	return true
}

// gateway returns the gateway, which is created with no window: tasks read
// back from the store may be at a gateway that has not spoken yet.
func (a *Arbiter) gateway(id string) *gateway {
	if g := a.gateways[id]; g != nil {
		return g
	}
	// A tenant no task can have: it fits nothing until it has made an offer.
	g := &gateway{Offer: Offer{ID: id, Tenant: "\x00", Weight: 1}, buckets: map[*bucket]struct{}{}}
	a.gateways[id] = g
	i, _ := slices.BinarySearchFunc(a.order, id, func(g *gateway, id string) int { return cmp.Compare(g.ID, id) })
	a.order = slices.Insert(a.order, i, g)
	return g
}

// change applies f to a gateway and keeps the credit sums and the open lanes right.
func (a *Arbiter) change(g *gateway, f func()) {
	before := max(0, g.credit())
	f()
	after := max(0, g.credit())
	a.free += after - before
	switch {
	case before == 0 && after > 0:
		for b := range g.buckets {
			if b.free++; b.free == 1 {
				a.openLanes(b)
			}
		}
	case before > 0 && after == 0:
		for b := range g.buckets {
			if b.free--; b.free == 0 {
				a.closeLanes(b)
			}
		}
	}
}

func (a *Arbiter) openLanes(b *bucket) {
	for i := range b.lanes {
		if l := &b.lanes[i]; l.items.len() > 0 && l.at < 0 {
			a.open[l.class].push(l)
		}
	}
}

func (a *Arbiter) closeLanes(b *bucket) {
	for i := range b.lanes {
		if l := &b.lanes[i]; l.at >= 0 {
			a.open[l.class].remove(l)
		}
	}
}

// list puts a waiting item into its bucket, bound to a gateway or not.
func (a *Arbiter) list(it *Item, at string) {
	b := a.bucket(bucketKey{Need: it.Need, At: at})
	l := &b.lanes[it.Class]
	it.lane = l
	l.items.push(it)
	if b.count == 0 && b.kept {
		a.idle--
	}
	b.kept = true
	b.count++
	switch {
	case l.at >= 0:
		if l.items.first() == it {
			a.open[l.class].fix(l)
		}
	case b.free > 0:
		a.open[l.class].push(l)
	}
}

func (a *Arbiter) unlist(it *Item) {
	l := it.lane
	b := l.bucket
	head := l.items.first() == it
	it.lane = nil
	if l.at >= 0 && l.items.len() == 1 {
		a.open[l.class].remove(l)
	}
	l.items.remove(it)
	if head && l.at >= 0 {
		a.open[l.class].fix(l)
	}
	if b.count--; b.count > 0 {
		return
	}
	if a.idle < idleBuckets {
		a.idle++
		return
	}
	for _, g := range b.gateways {
		delete(g.buckets, b)
	}
	delete(a.buckets, b.key)
}

func (a *Arbiter) bucket(k bucketKey) *bucket {
	if b := a.buckets[k]; b != nil {
		return b
	}
	b := &bucket{key: k}
	for i := range b.lanes {
		b.lanes[i] = lane{bucket: b, class: messages.Class(i), at: -1}
	}
	if k.At != "" {
		if g := a.gateways[k.At]; g != nil && b.fits(g) {
			b.add(g)
		}
	} else {
		for _, g := range a.order {
			if b.fits(g) {
				b.add(g)
			}
		}
	}
	for _, g := range b.gateways {
		if g.credit() > 0 {
			b.free++
		}
	}
	a.buckets[k] = b
	return b
}

// fits reports whether the gateway may run the bucket's tasks now.
func (b *bucket) fits(g *gateway) bool {
	return b.key.suits(g) && !slices.Contains(g.Paused, b.key.Provider)
}

// suits reports whether the gateway has what the tasks need.
func (k *bucketKey) suits(g *gateway) bool {
	if k.At != "" && k.At != g.ID || g.Tenant != "" && g.Tenant != k.Tenant || k.Region != "" && k.Region != g.Region {
		return false
	}
	if k.Capabilities == "" {
		return true
	}
	for c := range strings.SplitSeq(k.Capabilities, ",") {
		if !g.caps[c] {
			return false
		}
	}
	return true
}

func (b *bucket) add(g *gateway) {
	i, _ := slices.BinarySearchFunc(b.gateways, g.ID, func(g *gateway, id string) int { return cmp.Compare(g.ID, id) })
	b.gateways = slices.Insert(b.gateways, i, g)
	g.buckets[b] = struct{}{}
}

func (b *bucket) drop(g *gateway) {
	if _, ok := g.buckets[b]; !ok {
		return
	}
	delete(g.buckets, b)
	b.gateways = slices.DeleteFunc(b.gateways, func(o *gateway) bool { return o == g })
}
