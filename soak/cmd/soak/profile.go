package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/dash-fleet/dash/soak/harness"
)

// profile is a size of the run.
type profile struct {
	name            string
	gateways, slots int
	runTime         time.Duration
	spread          bool    // run times vary from a tenth of runTime to twice that
	rate            float64 // submits per second
	surge           float64 // factor on the rate for an eighth of the time
	sessionShare    float64
	sessions        int
	// limits of dash serve, 0: none
	maxRSS    int64
	maxCPU    float64 // share of the machine
	minFlight int     // tasks in flight at the plateau
}

func profiles() []profile {
	var list []profile
	for _, n := range []int{10, 20, 25, 50, 100} {
		list = append(list, profile{name: fmt.Sprint(n), gateways: n, slots: 8, runTime: time.Second, spread: true,
			rate: 4 * float64(n), surge: 3, sessionShare: 0.2, sessions: 20 * n})
	}
	return append(list, profile{name: "10k", gateways: 200, slots: 50, runTime: 20 * time.Second, rate: 500, sessionShare: 0.1, sessions: 20000,
		maxRSS: 1 << 30, maxCPU: 0.7, minFlight: 9500})
}

func profileNames() []string {
	var names []string
	for _, p := range profiles() {
		names = append(names, p.name)
	}
	return names
}

func profileOf(name string) (profile, error) {
	for _, p := range profiles() {
		if p.name == name {
			return p, nil
		}
	}
	return profile{}, fmt.Errorf("there is no profile %q: use one of %s", name, strings.Join(profileNames(), ", "))
}

func (o *options) benchConfig(dir string) harness.Config {
	p := &o.profile
	cfg := harness.Config{Binary: o.binary, Dir: dir, Gateways: p.gateways, Slots: p.slots, RunTime: p.runTime, Engine: o.engine}
	if len(o.faults) > 0 {
		// A gateway that comes back knows its sessions, and the protocol's
		// minutes become seconds, so that faults end within the run.
		cfg.KeepState, cfg.TimeScale = true, 0.05
	}
	return cfg
}

func (o *options) loadConfig() harness.LoadConfig {
	p := &o.profile
	cfg := harness.LoadConfig{Name: "soak", Rate: p.rate, SessionShare: p.sessionShare, Sessions: p.sessions, Seed: o.seed,
		Surge: p.surge, SurgeFrom: o.duration * 4 / 8, SurgeTo: o.duration * 5 / 8}
	if o.rate > 0 {
		cfg.Rate = o.rate
	}
	if p.spread {
		mean := p.runTime.Milliseconds()
		cfg.Mark = func(r *rand.Rand) string { return fmt.Sprintf("[[delay=%d]]", mean/10+r.Int64N(2*mean-mean/10)) }
	}
	if slices.Contains(o.faults, "hang") {
		cfg.Timeout, cfg.Attempts = 10*time.Second, 10
	}
	if slices.Contains(o.faults, "provider") {
		cfg.Attempts = 20
	}
	return cfg
}
