package launcher

import "time"

// Budget limits how often a gateway may be started: Limit starts within
// Window, with delays that double from MinDelay to MaxDelay. It is pure; the
// caller keeps the times of its starts.
type Budget struct {
	Window   time.Duration
	Limit    int
	MinDelay time.Duration
	MaxDelay time.Duration
}

// Next says when a gateway whose earlier starts were at starts (oldest first)
// may start again. kept are the starts that still count, to which the caller
// adds the new one. ok is false when the budget is used up: the gateway is
// crash-looping and belongs into quarantine. jitter, in [0,1), shortens a
// delay by up to a fifth, so that gateways that fell together do not rise
// together. The first start in a window has no delay.
func (b Budget) Next(starts []time.Time, now time.Time, jitter float64) (kept []time.Time, delay time.Duration, ok bool) {
	for len(starts) > 0 && now.Sub(starts[0]) >= b.Window {
		starts = starts[1:]
	}
	if len(starts) >= b.Limit {
		return starts, 0, false
	}
	if len(starts) == 0 {
		return starts, 0, true
	}
	delay = b.MinDelay
	for range len(starts) - 1 {
		if delay >= b.MaxDelay {
			break
		}
		delay *= 2
	}
	delay = min(delay, b.MaxDelay)
	return starts, delay - time.Duration(jitter*float64(delay)/5), true
}
