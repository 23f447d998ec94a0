package main

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/dash-fleet/dash/soak/judge"
	"github.com/dash-fleet/dash/soak/report"
)

// TestASmallRun goes the whole way: processes, load, faults, judge, report.
func TestASmallRun(t *testing.T) {
	dir := t.TempDir()
	binary := os.Getenv("DASH_BINARY")
	if binary == "" {
		binary = filepath.Join(dir, "dash")
		build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", binary, "../../../cmd/dash")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build dash: %v\n%s", err, out)
		}
	}
	o := options{binary: binary, out: dir, duration: 8 * time.Second, faults: []string{"gateway-kill"}, seed: 1,
		profile: profile{name: "small", gateways: 3, slots: 4, runTime: 100 * time.Millisecond, spread: true, rate: 20, surge: 2, sessionShare: 0.2, sessions: 5}}
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	got, err := o.drive(t.Context(), work)
	if err != nil {
		t.Fatal(err)
	}
	r := o.report(got)
	// How fast a busy machine is, is no matter of this test.
	for _, g := range r.Gates {
		if !g.Passed && g.Name != "submit p99" && g.Name != "read p99 (GET /queue)" {
			t.Errorf("gate %s: got %s, want %s", g.Name, g.Got, g.Want)
		}
	}
	if err := r.Verdict.Err(); err != nil {
		t.Error(err)
	}
	if r.Resilience == nil || r.Resilience.Injected == 0 || r.Resilience.Survived != r.Resilience.Injected {
		t.Errorf("resilience %+v", r.Resilience)
	}
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil || !json.Valid(data) {
		t.Fatalf("report.json: %v", err)
	}
	if r.Verdict.Counts.Accepted < 100 || len(got.samples) < 5 {
		t.Errorf("%d tasks and %d samples in eight seconds", r.Verdict.Counts.Accepted, len(got.samples))
	}
}

func TestGatesFail(t *testing.T) {
	t.Parallel()
	p, err := profileOf("10k")
	if err != nil {
		t.Fatal(err)
	}
	o := &options{profile: p, duration: 2 * time.Minute}
	m := &measure{o: o, got: &outcome{verdict: &judge.Verdict{Broken: map[judge.Rule]int{judge.RuleLost: 1}, Counts: judge.Counts{PeakInFlight: 10}},
		late: os.ErrDeadlineExceeded, faults: []report.Fault{{Kind: "hang"}}}, api: time.Second, read: time.Second, rss: 2 << 30, cpu: 0.9}
	for _, g := range m.gates() {
		if g.Passed {
			t.Errorf("gate %s passed with %s, wanted %s", g.Name, g.Got, g.Want)
		}
	}
}

func TestProfilesAndFaultsByName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"10", "20", "25", "50", "100", "10k"} {
		if _, err := profileOf(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := profileOf("11"); err == nil {
		t.Error("profile 11 exists")
	}
	if got, err := faultsOf("hang, dash-kill"); err != nil || len(got) != 2 {
		t.Errorf("faults %v, %v", got, err)
	}
	if _, err := faultsOf("hang,rain"); err == nil {
		t.Error("fault rain exists")
	}
}

func TestRecoveries(t *testing.T) {
	t.Parallel()
	began := time.Unix(100, 0)
	at := func(s float64, gateway string) judge.Event {
		return judge.Event{Type: "task.state", State: "succeeded", Gateway: gateway, Time: began.Add(time.Duration(s * float64(time.Second)))}
	}
	h := &judge.History{Events: []judge.Event{at(1, "sim-0"), at(4, "sim-1"), at(6, "sim-0")}}
	faults := []report.Fault{{Kind: "hang", Target: "sim-0", At: 1, Seconds: 2}, {Kind: dashKill, Target: "dash serve", At: 1, Seconds: 2}, {Kind: "hang", Target: "sim-2", At: 1, Seconds: 1}}
	r := recoveries(faults, h, began, true)
	if r.Survived != 2 || r.Longest != 3 || faults[0].Recovery != 3 || faults[1].Recovery != 1 || faults[2].Survived {
		t.Errorf("recoveries %+v of %+v", r, faults)
	}
	if r := recoveries(faults, h, began, false); r.Survived != 0 {
		t.Errorf("faults survived although the judge found broken promises: %+v", r)
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	if got := quantile([]float64{3, 1, 2}, 0.5); got != 2 {
		t.Errorf("median %g", got)
	}
	if got := quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("median of nothing %g", got)
	}
}
