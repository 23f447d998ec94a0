package gateway

import (
	"os"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/messages"
)

// begin is a gateway that its actor has not registered yet.
func begin(managed, drained bool, budget int) *world {
	t := Timing{RetryLimit: 2}.withDefaults()
	gw := messages.Gateway{ID: "gw", URL: "ws://h/", Drained: drained}
	w := &world{alive: !managed, boots: 1, pid: 1, budget: budget}
	if managed {
		gw.Managed = &messages.Managed{}
	}
	w.life = newLife(&Config{Gateway: gw, Timing: t}, w.now())
	w.daemon = managed
	return w
}

// TestSearch visits every life of a gateway that a few words of operators and
// any number of failures can bring about, in any order.
func TestSearch(t *testing.T) {
	t.Parallel()
	rows := map[messages.Transition[messages.GatewayState]]string{}
	const ill = ",not settled,boot id is not written,stop fails,start fails for good,dial is refused"
	for _, c := range []struct {
		name             string
		managed, drained bool
		words            int    // of operators
		without          string // unless the search is deep
	}{
		{"of somebody else", false, false, 2, "tidying or not"},
		{"of somebody else, drained", false, true, 2, "slow or not,tidying or not,claim is HELD" + ill},
		{"managed", true, false, 2, "configure,slow or not,settled cold,claim is HELD,tidying or not,home moves,boot id is not written"},
		{"managed, home moves", true, false, 2, "configure,slow or not,settled cold,claim is HELD,tidying or not,restart,remove" + ill},
		{"managed, configuration", true, false, 1, "slow or not,claim is HELD,tidying or not,home moves,resume,process does not answer,long pause" + ill},
		{"managed, drained", true, true, 1, "slow or not,settled cold,claim is HELD"},
	} {
		w := begin(c.managed, c.drained, c.words)
		if os.Getenv("DASH_SEARCH") != "deep" {
			w.without = strings.Split(c.without, ",")
		}
		s := explore(t, w, rows)
		t.Logf("%s: %d worlds, %d steps", c.name, len(s.worlds), len(s.steps))
		if s.cut {
			if !raceDetector {
				t.Fatalf("%s: not exhaustive", c.name)
			}
			continue
		}
		if s.bad > 0 {
			t.Fatalf("%s: safety is broken", c.name)
		}
		s.leads(t, c.name+": nothing leads out", well, always, (*world).rests)
		s.leads(t, c.name+": the drain of a dead gateway does not end", dead,
			func(w *world) bool { return w.draining && !w.removed },
			func(w *world) bool { return w.state == messages.GatewayDrained })
		s.leads(t, c.name+": the removal of a dead gateway does not end", dead,
			func(w *world) bool { return w.removed },
			func(w *world) bool { return w.state == messages.GatewayRemoved })
	}
	for _, row := range messages.GatewayTransitions {
		if raceDetector {
			break
		}
		if _, ok := rows[row]; !ok {
			t.Errorf("no life takes the step %v -> %v by %q", row.From, row.To, row.Event)
		}
	}
}

func always(*world) bool { return true }

// rests: the gateway is not between two states, or nobody can help it.
func (w *world) rests() bool {
	switch w.state {
	case messages.GatewayReady, messages.GatewayDegraded:
		return w.open
	case messages.GatewayQuarantined, messages.GatewayDrained, messages.GatewayRemoved:
		return true
	case messages.GatewayUnreachable:
		return w.away
	}
	return false
}

// leads checks that from every world of which from is true, steps of at least
// that kind lead to one of which to is true.
func (s *search) leads(t *testing.T, what string, least kind, from, to func(*world) bool) {
	t.Helper()
	back := make([][]int, len(s.worlds))
	for _, e := range s.steps {
		if e.kind >= least {
			back[e.to] = append(back[e.to], e.from)
		}
	}
	reach := make([]bool, len(s.worlds))
	var todo []int
	for id, w := range s.worlds {
		if to(w) {
			reach[id] = true
			todo = append(todo, id)
		}
	}
	for len(todo) > 0 {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, n := range back[id] {
			if !reach[n] {
				reach[n] = true
				todo = append(todo, n)
			}
		}
	}
	stuck := 0
	for id, w := range s.worlds {
		if from(w) && !reach[id] {
			if stuck++; stuck == 1 {
				s.breach(id, "", what)
			}
		}
	}
	if stuck > 0 {
		t.Errorf("%s: %d worlds", what, stuck)
	}
}
