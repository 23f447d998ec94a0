package gateway

import (
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
	w.LoopDelay(time.Second, false, t0)
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
