package harness

import (
	"testing"

	"github.com/dash-fleet/dash/soak/judge"
)

func TestEventLogNeverMovesAnEvent(t *testing.T) {
	t.Parallel()
	var l eventLog
	if got := l.from(0); got != nil {
		t.Fatalf("from(0) of nothing = %d events", len(got))
	}
	const n = 2*eventBlock + 3
	var first *judge.Event
	for i := range n {
		if l.add(judge.Event{Seq: int64(i)}); i == 0 {
			first = l.at(0)
		}
	}
	if l.len() != n || l.at(0) != first {
		t.Fatalf("len %d, want %d; first moved: %t", l.len(), n, l.at(0) != first)
	}
	next := 0
	for piece := l.from(0); piece != nil; piece = l.from(next) {
		for i := range piece {
			if piece[i].Seq != int64(next) {
				t.Fatalf("event %d has seq %d", next, piece[i].Seq)
			}
			next++
		}
	}
	if next != n {
		t.Fatalf("walked over %d events of %d", next, n)
	}
	all := l.all()
	for i := range all {
		if all[i].Seq != int64(i) {
			t.Fatalf("all()[%d] has seq %d", i, all[i].Seq)
		}
	}
	if len(all) != n {
		t.Fatalf("all() has %d events of %d", len(all), n)
	}
}
