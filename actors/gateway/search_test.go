package gateway

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
)

// world is a gateway's life together with all that it depends on: its process,
// its connection, the slow work under way and the claims. The search visits
// every world that its bounds allow.
type world struct {
	life
	clock time.Duration

	// the process, or the gateway that somebody else runs
	alive bool
	pid   int
	boots int // how many there have been

	// slow work under way, by what it was begun for
	ensuring, stopping bool
	exits              []int // processes whose end is told
	dials, writes      []session.Conn
	settles, gives     []session.Conn
	retries            []int
	link               session.Conn // as the actor holds it, 0: none
	lost               bool         // its end is under way

	held, watched int
	recovering    bool
	away, slow    bool
	tidying       bool

	budget  int      // what operators may still do
	without []string // steps that this search leaves out
}

// kind says who brings a step about.
type kind int

const (
	outside kind = iota // an operator, a claim, a gateway that is well
	well                // a gateway, process or store that does as it is asked
	dead                // comes by itself when none of them ever answers
)

type step struct {
	from, to int
	kind     kind
}

type search struct {
	t      *testing.T
	ids    map[string]int
	worlds []*world
	parent []int
	label  []string
	steps  []step
	rows   map[messages.Transition[messages.GatewayState]]string // how each was first taken
	bad    int
	cut    bool // not exhaustive
}

// explore visits what can be reached from w, breadth first.
func explore(t *testing.T, w *world, rows map[messages.Transition[messages.GatewayState]]string) *search {
	t.Helper()
	s := &search{t: t, ids: map[string]int{}, rows: rows}
	s.add(w, 0, "begin")
	limit := 3_000_000
	if raceDetector { // the search has one goroutine
		limit = 5_000
	}
	for id := 0; id < len(s.worlds) && s.bad < 3; id++ {
		if s.cut = len(s.worlds) > limit; s.cut {
			break
		}
		if e := s.worlds[id].stale(); e != nil {
			s.breach(id, fmt.Sprintf("%#v", e), "an answer that comes late changes something")
		}
		s.worlds[id].each(func(label string, k kind, change func(w *world) any) {
			n := s.worlds[id].clone()
			event := change(n)
			if wrong := s.take(n, event, id, label); wrong != "" {
				s.breach(id, label, wrong)
			}
			s.steps = append(s.steps, step{id, s.add(n, id, label), k})
		})
	}
	return s
}

func (s *search) add(w *world, parent int, label string) int {
	k := w.key()
	if id, ok := s.ids[k]; ok {
		return id
	}
	id := len(s.worlds)
	s.ids[k] = id
	s.worlds, s.parent, s.label = append(s.worlds, w), append(s.parent, parent), append(s.label, label)
	return id
}

func (s *search) breach(id int, label, wrong string) {
	if s.bad++; s.bad <= 3 {
		s.t.Errorf("%s:\n  %s", wrong, strings.Join(append(s.path(id), label), "\n  "))
	}
}

func (s *search) path(id int) []string {
	if id == 0 {
		return nil
	}
	return append(s.path(s.parent[id]), fmt.Sprintf("%-28s %s", s.label[id], s.worlds[id].state))
}

// take decides the event, carries the effects out in the world and says what
// is wrong with them.
func (s *search) take(w *world, event any, id int, label string) string {
	before := w.life
	f := facts{claims: w.held + w.watched, held: w.held, tidying: w.tidying}
	if w.recovering {
		f.recovering = w.held
	}
	if w.away {
		f.away, f.awayNext = "its home is node b", "do something"
	}
	if w.slow {
		f.reduced = "slow"
	}
	var effects []effect
	w.life, effects = decide(w.life, input{now: w.now(), rand: 0.5, facts: f, event: event})
	for _, e := range effects {
		if wrong := w.perform(e); wrong != "" {
			return wrong
		}
		if m, ok := e.(moved); ok && m.from != m.to {
			row := messages.Transition[messages.GatewayState]{From: m.from, Event: m.event, To: m.to}
			if _, ok := s.rows[row]; !ok {
				s.rows[row] = label
			}
		}
	}
	w.settle()
	return w.wrong(&before, event)
}

// settle drops what is void by now: stale shows that it changes nothing.
func (w *world) settle() {
	old := func(c session.Conn) bool { return c != w.conn }
	w.dials, w.writes, w.settles = slices.DeleteFunc(w.dials, old), slices.DeleteFunc(w.writes, old), slices.DeleteFunc(w.settles, old)
	w.retries = slices.DeleteFunc(w.retries, func(n int) bool { return n != w.attempts })
	w.exits = slices.DeleteFunc(w.exits, func(pid int) bool { return pid != w.pid })
	w.retries = w.retries[:min(1, len(w.retries))]
	w.slow, w.tidying = w.slow && w.linked, w.tidying && w.link != 0
}

// stale is the first late answer that changes something, nil if none does.
func (w *world) stale() any {
	for _, e := range []any{
		hello{conn: w.conn - 1, boot: "late"}, refused{conn: w.conn - 1, permanent: true}, recorded{conn: w.conn - 1, err: errDead},
		settled{conn: w.conn - 1}, linkLost{conn: w.conn - 1}, reconnect{n: w.attempts - 1}, exited{pid: -1},
	} {
		after, effects := decide(w.life, input{now: w.now(), event: e})
		if len(effects) > 0 || !reflect.DeepEqual(after, w.life) {
			return e
		}
	}
	return nil
}

// perform is what the actor does, without the actor.
func (w *world) perform(e effect) string {
	switch e := e.(type) {
	case refusedStep:
		return fmt.Sprintf("the table has no step %q in state %s", e.event, e.from)
	case start:
		switch {
		case w.away:
			return "started away from home"
		case w.ensuring || w.stopping:
			return "started while it is being started or stopped: two processes"
		}
		w.ensuring = true
	case stop:
		switch {
		case w.away:
			return "stopped away from home"
		case w.stopping:
			return "stopped twice"
		}
		w.stopping = true
	case dial:
		switch {
		case w.away:
			return "dialled away from home"
		case w.link != 0:
			return "dialled beside a connection"
		case w.stopping:
			return "dialled a process that is being stopped"
		}
		w.dials = append(w.dials, e.conn)
	case awaitExit:
		w.exits = append(w.exits, e.pid)
	case retry:
		w.retries = append(w.retries, e.n)
	case hangUp:
		if w.link == 0 {
			return "hung up without a connection"
		}
		w.lost = true
	case part:
		w.link, w.lost = 0, false
	case moved:
		if e.conn != 0 {
			w.writes = append(w.writes, e.conn)
		}
	case write:
		w.writes = append(w.writes, e.conn)
	case settle:
		w.settles = append(w.settles, w.link)
	case give:
		if w.away || w.link == 0 {
			return "given a configuration away from home or without a connection"
		}
		w.gives = append(w.gives, w.link)
	case unwatch:
		w.watched = 0
	}
	return ""
}

// wrong checks what must hold after every step.
func (w *world) wrong(before *life, event any) string {
	_, ticked := event.(tick)
	switch {
	case w.linked != (w.link != 0):
		return "life and actor disagree about the connection"
	case w.managed.starting && !w.ensuring, w.managed.stopping && !w.stopping:
		return "waits for work that is not under way"
	case before.state == messages.GatewayQuarantined && w.state != before.state && !leavesQuarantine(w, event):
		return fmt.Sprintf("quarantine was left for %s by %T", w.state, event)
	case ticked && w.removed && w.now().Sub(w.leaving) >= leaveLimit && w.state != messages.GatewayRemoved && !w.managed.stopping:
		return "a removal goes on beyond its bound"
	case w.state == messages.GatewayDrained && w.managed.up && !w.managed.stopping && w.gw.Home == "" && w.draining:
		return "drained beside a process that runs"
	}
	return ""
}

// leavesQuarantine: an operator's word, or the end of what he has begun.
func leavesQuarantine(w *world, event any) bool {
	switch event.(type) {
	case Restart, Remove, Drain, Configure, stopped:
		return true
	case tick:
		return w.state == messages.GatewayRemoved
	case freed:
		return w.state == messages.GatewayDrained
	}
	return false
}

func (w *world) now() time.Time { return time.Unix(1_000_000, 0).Add(w.clock) }

func (w *world) clone() *world {
	n := *w
	n.exits, n.retries = slices.Clone(w.exits), slices.Clone(w.retries)
	n.dials, n.writes = slices.Clone(w.dials), slices.Clone(w.writes)
	n.settles, n.gives = slices.Clone(w.settles), slices.Clone(w.gives)
	return &n
}

// key tells worlds apart. Numbers that only grow stand for whether they are
// those of now, and times for whether they are over.
func (w *world) key() string {
	conn := func(of []session.Conn) string { return nowAndThen(of, w.conn) }
	m := w.managed
	boot := fmt.Sprint("b", w.boots)
	m.endpoint, m.failed, m.starts, m.before, m.given = Endpoint{}, nil, nil, "", given{}
	m.prior = ""
	return fmt.Sprint(w.state, w.since.IsZero(), w.boot == "", w.boot == boot, w.boot == w.ended, w.linked, w.open, min(w.attempts, 1),
		w.loaded, w.draining, w.removed, w.removed && w.now().Sub(w.leaving) >= leaveLimit, min(w.quiet, 3), w.unwatched, w.unwell == "", w.misfit == "",
		m, w.managed.endpoint.PID == 0, w.managed.endpoint.PID == w.pid, w.managed.failed == nil, w.starts(), w.managed.before == w.boot,
		w.alive, w.ensuring, w.stopping, nowAndThen(w.exits, w.managed.endpoint.PID), conn(w.dials), conn(w.writes), conn(w.settles), conn(w.gives), nowAndThen(w.retries, w.attempts),
		w.link == w.conn, w.lost, w.held, w.watched, w.recovering, w.away, w.slow, w.tidying, w.budget, w.gw.URL, w.gw.Managed != nil && w.gw.Managed.Port != 0)
}

func (w *world) starts() (n int) {
	for _, t := range w.managed.starts {
		if w.now().Sub(t) < w.timing.RetryWindow {
			n++
		}
	}
	return n
}

func nowAndThen[N comparable](of []N, now N) string {
	s := "-"
	if slices.Contains(of, now) {
		s = "n"
	}
	if slices.ContainsFunc(of, func(n N) bool { return n != now }) {
		s += "o"
	}
	return s
}

// take removes the first of a list.
func takeFirst[N any](of *[]N) N {
	n := (*of)[0]
	*of = slices.Clone((*of)[1:])
	return n
}

var errDead = errors.New("nothing answers")

// each offers every step that is possible in a world.
func (w *world) each(do func(label string, k kind, change func(*world) any)) {
	if w.state == messages.GatewayRemoved {
		return
	}
	all := do
	do = func(label string, k kind, change func(*world) any) {
		if !slices.Contains(w.without, label) {
			all(label, k, change)
		}
	}
	if w.state == 0 {
		do("register", dead, func(*world) any { return registered{} })
		return
	}
	if !w.loaded {
		do("claims known", dead, func(*world) any { return known{} })
	}
	w.processes(do)
	w.connections(do)
	w.work(do)
	if w.budget > 0 {
		w.operators(func(label string, change func(*world) any) {
			do(label, outside, func(w *world) any { w.budget--; return change(w) })
		})
	}
}

func (w *world) processes(do func(string, kind, func(*world) any)) {
	for i, pid := range w.exits {
		if pid != w.pid || !w.alive {
			do("exit is seen", dead, func(w *world) any { w.exits = slices.Delete(w.exits, i, i+1); return exited{pid} })
		}
	}
	if w.alive && !w.away {
		do("process dies", dead, func(w *world) any { w.die(); return judged{} })
	}
	if !w.daemon && !w.alive {
		do("somebody starts it", well, func(w *world) any { w.born(); return judged{} })
	}
	if w.ensuring {
		ends := func(label string, k kind, e error, then func(*world) Endpoint) {
			do(label, k, func(w *world) any {
				w.ensuring = false
				return started{endpoint: then(w), err: e}
			})
		}
		none := func(*world) Endpoint { return Endpoint{} }
		ends("start fails", dead, errDead, none)
		switch {
		case w.alive:
			ends("process does not answer", dead, &StartError{Alive: true, Reason: "hangs"}, none)
			ends("process is adopted", well, nil, func(w *world) Endpoint { return Endpoint{PID: w.pid, Adopted: true, Stale: w.gw.Managed.Port != 0} })
		case !w.stopping: // a stop interrupts it
			ends("start fails for good", dead, &StartError{Permanent: true, Reason: "no such program"}, none)
			ends("process is started", well, nil, func(w *world) Endpoint { w.born(); return Endpoint{PID: w.pid} })
		}
	}
	if w.stopping {
		do("process has stopped", dead, func(w *world) any { w.die(); w.stopping = false; return stopped{} })
		do("stop fails", dead, func(w *world) any { w.stopping = false; return stopped{err: errDead} })
	}
}

func (w *world) born() {
	w.alive = true
	w.boots++
	w.pid++
}

func (w *world) die() {
	w.alive = false
	w.lost = w.link != 0
}

func (w *world) connections(do func(string, kind, func(*world) any)) {
	if len(w.dials) > 0 {
		do("dial fails", dead, func(w *world) any { return refused{conn: takeFirst(&w.dials), reason: "down"} })
		do("dial is refused", well, func(w *world) any { return refused{conn: takeFirst(&w.dials), reason: "token", permanent: true} })
		if w.alive {
			do("hello", well, func(w *world) any {
				c, boot := takeFirst(&w.dials), fmt.Sprint("b", w.boots)
				if c != w.conn {
					return judged{} // the actor closes it at once
				}
				w.link, w.lost = c, false
				w.recovering = w.held > 0 && w.boot != "" && w.boot != boot
				return hello{conn: c, boot: boot}
			})
		}
	}
	if w.link != 0 {
		k := dead
		if !w.lost {
			k = outside
		}
		do("connection is lost", k, func(w *world) any {
			c := w.link
			if c == w.conn {
				w.link, w.lost = 0, false
			}
			return linkLost{conn: c, err: errDead}
		})
	}
	if len(w.writes) > 0 {
		do("boot id is durable", well, func(w *world) any { return recorded{conn: takeFirst(&w.writes)} })
		do("boot id is not written", dead, func(w *world) any { return recorded{conn: takeFirst(&w.writes), err: errDead} })
	}
	if len(w.settles) > 0 {
		do("settled", well, func(w *world) any { return settled{conn: takeFirst(&w.settles)} })
		do("settled cold", well, func(w *world) any { return settled{conn: takeFirst(&w.settles), warm: &warmth{err: errDead}} })
		do("not settled", dead, func(w *world) any { return settled{conn: takeFirst(&w.settles), err: errDead} })
	}
	if len(w.gives) > 0 {
		for _, u := range []ConfigUptake{ConfigHot, ConfigSame, ConfigRefused, ConfigRestarting} {
			do("configuration "+string(u), well, func(w *world) any { return reloaded{conn: takeFirst(&w.gives), uptake: u} })
		}
		do("configuration is not told of", dead, func(w *world) any { return reloaded{conn: takeFirst(&w.gives)} })
	}
	if len(w.retries) > 0 {
		do("pause is over", dead, func(w *world) any { return reconnect{n: takeFirst(&w.retries)} })
	}
}

func (w *world) work(do func(string, kind, func(*world) any)) {
	if w.open && !w.draining && !w.removed && !w.managed.stopping && w.held+w.watched == 0 {
		do("claim", outside, func(w *world) any { w.held++; return judged{} })
	}
	if !w.loaded && w.held == 0 {
		do("claim of earlier", outside, func(w *world) any { w.held++; return judged{} })
	}
	if w.held > 0 && w.loaded {
		do("claim ends", dead, func(w *world) any { w.held, w.recovering = w.held-1, false; return freed{} })
		do("claim is HELD", outside, func(w *world) any { w.held, w.watched, w.recovering = w.held-1, 1, false; return freed{} })
	}
	if w.watched > 0 {
		do("HELD task ends", outside, func(w *world) any { w.watched--; return freed{} })
	}
	do("tick", dead, func(*world) any { return tick{} })
	do("long pause", dead, func(w *world) any { w.clock += time.Hour; return tick{} })
	if w.linked {
		do("slow or not", outside, func(w *world) any { w.slow = !w.slow; return judged{} })
	}
	if w.removed {
		do("tidying or not", outside, func(w *world) any { w.tidying = !w.tidying && w.link != 0; return judged{} })
	}
}

func (w *world) operators(do func(string, func(*world) any)) {
	do("drain", func(*world) any { return Drain{} })
	do("resume", func(*world) any { return Resume{} })
	do("restart", func(*world) any { return Restart{} })
	do("remove", func(*world) any { return Remove{} })
	if w.daemon {
		do("configure", func(w *world) any {
			gw, m := *w.gw, *w.gw.Managed
			m.Port = 1 - m.Port
			gw.Managed = &m
			return Configure{gw}
		})
	} else {
		do("new address", func(w *world) any {
			gw := *w.gw
			gw.URL += "x"
			return Configure{gw}
		})
	}
	do("home moves", func(w *world) any {
		gw := *w.gw
		w.away = !w.away
		gw.Home = fmt.Sprint(w.away)
		return Configure{gw}
	})
}
