package gateway

import (
	"time"

	"github.com/dash-fleet/dash/actors/session"
)

// Timing are the gateway's periods. The zero value means DefaultTiming.
type Timing struct {
	Tick          time.Duration // windows grow, demands are repeated
	Health        time.Duration // event-loop readings
	ReconnectMin  time.Duration // first pause after a lost connection
	ReconnectMax  time.Duration
	StableAfter   time.Duration // a connection that lived this long resets the pause
	CallTimeout   time.Duration // one read or abort
	WarmUp        time.Duration // the first turn of a managed process, before it gets work
	Reload        time.Duration // a living process takes a new configuration, or is started again
	ReloadLook    time.Duration // pause between two looks at that
	StopTimeout   time.Duration // drain of a managed process (its own budget is 315 s)
	RetryWindow   time.Duration // starts of a managed process are counted in it
	RetryLimit    int           // more starts than this: QUARANTINED
	SessionWindow time.Duration // failures of a session actor are counted in it
	SessionLimit  int           // more failures than this: PARKED
	SessionDelay  time.Duration // first delay before a session's restart
	Session       session.Timing
}

// DefaultTiming is that of a real gateway; tests have shorter ones.
var DefaultTiming = Timing{
	Tick: time.Second, Health: 5 * time.Second,
	ReconnectMin: 250 * time.Millisecond, ReconnectMax: 30 * time.Second, StableAfter: 5 * time.Second,
	CallTimeout: 15 * time.Second, WarmUp: 90 * time.Second, Reload: 30 * time.Second, ReloadLook: 500 * time.Millisecond, StopTimeout: 330 * time.Second,
	RetryWindow: 10 * time.Minute, RetryLimit: 10,
	SessionWindow: 10 * time.Minute, SessionLimit: 5, SessionDelay: 500 * time.Millisecond,
	Session: session.DefaultTiming,
}

func (t Timing) withDefaults() Timing {
	d := DefaultTiming
	for _, f := range []struct{ v, d *time.Duration }{
		{&t.Tick, &d.Tick}, {&t.Health, &d.Health}, {&t.ReconnectMin, &d.ReconnectMin}, {&t.ReconnectMax, &d.ReconnectMax},
		{&t.StableAfter, &d.StableAfter}, {&t.CallTimeout, &d.CallTimeout}, {&t.WarmUp, &d.WarmUp}, {&t.StopTimeout, &d.StopTimeout},
		{&t.Reload, &d.Reload}, {&t.ReloadLook, &d.ReloadLook},
		{&t.RetryWindow, &d.RetryWindow}, {&t.SessionWindow, &d.SessionWindow}, {&t.SessionDelay, &d.SessionDelay},
	} {
		if *f.v == 0 {
			*f.v = *f.d
		}
	}
	if t.RetryLimit == 0 {
		t.RetryLimit = d.RetryLimit
	}
	if t.SessionLimit == 0 {
		t.SessionLimit = d.SessionLimit
	}
	return t
}
