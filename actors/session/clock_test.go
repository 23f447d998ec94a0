package session

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestClockRingsForTheFirstThatIsDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		rings := make(chan struct{}, 10)
		c := clock{ring: func() { rings <- struct{}{} }}
		c.arm(DeadlineTimer, began, time.Minute)
		c.arm(PollTimer, began, 10*time.Second)
		c.arm(StopTimer, began, 20*time.Second)
		c.arm(RunningTimer, began, time.Second)
		c.disarm(RunningTimer, began)           // it rings for nothing then
		c.arm(StopTimer, began, 30*time.Second) // replaced
		var got []TimerKind
		for len(got) < 3 {
			<-rings
			c.at = time.Time{}
			now := time.Now()
			for k := c.rang(now); k != 0; k = c.rang(now) {
				got = append(got, k)
			}
			c.wind(now)
		}
		if want := []TimerKind{PollTimer, StopTimer, DeadlineTimer}; !slices.Equal(got, want) {
			t.Errorf("rang for %v, want %v", got, want)
		}
		if after := time.Since(began); after != time.Minute {
			t.Errorf("the last one rang after %v, want 1m", after)
		}
		c.arm(PollTimer, time.Now(), time.Second)
		c.reset()
		time.Sleep(time.Hour)
		if len(rings) > 0 {
			t.Error("rang although nothing was armed")
		}
	})
}
