package openclawtest

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Faults are what a gateway does wrong on purpose. Rates are probabilities from
// 0 to 1, thrown once per run unless said otherwise. The JSON names are those of
// POST /__sim.
type Faults struct {
	// RunTimeSeconds replaces Config.RunTime when not nil.
	RunTimeSeconds *float64 `json:"run_time_seconds,omitempty"`
	// FailRate: the run ends as failed (UNAVAILABLE) after its run time.
	FailRate float64 `json:"fail_rate"`
	// HangRate: the model never answers; only a timeout or an abort ends the run.
	HangRate float64 `json:"hang_rate"`
	// DropRate: the asking socket is cut without a word: before the run is
	// taken, after it was taken, or in place of its final answer.
	DropRate float64 `json:"drop_rate"`
	// GarbageRate: broken JSON, binary, strangers' answers and unknown events
	// are sent in front of an answer.
	GarbageRate float64 `json:"garbage_rate"`
	// ProviderFailRate: the model call fails as ProviderFail says.
	ProviderFailRate float64 `json:"provider_fail_rate"`
	// ProviderFail is 400, 401, 429, 500, hang, cut or reset; default 500.
	ProviderFail string `json:"provider_fail,omitempty"`
	// EventLoopDelayMS is reported by health, system.info and readyz.
	EventLoopDelayMS float64 `json:"event_loop_delay_ms"`
	// DuplicateRate: an agent answer is sent twice.
	DuplicateRate float64 `json:"duplicate_rate"`
	// LateRate: an agent answer is sent LateSeconds late.
	LateRate    float64 `json:"late_rate"`
	LateSeconds float64 `json:"late_seconds"`
	// WrongIDRate: an agent answer carries an id nobody asked under; the right
	// one is never sent.
	WrongIDRate float64 `json:"wrong_id_rate"`
	// HugeFrameRate: an event of HugeFrameBytes (default 30 MiB) is sent in
	// front of an answer.
	HugeFrameRate  float64 `json:"huge_frame_rate"`
	HugeFrameBytes int     `json:"huge_frame_bytes,omitempty"`
	// NoScopes: hello-ok grants no scopes whatever was asked.
	NoScopes bool `json:"no_scopes"`
	// Protocol makes the gateway speak only this version (3 = an old release
	// without boot id); 0 means 4.
	Protocol int `json:"protocol,omitempty"`
	// OmitBootID: hello-ok has no server.bootId, as releases before 2026.8.2.
	OmitBootID bool `json:"omit_boot_id"`
	// BrokenHistory: chat.history answers without its messages, as of a
	// transcript that cannot be read.
	BrokenHistory bool `json:"broken_history"`
	// PairingRequired: every connect is answered NOT_PAIRED / PAIRING_REQUIRED
	// unless it brings a device key that was approved.
	PairingRequired bool `json:"pairing_required"`
	// PrepareSeconds replaces Config.PrepareTime when not nil: a window in
	// which a run is accepted and no model call was made.
	PrepareSeconds *float64 `json:"prepare_seconds,omitempty"`
}

// Validate reports the first value that makes no sense.
func (f Faults) Validate() error {
	rates := []struct {
		name  string
		value float64
	}{
		{"fail_rate", f.FailRate},
		{"hang_rate", f.HangRate},
		{"drop_rate", f.DropRate},
		{"garbage_rate", f.GarbageRate},
		{"provider_fail_rate", f.ProviderFailRate},
		{"duplicate_rate", f.DuplicateRate},
		{"late_rate", f.LateRate},
		{"wrong_id_rate", f.WrongIDRate},
		{"huge_frame_rate", f.HugeFrameRate},
	}
	for _, r := range rates {
		if !(r.value >= 0 && r.value <= 1) {
			return fmt.Errorf("%s %g is outside 0..1", r.name, r.value)
		}
	}
	seconds := map[string]*float64{
		"run_time_seconds": f.RunTimeSeconds, "late_seconds": &f.LateSeconds, "prepare_seconds": f.PrepareSeconds,
	}
	for name, s := range seconds {
		if s != nil && !validSeconds(*s) {
			return fmt.Errorf("%s %g is outside 0..86400", name, *s)
		}
	}
	if f.ProviderFail != "" && !slices.Contains(failModes(), f.ProviderFail) {
		return fmt.Errorf("provider_fail %q is none of %v", f.ProviderFail, failModes())
	}
	if f.HugeFrameBytes < 0 || f.HugeFrameBytes > 256<<20 {
		return fmt.Errorf("huge_frame_bytes %d is outside 0..%d", f.HugeFrameBytes, 256<<20)
	}
	if f.EventLoopDelayMS < 0 || math.IsNaN(f.EventLoopDelayMS) {
		return fmt.Errorf("event_loop_delay_ms %g is negative", f.EventLoopDelayMS)
	}
	return nil
}

func validSeconds(s float64) bool { return s >= 0 && s <= 86400 }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func failModes() []string { return []string{"400", "401", "429", "500", "hang", "cut", "reset"} }

// hit throws the gateway's dice. Callers hold g.mu.
func (g *Gateway) hit(rate float64) bool {
	return rate > 0 && g.rng.Float64() < rate
}

func (g *Gateway) runTime() time.Duration {
	if s := g.faults.RunTimeSeconds; s != nil {
		return seconds(*s)
	}
	return g.cfg.RunTime
}

func (g *Gateway) prepareTime() time.Duration {
	if s := g.faults.PrepareSeconds; s != nil {
		return seconds(*s)
	}
	return g.cfg.PrepareTime
}

// Faults is what is in force now.
func (g *Gateway) Faults() Faults {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.faults
}

// SetFaults replaces the faults in force; runs that began keep what was thrown for them.
func (g *Gateway) SetFaults(f Faults) error {
	if err := f.Validate(); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults = f
	return nil
}
