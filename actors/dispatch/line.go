package dispatch

import (
	"slices"

	"github.com/dash-fleet/dash/messages"
)

// line is the queue of one agent session. Only its head is in a bucket, and
// only while the session has nothing running, is not frozen, and nothing
// before the head blocks it.
type line struct {
	gateway  string // bound to; empty: free to go anywhere
	frozen   bool
	waiting  lineHeap
	blockers []*Item // few: retries and held tasks
	flying   []*Item // one; more only while rows of an older owner end
	listed   *Item
}

// lineHeap is a slice in order: sessions are short, and the first of any class
// must be found.
type lineHeap []*Item

func compareItems(x, y *Item) int {
	switch {
	case x.less(y):
		return -1
	case y.less(x):
		return 1
	}
	return 0
}

func (h *lineHeap) push(it *Item) {
	i, _ := slices.BinarySearchFunc(*h, it, compareItems)
	*h = slices.Insert(*h, i, it)
}

func (h *lineHeap) remove(it *Item) {
	if i := slices.Index(*h, it); i >= 0 {
		*h = slices.Delete(*h, i, i+1)
	}
}

func (l *line) first(c messages.Class) (*Item, bool) {
	for _, it := range l.waiting {
		if it.Class == c {
			return it, true
		}
	}
	return nil, false
}

// Bind says where a session lives (empty: anywhere) and whether it is frozen,
// so that none of its tasks may start.
func (a *Arbiter) Bind(session, gateway string, frozen bool) {
	l := a.sessions[session]
	if l == nil {
		l = &line{}
		a.sessions[session] = l
	}
	if l.gateway == gateway && l.frozen == frozen {
		return
	}
	a.withdraw(l)
	l.gateway, l.frozen = gateway, frozen
	a.relist(l)
}

// Unbind forgets a session that has no tasks.
func (a *Arbiter) Unbind(session string) {
	if l := a.sessions[session]; l != nil && len(l.waiting)+len(l.blockers)+len(l.flying) == 0 {
		delete(a.sessions, session)
	}
}

// Blocker returns the task of a session that keeps the item from running: the
// one at a gateway, an earlier one that waits for its retry or is held, or an
// earlier one in the order. nil: none.
func (a *Arbiter) Blocker(it *Item) *Item {
	l := it.line
	if l == nil || it.phase != Waiting {
		return nil
	}
	if len(l.flying) > 0 {
		return l.flying[0]
	}
	for _, b := range l.blockers {
		if b.less(it) {
			return b
		}
	}
	if l.waiting[0] != it {
		return l.waiting[0]
	}
	return nil
}

// Flight returns the session's task at a gateway, nil when there is none.
func (a *Arbiter) Flight(session string) *Item {
	if l := a.sessions[session]; l != nil && len(l.flying) > 0 {
		return l.flying[0]
	}
	return nil
}

// Open is how many tasks of the session the arbiter knows, in any phase.
func (a *Arbiter) Open(session string) int {
	l := a.sessions[session]
	if l == nil {
		return 0
	}
	return len(l.waiting) + len(l.blockers) + len(l.flying)
}

// Head returns the session's first waiting task, nil when there is none.
func (a *Arbiter) Head(session string) *Item {
	if l := a.sessions[session]; l != nil && len(l.waiting) > 0 {
		return l.waiting[0]
	}
	return nil
}

// join adds the item to its session's line.
func (a *Arbiter) join(it *Item) {
	l := a.sessions[it.Session]
	if l == nil {
		l = &line{}
		a.sessions[it.Session] = l
	}
	it.line = l
	switch it.phase {
	case Waiting:
		l.waiting.push(it)
	case Blocking:
		l.blockers = append(l.blockers, it)
	case Flying:
		l.flying = append(l.flying, it)
	}
	a.relist(l)
}

// part takes the item out of its session's line; its phase is still the old one.
func (a *Arbiter) part(it *Item) {
	l := it.line
	it.line = nil
	if l.listed == it {
		l.listed = nil
	}
	switch it.phase {
	case Waiting:
		l.waiting.remove(it)
	case Blocking:
		l.blockers = slices.DeleteFunc(l.blockers, func(o *Item) bool { return o == it })
	case Flying:
		l.flying = slices.DeleteFunc(l.flying, func(o *Item) bool { return o == it })
	}
	a.relist(l)
}

// relist puts the right task of the session into a bucket, or none.
func (a *Arbiter) relist(l *line) {
	var head *Item
	if !l.frozen && len(l.flying) == 0 && len(l.waiting) > 0 {
		head = l.waiting[0]
		for _, b := range l.blockers {
			if b.less(head) {
				head = nil
				break
			}
		}
	}
	if head == l.listed {
		return
	}
	a.withdraw(l)
	if head != nil {
		a.list(head, l.gateway)
		l.listed = head
	}
}

func (a *Arbiter) withdraw(l *line) {
	if l.listed != nil {
		a.unlist(l.listed)
		l.listed = nil
	}
}
