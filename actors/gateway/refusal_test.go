package gateway

import (
	"slices"
	"testing"
	"time"
)

// TestRefusalsCloseTheWindow: longer each time, and short again after a while.
func TestRefusalsCloseTheWindow(t *testing.T) {
	t.Parallel()
	var r refusal
	at, pauses := t0, []time.Duration{}
	for range 7 {
		r.again(at)
		pauses = append(pauses, r.until.Sub(at))
		if !r.shut || r.expire(r.until.Add(-1)) {
			t.Fatal("it does not last")
		}
		if at = r.until; !r.expire(at) || r.shut || r.expire(at) {
			t.Fatal("it does not end, or more than once")
		}
	}
	want := []time.Duration{1e9, 2e9, 4e9, 8e9, 16e9, 30e9, 30e9}
	if !slices.Equal(pauses, want) {
		t.Errorf("pauses %v, want %v", pauses, want)
	}
	at = at.Add(time.Minute)
	if r.again(at); r.until.Sub(at) != time.Second {
		t.Errorf("a later refusal pauses for %s", r.until.Sub(at))
	}
}

// TestRefusalsOfOneMomentCountOnce: a gateway that refuses whatever it holds
// has refused once.
func TestRefusalsOfOneMomentCountOnce(t *testing.T) {
	t.Parallel()
	var r refusal
	for range 8 {
		r.again(t0)
	}
	if pause := r.until.Sub(t0); pause != time.Second {
		t.Errorf("eight refusals at once pause for %s, want 1s", pause)
	}
}
