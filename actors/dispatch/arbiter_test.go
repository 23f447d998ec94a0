package dispatch

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dash-fleet/dash/messages"
)

// machine drives an Arbiter and the naive model through the same history.
type machine struct {
	naive
	a    *Arbiter
	seq  int64
	now  time.Time
	made int
}

func newMachine(t *rapid.T) *machine {
	m := &machine{a: NewArbiter(), now: time.UnixMicro(1), naive: naive{
		offers: map[string]Offer{}, items: map[string]*Item{}, phase: map[string]Phase{}, at: map[string]string{},
		bound: map[string]string{}, frozen: map[string]bool{},
	}}
	if rapid.Bool().Draw(t, "limits") {
		m.configure(t)
	}
	return m
}

// populated is a machine that has something to decide from the start.
func populated(t *rapid.T) *machine {
	m := newMachine(t)
	for range rapid.IntRange(0, 20).Draw(t, "tasks") {
		m.enqueue(t)
	}
	for range rapid.IntRange(0, 3).Draw(t, "gateways") {
		m.offer(t)
	}
	return m
}

func (m *machine) configure(t *rapid.T) {
	l := Limits{MaxRunning: rapid.IntRange(0, 6).Draw(t, "max running")}
	if rapid.Bool().Draw(t, "aging") {
		l.Aging = time.Duration(rapid.IntRange(1, 50).Draw(t, "aging µs")) * time.Microsecond
	}
	l.Reserved = rapid.MapOfN(rapid.SampledFrom(messages.Classes[:]), rapid.IntRange(0, 3), 0, 2).Draw(t, "reserved")
	m.limits = l
	m.a.Configure(l)
}

func (m *machine) enqueue(t *rapid.T) {
	m.seq++
	m.made++
	it := &Item{
		ID: fmt.Sprintf("t%03d", m.made), Class: rapid.SampledFrom(messages.Classes[:]).Draw(t, "class"),
		Seq: m.seq, Since: m.seq * 10, Session: rapid.SampledFrom([]string{"", "", "s1", "s2"}).Draw(t, "session"),
		Need: Need{
			Tenant: rapid.SampledFrom([]string{"a", "a", "b"}).Draw(t, "tenant"), Region: rapid.SampledFrom([]string{"", "", "eu"}).Draw(t, "region"),
			Capabilities: rapid.SampledFrom([]string{"", "", "gpu", "gpu,web"}).Draw(t, "capabilities"),
			Provider:     rapid.SampledFrom([]string{"", "", "p1", "p2"}).Draw(t, "provider"),
		},
	}
	if it.Session != "" {
		it.Need.Tenant = "a"
	}
	m.items[it.ID] = it
	m.set(it, Waiting, "")
	m.now = m.now.Add(time.Duration(rapid.IntRange(0, 30).Draw(t, "pass")) * time.Microsecond)
}

func (m *machine) set(it *Item, p Phase, at string) {
	m.a.Set(it, p, at)
	m.phase[it.ID] = p
	delete(m.at, it.ID)
	if p == Flying {
		m.at[it.ID] = at
	}
	if p == Gone {
		delete(m.items, it.ID)
	}
}

// some draws a task in one of the phases; nil when there is none.
func (m *machine) some(t *rapid.T, phases ...Phase) *Item {
	var ids []string
	for id := range m.items {
		if slices.Contains(phases, m.phase[id]) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	return m.items[rapid.SampledFrom(ids).Draw(t, "task")]
}

func (m *machine) offer(t *rapid.T) {
	o := Offer{
		ID: rapid.SampledFrom([]string{"g1", "g2", "g3"}).Draw(t, "gateway"), Window: rapid.IntRange(0, 4).Draw(t, "window"),
		Weight: rapid.IntRange(0, 3).Draw(t, "weight"), Tenant: rapid.SampledFrom([]string{"a", "a", "b", ""}).Draw(t, "of tenant"),
		Region:       rapid.SampledFrom([]string{"eu", "us"}).Draw(t, "in region"),
		Capabilities: rapid.SampledFrom([][]string{nil, {"gpu"}, {"gpu", "web"}}).Draw(t, "has"),
		Paused:       rapid.SampledFrom([][]string{nil, nil, {"p1"}, {"", "p2"}}).Draw(t, "paused"),
	}
	m.offers[o.ID] = o
	m.a.Offer(o)
}

func (m *machine) assign(t *rapid.T) {
	before := maps.Clone(m.at)
	for range rapid.IntRange(1, 6).Draw(t, "times") {
		wantTask, wantGateway := m.next(m.now)
		it, gateway := m.a.Next(m.now)
		got := ""
		if it != nil {
			got = it.ID
		}
		if got != wantTask || gateway != wantGateway {
			t.Fatalf("Next = %q at %q, want %q at %q", got, gateway, wantTask, wantGateway)
		}
		if it == nil {
			return
		}
		if _, ok := before[it.ID]; ok {
			t.Fatalf("task %s is assigned although it runs", it.ID)
		}
		m.phase[it.ID] = Flying
		m.at[it.ID] = gateway
		before[it.ID] = gateway
		if m.credit(gateway) < 0 {
			t.Fatalf("gateway %s is over its window", gateway)
		}
	}
}

// check compares the counters and the bookkeeping of both.
func (m *machine) check(t *rapid.T) {
	free := 0
	for id, g := range m.a.gateways {
		want := m.flying(func(_ *Item, at string) bool { return at == id })
		if got := g.flying; got != want {
			t.Fatalf("gateway %s has %d in flight, want %d", id, got, want)
		}
		free += max(0, m.credit(id))
	}
	if m.a.free != free || m.a.flying != len(m.at) {
		t.Fatalf("free %d flying %d, want %d and %d", m.a.free, m.a.flying, free, len(m.at))
	}
	for _, c := range messages.Classes {
		queued, oldest := 0, int64(0)
		for id, it := range m.items {
			if m.phase[id] == Waiting && it.Class == c {
				queued++
				if oldest == 0 || it.Since < oldest {
					oldest = it.Since
				}
			}
		}
		if m.a.Queued(c) != queued || m.a.Oldest(c) != oldest {
			t.Fatalf("class %s: queued %d oldest %d, want %d and %d", c, m.a.Queued(c), m.a.Oldest(c), queued, oldest)
		}
		if got, want := m.a.Running(c), m.flying(func(it *Item, _ string) bool { return it.Class == c }); got != want {
			t.Fatalf("class %s: running %d, want %d", c, got, want)
		}
	}
	for id, it := range m.items {
		if it.Phase() != m.phase[id] {
			t.Fatalf("task %s is in phase %d, want %d", id, it.Phase(), m.phase[id])
		}
	}
}

// actions are what may happen to a pool.
func (m *machine) actions() map[string]func(*rapid.T) {
	move := func(p Phase, from ...Phase) func(*rapid.T) {
		return func(t *rapid.T) {
			if it := m.some(t, from...); it != nil {
				m.set(it, p, "")
			}
		}
	}
	return map[string]func(*rapid.T){
		"enqueue": m.enqueue, "enqueue more": m.enqueue, "offer": m.offer, "assign": m.assign, "assign again": m.assign,
		"end": move(Gone, Flying), "cancel": move(Gone, Waiting, Blocking), "retry or hold": move(Blocking, Flying),
		"requeue": move(Waiting, Flying, Blocking), // I7: with its old seq
		"read back": func(t *rapid.T) { // a row that is at a gateway, perhaps an unknown one
			if it := m.some(t, Waiting); it != nil {
				m.set(it, Flying, rapid.SampledFrom([]string{"g1", "g4"}).Draw(t, "at"))
			}
		},
		"bind": func(t *rapid.T) {
			s := rapid.SampledFrom([]string{"s1", "s2"}).Draw(t, "session")
			m.bound[s] = rapid.SampledFrom([]string{"", "g1", "g2", "gone"}).Draw(t, "to")
			m.frozen[s] = rapid.IntRange(0, 3).Draw(t, "frozen") == 0
			m.a.Bind(s, m.bound[s], m.frozen[s])
		},
		"configure": m.configure,
		"forget": func(t *rapid.T) {
			id := rapid.SampledFrom([]string{"g1", "g2", "g3", "g4"}).Draw(t, "gateway")
			idle := m.flying(func(_ *Item, at string) bool { return at == id }) == 0
			if m.a.Forget(id) != idle {
				t.Fatalf("Forget(%s) = %v, want %v", id, !idle, idle)
			}
			if idle {
				delete(m.offers, id)
			}
		},
		"": m.check,
	}
}

// TestArbiterMatchesTheNaiveModel checks I1 to I7 of ARCHITECTURE.md: every answer is
// the one a full search gives, with sessions, requirements, reserved slots,
// aging, caps, and windows that shrink below what is in flight.
func TestArbiterMatchesTheNaiveModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := populated(t)
		for range 4 { // rapid's own histories are short
			t.Repeat(m.actions())
		}
	})
}

// TestArbiterServesEverything: with gateways that fit, nothing is left (I4).
func TestArbiterServesEverything(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		m.limits = Limits{}
		m.a.Configure(m.limits)
		for range rapid.IntRange(1, 40).Draw(t, "tasks") {
			m.enqueue(t)
		}
		for _, tenant := range []string{"a", "b"} {
			o := Offer{ID: "g-" + tenant, Tenant: tenant, Region: "eu", Capabilities: []string{"gpu", "web"}, Window: 2}
			m.offers[o.ID] = o
			m.a.Offer(o)
		}
		order := map[string]int64{} // I1 inside a session and class
		for len(m.items) > 0 {
			it, gateway := m.a.Next(m.now)
			if it == nil {
				if it = m.some(t, Flying); it == nil {
					t.Fatalf("%d tasks are never served", len(m.items))
				}
				m.set(it, Gone, "")
				continue
			}
			m.phase[it.ID], m.at[it.ID] = Flying, gateway
			key := it.Need.Tenant + it.Session + it.Class.String() + it.Need.Region + it.Need.Capabilities
			if order[key] > it.Seq {
				t.Fatalf("task %s overtook an earlier one of its kind", it.ID)
			}
			order[key] = it.Seq
		}
		m.check(t)
		if n := len(m.a.buckets); n > idleBuckets || n != m.a.idle {
			t.Fatalf("%d buckets are left, %d of them idle", n, m.a.idle)
		}
	})
}

func TestQueueKeepsOrderThroughHoles(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var q queue
		var live []*Item
		for seq := int64(1); seq < 2500; seq++ {
			it := &Item{Class: messages.Low, Seq: seq}
			if rapid.IntRange(0, 20).Draw(t, "late") == 0 {
				it.Seq -= int64(rapid.IntRange(1, 50).Draw(t, "by")) * 5000
			}
			q.push(it)
			live = append(live, it)
			if len(live) > 3 && rapid.IntRange(0, 9).Draw(t, "remove") < 8 {
				i := rapid.IntRange(0, len(live)-1).Draw(t, "which")
				q.remove(live[i])
				live = slices.Delete(live, i, i+1)
			}
			want := slices.MinFunc(live, func(a, b *Item) int { return int(a.Seq - b.Seq) })
			if q.first().Seq != want.Seq || q.len() != len(live) {
				t.Fatalf("first %d of %d, want %d of %d", q.first().Seq, q.len(), want.Seq, len(live))
			}
		}
	})
}
