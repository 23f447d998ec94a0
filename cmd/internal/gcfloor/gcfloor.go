// Package gcfloor keeps the collector from running all the time over a small
// heap: with the default GOGC of 100 a node that holds 20 MiB and allocates
// 150 MiB/s collects seven times a second, a fifth of its CPU. Memory is what
// such a node has plenty of.
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
// beyond that as GOGC=100 does. A GOGC in the environment is left as it is. The
// first call counts; it lasts until the process ends and needs no goroutine:
// the runtime calls back after each collection.
func Set(floor uint64) {
	if os.Getenv("GOGC") != "" {
		return
	}
	once.Do(func() {
		debug.SetGCPercent(int(max(leastPercent, floor*100/leastHeap)))
		t := &tuner{floor: floor, samples: []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}}
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

type tuner struct {
	floor   uint64
	samples []metrics.Sample
	percent int
}

func (t *tuner) tune() {
	metrics.Read(t.samples)
	live, roots := t.samples[0].Value.Uint64(), t.samples[1].Value.Uint64()+t.samples[2].Value.Uint64()
	if p := percent(t.floor, live, roots); p != t.percent {
		t.percent = p
		debug.SetGCPercent(p)
	}
}

// percent is the GOGC with which the next collection starts at floor bytes, but
// at least 100. The runtime's goal is live + (live + roots) * GOGC / 100, and at
// least leastHeap * GOGC / 100; see "A Guide to the Go Garbage Collector".
func percent(floor, live, roots uint64) int {
	if live >= floor || live+roots == 0 {
		return leastPercent
	}
	return int(max(leastPercent, min((floor-live)*100/(live+roots), floor*100/leastHeap)))
}
