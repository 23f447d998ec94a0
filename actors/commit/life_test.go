package commit

import (
	"fmt"
	"testing"
)

// storeMode is how the store of a world answers.
type storeMode int

const (
	storeUp storeMode = iota
	storeDown
	storeUnclear // the connection breaks in mid-commit and nobody can ask yet
	storeModes
)

// world is a committer with its store, its worker and its timer, reduced to
// what life must get right. It is a value, so that it can be a key of a map.
type world struct {
	life
	waits, fast       int // pending
	flyWaits, flyFast int // with the worker
	timers            int // that run
	store             storeMode
}

// maxEach bounds what is pending of each sort.
const maxEach = 2

func (w world) pending() bool { return w.waits+w.fast > 0 }

// follow lets the life take an input and does what the shell does.
func (w world) follow(in input, batch int) (world, string) {
	flew := w.flying
	s := w.on(in, w.pending())
	switch {
	case s.flush && flew && in != taken && in != refused && in != parted:
		return w, "two batches at once"
	case s.flush && !w.pending():
		return w, "an empty batch"
	case s.flush:
		w.flyWaits = min(w.waits, batch)
		w.flyFast = min(w.fast, batch-w.flyWaits)
		w.waits, w.fast = w.waits-w.flyWaits, w.fast-w.flyFast
	}
	if s.arm {
		w.timers++
	}
	switch {
	case w.timers > 1:
		return w, "two timers"
	case w.armed != (w.timers == 1):
		return w, "armed is not what the timer says"
	case w.flying != (w.flyWaits+w.flyFast > 0):
		return w, "flying is not what the worker has"
	case w.pending() && !w.flying && w.timers == 0:
		return w, "something is pending and nothing will happen"
	case w.fast > 0 && !w.flying:
		return w, "who cannot wait waits for a timer"
	}
	return w, ""
}

// arrive is what senders do; nobody may rely on it.
func (w world) arrive(batch int, each func(string, world, string)) {
	if w.waits < maxEach {
		n := w
		n.waits++
		n, bad := n.follow(arrived, batch)
		each("arrive", n, bad)
	}
	if w.fast < maxEach { // in doubt only what follows from the batch
		n := w
		n.fast++
		n, bad := n.follow(hurried, batch)
		each("hurry", n, bad)
	}
	w.part(batch, each)
}

// part is that the store calls the batch invalid: all of it is pending again, or
// its one operation is answered. That it then goes alone is not for life to see.
func (w world) part(batch int, each func(string, world, string)) {
	if !w.flying {
		return
	}
	n := w
	if w.flyWaits+w.flyFast > 1 {
		n.waits, n.fast = n.waits+n.flyWaits, n.fast+n.flyFast
	}
	n.flyWaits, n.flyFast = 0, 0
	n, bad := n.follow(parted, batch)
	each("store calls it invalid", n, bad)
}

// fair is what happens by itself.
func (w world) fair(batch int, each func(string, world, string)) {
	if w.timers > 0 {
		n := w
		n.timers--
		n, bad := n.follow(due, batch)
		each("timer", n, bad)
	}
	if !w.flying {
		return
	}
	n := w
	in := taken
	switch w.store {
	case storeUp:
		n.flyWaits, n.flyFast = 0, 0
	case storeDown:
		in = refused
		n.waits, n.fast = n.waits+n.flyWaits, 0
		n.flyWaits, n.flyFast = 0, 0
	default:
		in = doubted
		n, bad := n.follow(in, batch) // all of them follow from the batch
		each("store cannot tell yet", n, bad)
		n.fast = 0
	}
	n, bad := n.follow(in, batch)
	each(fmt.Sprintf("store says %d", in), n, bad)
}

// TestLife visits every state of the committer's life: whatever store and
// senders did, when the store is there and nobody sends any more, everything
// that is pending is written.
func TestLife(t *testing.T) {
	t.Parallel()
	for _, batch := range []int{1, 2 * maxEach} {
		seen := map[world][]string{{}: nil}
		queue := []world{{}}
		for len(queue) > 0 {
			w := queue[0]
			queue = queue[1:]
			visit := func(label string, n world, bad string) {
				path := append(append([]string(nil), seen[w]...), label)
				if bad != "" {
					t.Fatalf("%s: %v\n%+v", bad, path, n)
				}
				if _, ok := seen[n]; !ok {
					seen[n] = path
					queue = append(queue, n)
				}
			}
			w.arrive(batch, visit)
			w.fair(batch, visit)
			for m := range storeModes {
				n := w
				n.store = m
				visit(fmt.Sprintf("store %d", m), n, "")
			}
			n := w
			n.store = storeUp
			if bad := stalls(n, batch, 0); bad != "" {
				t.Fatalf("%s: %v\n%+v", bad, seen[w], w)
			}
		}
		t.Logf("batches of %d: %d states", batch, len(seen))
		if len(seen) < 30 {
			t.Errorf("only %d states were visited", len(seen))
		}
	}
}

// stalls says what goes wrong when only fair steps happen, in any order.
func stalls(w world, batch, depth int) (bad string) {
	if depth > 6*maxEach {
		return "it goes on without an end"
	}
	moved := false
	w.fair(batch, func(_ string, n world, broken string) {
		moved = true
		if bad == "" {
			bad = broken
		}
		if bad == "" {
			bad = stalls(n, batch, depth+1)
		}
	})
	if !moved && w.pending() {
		return fmt.Sprintf("%d operations wait for somebody", w.waits+w.fast)
	}
	return bad
}
