package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/dash-fleet/dash/soak/harness"
	"github.com/dash-fleet/dash/soak/judge"
	"github.com/dash-fleet/dash/soak/report"
)

// orders are what a gateway is told at the beginning and at the end of a fault.
var orders = map[string][2]map[string]any{
	"gateway-kill": {{"crash": true, "down_seconds": 1}, nil},
	"hang":         {{"hang_rate": 0.5}, {"hang_rate": 0}},
	"garbage":      {{"garbage_rate": 0.5, "duplicate_rate": 0.3, "wrong_id_rate": 0.1}, {"garbage_rate": 0, "duplicate_rate": 0, "wrong_id_rate": 0}},
	"provider":     {{"provider_fail_rate": 0.7, "provider_fail": "500"}, {"provider_fail_rate": 0}},
}

const dashKill = "dash-kill"

func faultNames() []string {
	names := []string{dashKill}
	for k := range orders {
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}

func faultsOf(list string) ([]string, error) {
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if !slices.Contains(faultNames(), name) {
			return nil, fmt.Errorf("there is no fault %q: use some of %s", name, strings.Join(faultNames(), ", "))
		}
		names = append(names, name)
	}
	return names, nil
}

// Faults begin after an eighth of the run and end before its last eighth, one
// at a time.
const (
	faultLength = 4 * time.Second
	faultPause  = 4 * time.Second
)

// inject breaks one thing after the other until the time is over.
func (o *options) inject(ctx context.Context, b *harness.Bench, began time.Time) ([]report.Fault, error) {
	if len(o.faults) == 0 {
		return nil, nil
	}
	rng := rand.New(rand.NewPCG(o.seed, 3))
	last := began.Add(o.duration * 7 / 8)
	if err := harness.Pause(ctx, time.Until(began.Add(o.duration/8))); err != nil {
		return nil, err
	}
	var list []report.Fault
	for i := 0; time.Now().Add(faultLength).Before(last); i++ {
		kind := o.faults[i%len(o.faults)]
		f, err := o.one(ctx, b, kind, rng.IntN(o.profile.gateways))
		if err != nil {
			return list, fmt.Errorf("inject %s: %w", kind, err)
		}
		f.At -= seconds(began)
		list = append(list, f)
		if err := harness.Pause(ctx, faultPause); err != nil {
			return list, err
		}
	}
	return list, nil
}

func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// one injects a fault and ends it; At is the absolute time.
func (o *options) one(ctx context.Context, b *harness.Bench, kind string, gateway int) (report.Fault, error) {
	f := report.Fault{Kind: kind, Target: harness.Name(gateway), At: seconds(time.Now())}
	if kind == dashKill {
		f.Target = "dash serve"
		over := b.History.Fault(kind, "")
		defer over()
		b.Dash.Kill()
		err := b.Dash.Start(ctx)
		f.Seconds = seconds(time.Now()) - f.At
		return f, err
	}
	over := b.History.Fault(kind, harness.Name(gateway))
	defer over()
	err := b.Sim.Fault(ctx, gateway, orders[kind][0])
	if end := orders[kind][1]; err == nil && end != nil {
		err = errors.Join(harness.Pause(ctx, faultLength), b.Sim.Fault(ctx, gateway, end))
	}
	f.Seconds = seconds(time.Now()) - f.At
	return f, err
}

// recoveries finds for each fault when a task first succeeded there after it.
func recoveries(faults []report.Fault, h *judge.History, began time.Time, clean bool) *report.Resilience {
	if len(faults) == 0 {
		return nil
	}
	r := &report.Resilience{Injected: len(faults)}
	var times []float64
	for i := range faults {
		f := &faults[i]
		end := began.Add(time.Duration((f.At + f.Seconds) * float64(time.Second)))
		at := slices.IndexFunc(h.Events, func(e judge.Event) bool {
			return e.Type == "task.state" && e.State == "succeeded" && e.Time.After(end) && (f.Kind == dashKill || e.Gateway == f.Target)
		})
		if at < 0 {
			continue
		}
		f.Recovery = h.Events[at].Time.Sub(end).Seconds()
		f.Survived = clean
		times = append(times, f.Recovery)
		if clean {
			r.Survived++
		}
	}
	r.Score = float64(r.Survived) / float64(r.Injected)
	if slices.Sort(times); len(times) > 0 {
		r.Median, r.Longest = times[len(times)/2], times[len(times)-1]
	}
	return r
}
