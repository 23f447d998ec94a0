package gateway

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw"
)

const parent = dashKeys + "default:task-t:1"

func TestAThrowAwaySessionWaitsForItsSubAgents(t *testing.T) {
	t.Parallel()
	var c children
	var s sweeper
	s.add(parent)
	s.add("other")
	held := func(now time.Time) func(string) bool {
		return func(key string) bool { return c.working(key, now) }
	}
	c.heard(openclaw.SubAgent{Key: "a", Parent: parent, Working: true}, t0)
	c.heard(openclaw.SubAgent{Key: "b", Parent: parent, Working: true}, t0)
	c.heard(openclaw.SubAgent{Key: "x", Parent: "agent:main:main", Working: true}, t0) // not ours
	if got := s.take(held(t0)); !slices.Equal(got, []string{"other"}) || len(c.of) != 1 {
		t.Fatalf("removed %q while sub-agents work", got)
	}
	c.heard(openclaw.SubAgent{Key: "a", Parent: parent}, t0)
	if got := s.take(held(t0.Add(time.Minute))); len(got) != 0 {
		t.Fatalf("removed %q while one works", got)
	}
	c.heard(openclaw.SubAgent{Key: "b", Parent: parent}, t0)
	if got := s.take(held(t0.Add(time.Minute))); !slices.Equal(got, []string{parent}) || len(s.keys) != 0 || len(c.of) != 0 {
		t.Fatalf("took %q, left %q", got, s.keys)
	}
	// Nothing is heard of its end: it waits no longer than that.
	s.add(parent)
	c.heard(openclaw.SubAgent{Key: "a", Parent: parent, Working: true}, t0)
	if got := s.take(held(t0.Add(childLimit - time.Second))); len(got) != 0 {
		t.Fatalf("took %q early", got)
	}
	if got := s.take(held(t0.Add(childLimit))); len(got) != 1 {
		t.Fatal("it waits for ever")
	}
}

func TestChildrenAreBounded(t *testing.T) {
	t.Parallel()
	var c children
	for i := range maxParents + 10 {
		for j := range 2 {
			c.heard(openclaw.SubAgent{Key: fmt.Sprint(j), Parent: fmt.Sprint(parent, i), Working: true}, t0)
		}
	}
	for j := range 3 * maxOffspring {
		c.heard(openclaw.SubAgent{Key: fmt.Sprint(j), Parent: fmt.Sprint(parent, 1), Working: true}, t0)
	}
	if len(c.of) != maxParents || len(c.of[fmt.Sprint(parent, 1)]) != maxOffspring {
		t.Errorf("%d parents, %d children", len(c.of), len(c.of[fmt.Sprint(parent, 1)]))
	}
}

// TestChildrenMakeRoom: sub-agents whose end was never told keep nobody out for
// good, and a gateway that names ever more of them does not have all looked at
// each time.
func TestChildrenMakeRoom(t *testing.T) {
	t.Parallel()
	var c children
	started := func(i int, now time.Time) bool {
		key := fmt.Sprint(parent, i)
		c.heard(openclaw.SubAgent{Key: "a", Parent: key, Working: true}, now)
		return c.working(key, now)
	}
	for i := range maxParents {
		started(i, t0)
	}
	if started(maxParents, t0.Add(childLimit-time.Second)) {
		t.Fatal("it is known beyond the bound")
	}
	if started(maxParents+1, t0.Add(childLimit)) {
		t.Error("all of them were looked at again within a second")
	}
	if !started(maxParents+2, t0.Add(childLimit+childPause)) || len(c.of) != 1 {
		t.Errorf("a sub-agent is not known, with %d sessions whose limit is over", len(c.of))
	}
}

// TestSweeperKeepsWhatIsHeld when the chunk is full before the end.
func TestSweeperKeepsWhatIsHeld(t *testing.T) {
	t.Parallel()
	s := sweeper{keys: []string{"held"}}
	for i := range sweepChunk + 1 {
		s.add(fmt.Sprint(i))
	}
	if chunk := s.take(func(key string) bool { return key == "held" }); len(chunk) != sweepChunk {
		t.Errorf("a chunk of %d", len(chunk))
	}
	if want := []string{"held", fmt.Sprint(sweepChunk)}; !slices.Equal(s.keys, want) {
		t.Errorf("left are %q, want %q", s.keys, want)
	}
}

func TestSweeperTakesChunks(t *testing.T) {
	t.Parallel()
	var s sweeper
	for i := range 3*sweepChunk + 1 {
		s.add(fmt.Sprint(i))
	}
	seen := 0
	for n := 1; len(s.keys) > 0; n++ {
		chunk := s.take(func(string) bool { return false })
		if len(chunk) == 0 || len(chunk) > sweepChunk || chunk[0] != fmt.Sprint(seen) {
			t.Fatalf("%d. chunk %q", n, chunk)
		}
		seen += len(chunk)
	}
	if seen != 3*sweepChunk+1 {
		t.Errorf("%d of them", seen)
	}
}
