package hostile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/soak/harness"
)

// Config of a run.
type Config struct {
	Binary string // of dash
	Dir    string // for data and logs; it must exist
	// Window is how long each mode lasts, Before the honest window before it, and
	// Warm how long the node works before the first, until its heap has the size
	// that honest work gives it.
	Window, Before, Warm time.Duration
	// Rounds is how often all modes are gone through.
	Rounds int
	// Only picks modes by a part of their names.
	Only string
	Logf func(format string, args ...any)
}

// Gates of a run.
const (
	MaxGrowth = 64 << 20 // bytes of memory beside what honest work takes
	MaxSlower = 1.10     // p99 of tasks at other gateways, hostile to honest
)

// Report is what a run has measured.
type Report struct {
	Idle  int64 // bytes of memory before any work
	Warm  int64 // the most that honest work took at first
	Modes []ModeReport
	// Honest and Hostile are the p99 of all tasks at other gateways that ended in the
	// windows of either kind, from submit to result; HonestMedian and HostileMedian
	// are the medians of the windows' own.
	Honest, Hostile             time.Duration
	HonestMedian, HostileMedian time.Duration
	Tasks                       int
	Foreign                     []string // what of the hostile gateway was seen elsewhere
	Failed                      []string // tasks at other gateways that did not succeed
	Fake                        Counts
}

// ModeReport is what one window of a mode cost.
type ModeReport struct {
	Name string
	// Peak is the most memory during the window in bytes, and P99 that of tasks at
	// other gateways; PeakBefore and Before are those of the honest window before.
	Peak, PeakBefore int64
	P99, Before      time.Duration
	Tasks            int
	State            string // of the hostile gateway at the end
	Reason           string
}

// Growth is how much more memory the node took at most than with honest work.
func (m ModeReport) Growth() int64 { return m.Peak - m.PeakBefore }

// Growth is the most of all modes.
func (r *Report) Growth() int64 {
	var most int64
	for _, m := range r.Modes {
		most = max(most, m.Growth())
	}
	return most
}

// Peak is the most memory in any window of a mode.
func (r *Report) Peak() int64 {
	var most int64
	for _, m := range r.Modes {
		most = max(most, m.Peak)
	}
	return most
}

// Err says which gates were not passed; slower is one only where asked.
func (r *Report) Err(slower bool) error {
	var errs []error
	for _, m := range r.Modes {
		if slower && m.Tasks == 0 {
			errs = append(errs, fmt.Errorf("%s: no task of another gateway ended", m.Name))
		}
		if g := m.Growth(); g > MaxGrowth {
			errs = append(errs, fmt.Errorf("%s: memory grew by %d MiB, at most %d are allowed", m.Name, g>>20, MaxGrowth>>20))
		}
	}
	if len(r.Foreign) > 0 {
		errs = append(errs, fmt.Errorf("texts of the hostile gateway were seen elsewhere: %s", strings.Join(r.Foreign, "; ")))
	}
	if len(r.Failed) > 0 {
		errs = append(errs, fmt.Errorf("tasks at other gateways failed: %s", strings.Join(r.Failed, "; ")))
	}
	if slower && float64(r.Hostile) > float64(r.Honest)*MaxSlower {
		errs = append(errs, fmt.Errorf("the p99 of other gateways went from %s to %s", r.Honest, r.Hostile))
	}
	return errors.Join(errs...)
}

const (
	pool  = "hostile"
	slots = 300
	// neighbours work at honest gateways, one task at a time each.
	neighbours = 6
)

// Run attacks a node of its own.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	b, err := harness.NewBench(ctx, harness.Config{Binary: cfg.Binary, Dir: cfg.Dir, Gateways: 2, Slots: 8, RunTime: 20 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	fake, err := NewFake(fmt.Sprintf("MARK-%d-", time.Now().UnixNano()))
	if err != nil {
		return nil, err
	}
	defer func() { _ = fake.Close() }()
	a := &attack{cfg: cfg, bench: b, fake: fake, report: &Report{}}
	if err := a.run(ctx); err != nil {
		return a.report, err
	}
	a.report.Fake = fake.Counts()
	return a.report, nil
}

type attack struct {
	cfg    Config
	bench  *harness.Bench
	fake   *Fake
	report *Report
	lives  int // of the hostile gateway
	// What tasks at other gateways took in all windows of either kind.
	honest, hostile []time.Duration

	mu     sync.Mutex
	window []time.Duration
	recent []string // run ids of the neighbours' tasks
}

func (a *attack) run(ctx context.Context) error {
	var err error
	if a.report.Idle, err = resident(a.bench.Dash.PID(), "VmRSS"); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()
	for i := range neighbours {
		workers.Go(func() { a.neighbour(ctx, i) })
	}
	if err := a.makePool(ctx); err != nil {
		return err
	}
	if err := a.register(ctx); err != nil {
		return err
	}
	workers.Go(func() { a.feed(ctx) })
	if err := harness.Pause(ctx, a.cfg.Warm); err != nil {
		return err
	}
	if a.report.Warm, err = resident(a.bench.Dash.PID(), "VmHWM"); err != nil {
		return err
	}
	a.cfg.Logf("memory: %d MiB idle, %d MiB with honest work", a.report.Idle>>20, a.report.Warm>>20)
	return a.rounds(ctx)
}

func (a *attack) makePool(ctx context.Context) error {
	away := 5
	if _, err := a.bench.Client.PutPool(ctx, pool, api.PutPool{AwaySeconds: &away}, api.WithCreateOnly()); err != nil {
		return fmt.Errorf("make the pool: %w", err)
	}
	return nil
}

func (a *attack) id() string { return fmt.Sprintf("hostile-%d", a.lives) }

// register tells the node of the hostile gateway, each time as a new one: what
// the last mode has brought it is not to be waited for.
func (a *attack) register(ctx context.Context) error {
	if a.lives > 0 {
		if err := a.bench.Client.DeleteGateway(ctx, a.id(), true); err != nil {
			return fmt.Errorf("remove the hostile gateway: %w", err)
		}
	}
	a.lives++
	url, token, n, in := a.fake.URL(), Token, slots, pool
	_, err := a.bench.Client.CreateGateway(ctx, api.CreateGateway{Id: a.id(), Url: &url, Token: &token, MaxConcurrency: &n, Pool: &in})
	if err != nil {
		return fmt.Errorf("register the hostile gateway: %w", err)
	}
	return a.bench.AwaitGateway(ctx, time.Minute, a.id(), func(g *api.Gateway) bool { return g.State == api.GatewayStateReady })
}

func (a *attack) rounds(ctx context.Context) error {
	var honest, hostile []time.Duration
	for range max(a.cfg.Rounds, 1) {
		for _, m := range Modes() {
			if !strings.Contains(m.Name, a.cfg.Only) {
				continue
			}
			r, err := a.mode(ctx, m)
			if err != nil {
				return fmt.Errorf("%s: %w", m.Name, err)
			}
			a.cfg.Logf("%-22s memory %+4d to %3d MiB, p99 %4d ms (honest %4d ms), %4d tasks, gateway %s %.100s", r.Name, r.Growth()>>20, r.Peak>>20,
				r.P99.Milliseconds(), r.Before.Milliseconds(), r.Tasks, r.State, r.Reason)
			a.report.Modes = append(a.report.Modes, r)
			honest, hostile = append(honest, r.Before), append(hostile, r.P99)
			a.report.Tasks += r.Tasks
		}
	}
	a.report.HonestMedian, a.report.HostileMedian = median(honest), median(hostile)
	slices.Sort(a.honest)
	slices.Sort(a.hostile)
	a.report.Honest, a.report.Hostile = p99(a.honest), p99(a.hostile)
	return nil
}

// mode has an honest window, then one of the mode.
func (a *attack) mode(ctx context.Context, m Mode) (ModeReport, error) {
	r := ModeReport{Name: m.Name}
	a.fake.Set(Honest)
	err := a.register(ctx)
	if err != nil {
		return r, err
	}
	before, peak, err := a.measure(ctx, a.cfg.Before)
	if err != nil {
		return r, err
	}
	r.Before, r.PeakBefore = p99(before), peak
	a.fake.Set(m)
	took, peak, err := a.measure(ctx, a.cfg.Window)
	if err != nil {
		return r, err
	}
	r.P99, r.Peak, r.Tasks = p99(took), peak, len(took)
	a.honest, a.hostile = append(a.honest, before...), append(a.hostile, took...)
	if !a.bench.Dash.Alive() {
		return r, errors.New("dash serve has ended")
	}
	if g, err := a.bench.Client.GetGateway(ctx, a.id()); err == nil {
		r.State = string(g.State)
		if g.Reason != nil {
			r.Reason = *g.Reason
		}
	}
	a.fake.Set(Honest)
	a.fake.Cut()
	return r, nil
}

// measure is what the neighbours' tasks took that end within a window, the
// shortest first, and the most memory in it.
func (a *attack) measure(ctx context.Context, window time.Duration) (took []time.Duration, peak int64, err error) {
	pid := a.bench.Dash.PID()
	if err := resetPeak(pid); err != nil {
		return nil, 0, err
	}
	a.mu.Lock()
	a.window = nil
	a.mu.Unlock()
	if err := harness.Pause(ctx, window); err != nil {
		return nil, 0, err
	}
	if peak, err = resident(pid, "VmHWM"); err != nil {
		return nil, 0, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	took, a.window = a.window, nil
	slices.Sort(took)
	return took, peak, nil
}

// p99 of what is sorted, 0 of nothing.
func p99(sorted []time.Duration) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)*99/100]
}

func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}
