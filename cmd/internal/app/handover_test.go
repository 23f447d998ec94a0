package app

import (
	"testing"
	"time"
)

// TestHandOverWaitsForItsGateways: what the pools assign before they have heard
// that a gateway takes no work is waited for, and a long run does not keep the
// gateways of this node idle for its whole deadline.
func TestHandOverWaitsForItsGateways(t *testing.T) {
	t.Parallel()
	var h handing
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	look := func(after time.Duration, to string, yields, calm bool) {
		t.Helper()
		at = at.Add(after)
		if y, c := h.look(to, at); y != yields || c != calm {
			t.Errorf("%q after another %s: yields %t, calm %t; want %t, %t", to, after, y, c, yields, calm)
		}
	}
	look(0, "", false, false)
	look(0, "b", false, false)
	look(handOverAfter-1, "b", false, false)
	look(1, "b", true, false)
	look(2*time.Second, "b", true, false) // a repeated Demand may be on its way
	look(handOverCalm-2*time.Second, "b", true, true)
	look(time.Second, "", false, false) // it has gone
	look(0, "b", false, false)
	look(handOverAfter, "b", true, false)
	look(handOverPatience-1, "b", true, true)
	look(1, "b", false, false) // a run goes on and on
	look(handOverRest-1, "b", false, false)
	look(0, "c", false, false) // the same goes for another one
	look(1, "c", false, false)
	look(handOverAfter, "c", true, false)
}
