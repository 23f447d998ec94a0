package gateway

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var t0 = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestWindowHalvesAndRecovers(t *testing.T) {
	t.Parallel()
	w := NewWindow(8, t0)
	w.Trouble("provider", t0.Add(time.Second))
	if got := w.Size(); got != 4 {
		t.Fatalf("window after trouble = %d, want 4", got)
	}
	w.Trouble("provider", t0.Add(2*time.Second))
	if got := w.Size(); got != 4 {
		t.Fatalf("a burst of one cause halved twice: %d", got)
	}
	now := t0.Add(time.Second)
	if w.Tick(now.Add(29 * time.Second)); w.Size() != 4 {
		t.Fatalf("window = %d 29 s after the trouble, want 4 until 30 s", w.Size())
	}
	for want := 5; want <= 8; want++ {
		now = now.Add(30 * time.Second)
		w.Tick(now)
		if got := w.Size(); got != want {
			t.Fatalf("window = %d, want %d", got, want)
		}
	}
	if why := w.Reduced(); why != "" {
		t.Fatalf("recovered window still says %q", why)
	}
}

func TestWindowNeverFallsBelowOne(t *testing.T) {
	t.Parallel()
	w := NewWindow(3, t0)
	for i := range 10 {
		w.Trouble("x", t0.Add(time.Duration(i+1)*5*time.Second))
	}
	if got := w.Size(); got != 1 {
		t.Fatalf("window = %d, want 1", got)
	}
}

func TestSlowEventLoopHoldsGrowth(t *testing.T) {
	t.Parallel()
	w := NewWindow(8, t0)
	for range 3 {
		w.LoopDelay(time.Second, false, t0)
	}
	w.Tick(t0.Add(60 * time.Second))
	if got := w.Size(); got != 4 {
		t.Fatalf("window grew to %d while the loop is slow", got)
	}
	w.LoopDelay(10*time.Millisecond, false, t0.Add(60*time.Second))
	w.Tick(t0.Add(90 * time.Second))
	if got := w.Size(); got != 5 {
		t.Fatalf("window = %d after the loop recovered, want 5", got)
	}
}

// TestHiccupDoesNotShrink: one late reading is a long answer or a collection,
// and a process that has just started is slow by nature.
func TestHiccupDoesNotShrink(t *testing.T) {
	t.Parallel()
	slow := func(w *Window, n int, at time.Time) time.Time {
		for range n {
			w.LoopDelay(300*time.Millisecond, false, at)
			at = at.Add(5 * time.Second)
		}
		return at
	}
	w := NewWindow(8, t0)
	w.Opened(t0)
	at := slow(&w, 5, t0) // its start
	at = slow(&w, 2, at.Add(10*time.Second))
	w.LoopDelay(time.Millisecond, false, at)
	at = slow(&w, 2, at)
	if got := w.Size(); got != 8 {
		t.Fatalf("window = %d after hiccups, want 8", got)
	}
	w.LoopDelay(time.Millisecond, true, at) // the gateway says so itself
	if got := w.Size(); got != 4 {
		t.Fatalf("window = %d after 3 slow readings in a row, want 4", got)
	}
	if why := w.Reduced(); !strings.Contains(why, "event loop") || !strings.Contains(why, "4 of 8") {
		t.Fatalf("it says %q", why)
	}
}

func TestLaneLimitBounds(t *testing.T) {
	t.Parallel()
	w := NewWindow(8, t0)
	w.Configure(8, 3)
	if got := w.Size(); got != 3 {
		t.Fatalf("window = %d, want the gateway's own limit 3", got)
	}
	w.Configure(2, 3)
	if got := w.Size(); got != 2 {
		t.Fatalf("window = %d, want the configured 2", got)
	}
}

// TestWindowStaysInBounds: whatever happens, 0 <= size <= configured.
func TestWindowStaysInBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		configured := rapid.IntRange(1, 64).Draw(t, "configured")
		w, now := NewWindow(configured, t0), t0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				w.Trouble("x", now)
			case 1:
				w.LoopDelay(time.Duration(rapid.IntRange(0, 500).Draw(t, "ms"))*time.Millisecond, false, now)
			case 2:
				configured = rapid.IntRange(1, 64).Draw(t, "new")
				w.Configure(configured, rapid.IntRange(0, 64).Draw(t, "lane"))
			default:
				w.Tick(now)
			}
			if got := w.Size(); got < 0 || got > configured {
				t.Fatalf("window %d of %d", got, configured)
			}
			if w.Size() == w.ceiling() && w.Reduced() != "" {
				t.Fatal("a full window says it is reduced")
			}
		}
	})
}
