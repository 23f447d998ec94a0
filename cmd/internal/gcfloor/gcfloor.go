// Package gcfloor keeps the collector from running all the time over a small
// heap: with the default GOGC of 100 a node that holds 20 MiB and allocates
// 150 MiB/s collects seven times a second, a fifth of its CPU. Memory is what
// such a node has plenty of.
//
// A heap of that size has holes between small objects, too small for large
// texts, and the runtime keeps the holes of a part that was full a while ago. So
// that large texts do not take as much memory again, a limit follows the heap:
// what is free beyond it goes back to the system before more is taken. Without it
// a gateway with results of 4 MiB added 62 to 75 MiB to a node of 175 within a
// second, with it 28.
package gcfloor

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// Floor is the size of the heap in bytes that a node may reach before the
// collector starts: well below what the largest profile uses, and what a small
// machine still has to spare.
const Floor = 128 << 20

// leastPercent is Go's own default, in force for heaps above the floor.
const leastPercent = 100

// leastHeap is the heap in bytes below which Go does not collect with GOGC=100.
const leastHeap = 4 << 20

// Set has the collector start no earlier than at a heap of floor bytes, and
// beyond that as GOGC=100 does, and has the memory of the process follow that
// size. A GOGC in the environment is left as it is, and so is a GOMEMLIMIT. The
// first call counts; it lasts until the process ends and needs no goroutine:
// the runtime calls back after each collection.
func Set(floor uint64) {
	if os.Getenv("GOGC") != "" {
		return
	}
	once.Do(func() {
		t := &tuner{floor: floor, limited: os.Getenv("GOMEMLIMIT") == "", samples: samples()}
		t.tune()
		runtime.SetFinalizer(&cycle{t}, (*cycle).ended)
	})
}

var once sync.Once

// cycle is garbage from the start, so that each collection ends one.
type cycle struct{ t *tuner }

func (c *cycle) ended() {
	c.t.tune()
	runtime.SetFinalizer(&cycle{c.t}, (*cycle).ended)
}

// What the tuner reads, by its place in samples.
const (
	liveHeap = iota
	stackRoots
	globalRoots
	total // all that the runtime has of the system, what it gave back included
	firstOfHeap
)

func samples() []metrics.Sample {
	return []metrics.Sample{
		liveHeap: {Name: "/gc/heap/live:bytes"}, stackRoots: {Name: "/gc/scan/stack:bytes"}, globalRoots: {Name: "/gc/scan/globals:bytes"},
		total: {Name: "/memory/classes/total:bytes"}, firstOfHeap: {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
	}
}

type tuner struct {
	floor   uint64
	limited bool
	samples []metrics.Sample
	percent int
}

func (t *tuner) tune() {
	metrics.Read(t.samples)
	v := func(i int) uint64 { return t.samples[i].Value.Uint64() }
	live, roots := v(liveHeap), v(stackRoots)+v(globalRoots)
	if t.limited {
		other := v(total)
		for i := firstOfHeap; i < len(t.samples); i++ {
			other -= min(other, v(i))
		}
		debug.SetMemoryLimit(limit(t.floor, live, roots, other))
	}
	if p := percent(t.floor, live, roots); p != t.percent {
		t.percent = p
		debug.SetGCPercent(p)
	}
}

// percent is the GOGC with which the next collection starts at floor bytes, but
// at least 100. The runtime's goal is live + (live + roots) * GOGC / 100, and at
// least leastHeap * GOGC / 100; see "A Guide to the Go Garbage Collector".
func percent(floor, live, roots uint64) int {
	if live >= floor {
		return leastPercent
	}
	return int(max(leastPercent, min((floor-live)*100/max(live+roots, 1), floor*100/leastHeap)))
}

// limit is what the process may hold of the system in bytes: the heap when the
// next collection starts, an eighth of it for holes, and what is no heap, such as
// stacks. The collector is not to start because of it.
func limit(floor, live, roots, other uint64) int64 {
	goal := max(floor, 2*live+roots)
	return int64(goal + goal/8 + other)
}
