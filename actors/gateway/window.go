package gateway

import (
	"fmt"
	"time"
)

// Bounds of the adaptive window.
const (
	halveEvery  = 5 * time.Second  // several failures of one cause count once
	growEvery   = 30 * time.Second // +1 after this long without trouble
	slowLoop    = 250 * time.Millisecond
	recoverLoop = 100 * time.Millisecond
	slowInARow  = 3                // readings: one is a hiccup, such as a long answer
	bootCalm    = 30 * time.Second // a process that has just become ready is slow by nature
)

// Window is how many runs a gateway may hold at once:
// min(configured, the gateway's own lane limit, adaptive). It halves when the
// gateway or its provider slows down, and grows by one per 30 s without
// trouble. It is pure: the time comes in.
type Window struct {
	configured int
	lane       int // the gateway's maxConcurrent, 0: unknown
	adaptive   int
	changed    time.Time // last change of adaptive
	slow       bool
	slowCount  int       // slow readings in a row
	opened     time.Time // when the gateway became ready
	why        string
}

// NewWindow returns a fully open window.
func NewWindow(configured int, now time.Time) Window {
	return Window{configured: configured, adaptive: configured, changed: now}
}

// Size is the window of a gateway that is connected and not draining.
func (w *Window) Size() int { return min(w.ceiling(), w.adaptive) }

func (w *Window) ceiling() int {
	if w.lane > 0 {
		return min(w.configured, w.lane)
	}
	return w.configured
}

// Configure changes the configured size and the gateway's own limit (0: unknown).
func (w *Window) Configure(configured, lane int) {
	if w.adaptive == w.configured || w.adaptive > configured {
		w.adaptive = configured
	}
	w.configured, w.lane = configured, lane
}

// Trouble halves the window, at most once per 5 s.
func (w *Window) Trouble(why string, now time.Time) {
	if now.Sub(w.changed) < halveEvery && w.why != "" {
		return
	}
	w.adaptive = max(1, min(w.ceiling(), w.adaptive)/2)
	w.changed, w.why = now, why
}

// Opened: the gateway has become ready.
func (w *Window) Opened(now time.Time) { w.opened, w.slowCount = now, 0 }

// LoopDelay takes one reading of the gateway's event-loop delay (p99).
func (w *Window) LoopDelay(p99 time.Duration, degraded bool, now time.Time) {
	if !degraded && p99 < slowLoop {
		w.slowCount = 0
		w.slow = w.slow && p99 >= recoverLoop
		return
	}
	if now.Sub(w.opened) < bootCalm {
		return
	}
	if w.slowCount++; w.slowCount >= slowInARow {
		w.slow = true
		w.Trouble("the gateway's event loop is slow", now)
	}
}

// Tick grows the window when nothing went wrong for a while.
func (w *Window) Tick(now time.Time) {
	if w.slow || w.adaptive >= w.configured || now.Sub(w.changed) < growEvery {
		return
	}
	w.adaptive++
	w.changed = now
	if w.adaptive >= w.ceiling() {
		w.why = ""
	}
}

// Reduced says why the window is smaller than it could be, empty when it is not.
func (w *Window) Reduced() string {
	if w.Size() >= w.ceiling() {
		return ""
	}
	return fmt.Sprintf("takes %d of %d runs: %s; one more every %s without trouble", w.Size(), w.ceiling(), w.why, growEvery)
}

// Limited says when the gateway itself takes less than is configured.
func (w *Window) Limited() string {
	if w.lane == 0 || w.lane >= w.configured {
		return ""
	}
	return fmt.Sprintf("takes %d runs at once, not %d: the gateway's own limit (agents.defaults.maxConcurrent)", w.lane, w.configured)
}
