package gateway

import "time"

// Bounds of the pause after a refusal.
const (
	refusedMin = time.Second
	refusedMax = 30 * time.Second
)

const gatewayRefuses = "the gateway refuses work"

// refusal closes the window for a moment after the gateway has refused a run,
// longer each time it does so again soon: a refused task goes back into the
// order at once, and would otherwise run in circles. Runs that it refuses
// meanwhile were on their way: they count as one with the first.
type refusal struct {
	until time.Time
	pause time.Duration
	shut  bool
}

func (r *refusal) again(now time.Time) {
	switch {
	case now.Before(r.until):
		return
	case now.Sub(r.until) < refusedMax:
		r.pause = min(max(2*r.pause, refusedMin), refusedMax)
	default:
		r.pause = refusedMin
	}
	r.until, r.shut = now.Add(r.pause), true
}

// expire reports whether a pause has just ended.
func (r *refusal) expire(now time.Time) bool {
	if !r.shut || now.Before(r.until) {
		return false
	}
	r.shut = false
	return true
}
