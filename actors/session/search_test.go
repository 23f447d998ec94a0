package session

import (
	"fmt"
	"hash/maphash"
	"strings"

	"github.com/dash-fleet/dash/messages"
)

// found is what one search saw.
type found struct {
	states, edges int
	bad           int            // states that break a safety rule
	kinds         map[string]int // of bad states
	first         []string       // how to reach the first bad state, or a stuck one
	stuck         int            // states from which no end can be reached by fair steps
	lazy          int            // states that reach an end only by a time limit of last resort
	ends          map[messages.TaskState]int
	cut           bool // the limit on states was reached
}

type node struct {
	parent uint32
	label  string
}

type edge struct {
	from, to uint32
	f        fairness
}

type search struct {
	b      bounds
	ids    map[[2]uint64]uint32
	nodes  []node
	edges  []edge
	goals  []bool
	seeds  [2]maphash.Seed
	buf    []byte
	labels map[string]string
	found
}

// explore visits every world that b allows, breadth first, at most limit.
func explore(b bounds, limit int) found {
	s := &search{b: b, ids: map[[2]uint64]uint32{}, labels: map[string]string{},
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
	s.kinds, s.ends = map[string]int{}, map[messages.TaskState]int{}
	queue := []*world{newWorld(&b)}
	s.add(queue[0], 0, "")
	for id := uint32(0); len(queue) > 0; id++ {
		w := queue[0]
		queue[0] = nil
		queue = queue[1:]
		w.next(func(label string, f fairness, c *world, bad string) {
			if bad != "" {
				s.breach(id, label, bad)
				return
			}
			to, isNew := s.add(c, id, label)
			if isNew {
				queue = append(queue, c)
			}
			if f != unfair {
				s.edges = append(s.edges, edge{id, to, f})
			}
			s.found.edges++
		})
		if s.bad > 0 && len(s.nodes) > limit/4 || len(s.nodes) > limit {
			s.cut = true
			break
		}
	}
	s.states = len(s.nodes)
	if !s.cut {
		s.liveness()
	}
	return s.found
}

func (s *search) add(w *world, parent uint32, label string) (uint32, bool) {
	s.buf = w.key(s.buf)
	k := [2]uint64{maphash.Bytes(s.seeds[0], s.buf), maphash.Bytes(s.seeds[1], s.buf)}
	if id, ok := s.ids[k]; ok {
		return id, false
	}
	id := uint32(len(s.nodes))
	s.ids[k] = id
	if l, ok := s.labels[label]; ok {
		label = l
	} else {
		s.labels[label] = label
	}
	s.nodes = append(s.nodes, node{parent, label})
	goal := w.atRest()
	s.goals = append(s.goals, goal)
	if goal {
		s.ends[w.row.State]++
	}
	return id, true
}

// atRest: the task has ended, waits for an operator, or no claim is left to
// look at within these bounds.
func (w *world) atRest() bool {
	s := w.row.State
	return s.Terminal() || s == messages.Held || s == messages.Queued && (int(w.row.Claim) >= w.cfg.claims || w.nobodyHome())
}

// nobodyHome: no gateway takes work before the home of the only one comes back.
func (w *world) nobodyHome() bool {
	for i := range w.owners {
		if w.current(i) && !w.owners[i].away {
			return false
		}
	}
	return true
}

func (s *search) breach(id uint32, label, bad string) {
	s.bad++
	s.kinds[bad]++
	if s.first == nil {
		s.first = append(s.path(id), label, "=> "+bad)
	}
}

func (s *search) path(id uint32) []string {
	if id == 0 {
		return nil
	}
	n := s.nodes[id]
	return append(s.path(n.parent), n.label)
}

// liveness counts states from which no end is reachable by fair steps.
func (s *search) liveness() {
	all := s.reaching(slow)
	prompt := s.reaching(fair)
	for id := range s.nodes {
		if !all[id] {
			s.stuck++
			if s.stuck == 1 && s.first == nil {
				s.first = append(s.path(uint32(id)), "=> stuck")
			}
		} else if !prompt[id] {
			s.lazy++
		}
	}
}

func (s *search) reaching(worst fairness) []bool {
	n := len(s.nodes)
	count := make([]uint32, n+1)
	for _, e := range s.edges {
		if e.f <= worst {
			count[e.to+1]++
		}
	}
	for i := range n {
		count[i+1] += count[i]
	}
	back := make([]uint32, count[n])
	at := append([]uint32(nil), count[:n]...)
	for _, e := range s.edges {
		if e.f <= worst {
			back[at[e.to]] = e.from
			at[e.to]++
		}
	}
	reach := make([]bool, n)
	var todo []uint32
	for id, goal := range s.goals {
		if goal {
			reach[id] = true
			todo = append(todo, uint32(id))
		}
	}
	for len(todo) > 0 {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, from := range back[count[id]:count[id+1]] {
			if !reach[from] {
				reach[from] = true
				todo = append(todo, from)
			}
		}
	}
	return reach
}

func (f found) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d states, %d steps, %d bad, %d stuck, %d lazy, cut %v, ends %v", f.states, f.edges, f.bad, f.stuck, f.lazy, f.cut, f.ends)
	for k, n := range f.kinds {
		fmt.Fprintf(&b, "\n  %6d %s", n, k)
	}
	for _, l := range f.first {
		fmt.Fprintf(&b, "\n    %s", l)
	}
	return b.String()
}
