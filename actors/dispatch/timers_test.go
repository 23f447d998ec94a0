package dispatch

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestAlarmsRingInOrderAndOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var a alarms
		want := map[string]int64{}
		for range rapid.IntRange(0, 60).Draw(t, "changes") {
			id := fmt.Sprint(rapid.IntRange(0, 15).Draw(t, "task"))
			at := rapid.Int64Range(0, 20).Draw(t, "at")
			a.set(id, at)
			if want[id] = at; at == 0 {
				delete(want, id)
			}
		}
		now := rapid.Int64Range(0, 25).Draw(t, "now")
		last := int64(0)
		for {
			id, ok := a.ring(now)
			if !ok {
				break
			}
			at, known := want[id]
			if !known || at > now || at < last {
				t.Fatalf("%s rang at %d, set for %d after %d", id, now, at, last)
			}
			last = at
			delete(want, id)
		}
		for id, at := range want {
			if at <= now {
				t.Fatalf("%s, set for %d, did not ring at %d", id, at, now)
			}
		}
		if len(a.heap) != len(want) || len(a.byTask) != len(want) {
			t.Fatalf("%d alarms are left, want %d", len(a.heap), len(want))
		}
	})
}

func TestRetryAfterFollowsTheDrainRate(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	var d drain
	if got := retryAfter(1000, d.perSecond(now)); got != unknownRetryAfter {
		t.Errorf("nothing left the queue: %s", got)
	}
	for i := range 10 {
		d.add(now.Add(time.Duration(i)*time.Second), 10)
	}
	now = now.Add(9 * time.Second)
	if got := d.perSecond(now); got != 10 {
		t.Errorf("%v tasks a second, want 10", got)
	}
	if got := retryAfter(1000, 10); got != 5*time.Second {
		t.Errorf("a twentieth of 1000 at 10 a second: %s, want 5s", got)
	}
	if got := retryAfter(100, 1000); got != minRetryAfter {
		t.Errorf("fast drain: %s", got)
	}
	if got := retryAfter(1_000_000, 1); got != maxRetryAfter {
		t.Errorf("slow drain: %s", got)
	}
	if got := d.perSecond(now.Add(5 * time.Second)); got != 5 {
		t.Errorf("%v tasks a second after a pause, want 5", got)
	}
	if got := d.perSecond(now.Add(time.Hour)); got != 0 {
		t.Errorf("%v tasks a second after an hour, want 0", got)
	}
}
