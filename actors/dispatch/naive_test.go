package dispatch

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// naive is the order of DESIGN.md written down without any index: it looks at
// every task and every gateway each time.
type naive struct {
	limits Limits
	offers map[string]Offer
	items  map[string]*Item
	phase  map[string]Phase
	at     map[string]string // gateway of a task in flight
	bound  map[string]string // session -> gateway
	frozen map[string]bool
}

func (n *naive) flying(match func(*Item, string) bool) int {
	count := 0
	for id, g := range n.at {
		if match(n.items[id], g) {
			count++
		}
	}
	return count
}

func (n *naive) credit(g string) int {
	return n.offers[g].Window - n.flying(func(_ *Item, at string) bool { return at == g })
}

// sessionLets reports whether the task is the one its session may run now (I6).
func (n *naive) sessionLets(it *Item) bool {
	if it.Session == "" {
		return true
	}
	if n.frozen[it.Session] {
		return false
	}
	for id, o := range n.items {
		if o == it || o.Session != it.Session {
			continue
		}
		switch n.phase[id] {
		case Flying:
			return false
		case Waiting, Blocking:
			if o.less(it) {
				return false
			}
		}
	}
	return true
}

func (n *naive) fits(it *Item, o Offer) bool {
	if b := n.bound[it.Session]; it.Session != "" && b != "" && b != o.ID {
		return false
	}
	if o.Tenant != "" && o.Tenant != it.Need.Tenant || it.Need.Region != "" && it.Need.Region != o.Region {
		return false
	}
	if slices.Contains(o.Paused, it.Need.Provider) {
		return false
	}
	for c := range strings.SplitSeq(it.Need.Capabilities, ",") {
		if c != "" && !slices.Contains(o.Capabilities, c) {
			return false
		}
	}
	return true
}

// slotsFor is how many more tasks of a class may start.
func (n *naive) slotsFor(c messages.Class) int {
	free := 0
	for id := range n.offers {
		free += max(0, n.credit(id))
	}
	if n.limits.MaxRunning > 0 {
		free = min(free, n.limits.MaxRunning-len(n.at))
	}
	for d, want := range n.limits.Reserved {
		if d != c {
			free -= max(0, want-n.flying(func(it *Item, _ string) bool { return it.Class == d }))
		}
	}
	return free
}

// next is the answer that the arbiter must give.
func (n *naive) next(now time.Time) (task, gateway string) {
	var best *Item
	var rank messages.Class
	for id, it := range n.items {
		if n.phase[id] != Waiting || !n.sessionLets(it) || n.slotsFor(it.Class) <= 0 || n.gatewayFor(it) == "" {
			continue
		}
		r := it.Class
		if n.limits.Aging > 0 {
			steps := max(0, now.UnixMicro()-it.Since) / n.limits.Aging.Microseconds()
			r = messages.Class(max(1, int64(it.Class)-steps))
		}
		if best == nil || r < rank || r == rank && it.Seq < best.Seq {
			best, rank = it, r
		}
	}
	if best == nil {
		return "", ""
	}
	return best.ID, n.gatewayFor(best)
}

func (n *naive) gatewayFor(it *Item) string {
	best, bestLoad := "", 0.0
	for _, id := range slices.Sorted(maps.Keys(n.offers)) {
		o := n.offers[id]
		if n.credit(id) <= 0 || !n.fits(it, o) {
			continue
		}
		used := n.flying(func(_ *Item, at string) bool { return at == id })
		if load := float64(used+1) / float64(max(1, o.Weight)); best == "" || load < bestLoad-1e-12 {
			best, bestLoad = id, load
		}
	}
	return best
}
