package main

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw/openclawtest"
	"github.com/dash-fleet/dash/soak/harness"
	"github.com/dash-fleet/dash/soak/report"
)

// apiP99 is the gate of every profile.
const apiP99 = 200 * time.Millisecond

func (o *options) report(got *outcome) *report.Report {
	m := newMeasure(o, got)
	r := &report.Report{
		Profile: o.profile.name, Began: got.began.UTC(), Seconds: got.loaded.Seconds(), Machine: machineName(),
		Gateways: o.profile.gateways, Slots: o.profile.gateways * o.profile.slots, Rate: o.loadConfig().Rate,
		Verdict: got.verdict, Faults: got.faults,
	}
	r.Resilience = recoveries(got.faults, got.history, got.began, got.verdict.OK() && got.late == nil)
	r.Gates = m.gates()
	r.Passed = !slices.ContainsFunc(r.Gates, func(g report.Gate) bool { return !g.Passed })
	r.Figures, r.Limits, r.Plots = m.figures(), m.limits(), m.plots()
	r.Bottleneck = report.Bottleneck(r.Limits)
	return r
}

// measure holds what gates, figures and plots are computed from.
type measure struct {
	o       *options
	got     *outcome
	starts  []start
	api     time.Duration // p99 of submits from their planned times
	read    time.Duration // p99 of GET /queue
	fsync   float64       // p99 of the disk itself, seconds
	rss     int64         // peak
	cpu     float64       // of dash serve, share of the machine while loaded
	simCPU  float64
	own     float64 // of this process
	machine float64
	commits float64 // share of the time in which a batch was under way
	flight  float64 // mean share of the slots, while loaded
}

// start is how long a task waited from its planned submit to its first model call.
type start struct {
	at    float64 // seconds since the beginning, of the submit
	class int
	wait  float64 // seconds
}

func newMeasure(o *options, got *outcome) *measure {
	m := &measure{o: o, got: got, api: micros(got.latency.ValueAtQuantile(99)), starts: startsOf(got)}
	var reads, syncs []float64
	loaded := got.samples[:0:0]
	for _, s := range got.samples {
		m.rss = max(m.rss, s.RSS)
		reads, syncs = append(reads, s.Read.Seconds()), append(syncs, s.Fsync.Seconds())
		if s.At.Sub(got.began) <= got.loaded {
			loaded = append(loaded, s)
			m.flight += float64(s.Running)
		}
	}
	m.read = time.Duration(quantile(reads, 0.99) * float64(time.Second))
	m.fsync = quantile(syncs, 0.99)
	if n := len(loaded); n > 0 {
		m.flight /= float64(n * o.profile.gateways * o.profile.slots)
	}
	m.shares(loaded)
	return m
}

// shares adds up CPU and commit time, life by life of the process.
func (m *measure) shares(loaded []harness.Sample) {
	var dash, sim, own, all, capacity, commits, elapsed float64
	for i := 1; i < len(loaded); i++ {
		a, b := &loaded[i-1], &loaded[i]
		sim += max(0, b.SimCPU-a.SimCPU)
		own += max(0, b.OwnCPU-a.OwnCPU)
		all += b.MachineCPU - a.MachineCPU
		capacity += b.Capacity - a.Capacity
		elapsed += b.At.Sub(a.At).Seconds()
		if a.Life != b.Life {
			dash += b.CPU
			commits += b.Commits.Sum
			continue
		}
		dash += b.CPU - a.CPU
		commits += b.Commits.Sum - a.Commits.Sum
	}
	if capacity > 0 && elapsed > 0 {
		cores := elapsed * float64(runtime.NumCPU())
		m.cpu, m.simCPU, m.own, m.machine, m.commits = dash/cores, sim/cores, own/cores, all/capacity, min(1, commits/elapsed)
	}
}

// startsOf joins clients and ground truth: the first model call of each task.
func startsOf(got *outcome) []start {
	first := map[string]time.Time{}
	for i := range got.history.Lines {
		l := &got.history.Lines[i]
		if l.Event != openclawtest.LogStarted {
			continue
		}
		id := l.RunID
		if i := lastDot(id); i > 0 {
			id = id[:i]
		}
		if _, ok := first[id]; !ok {
			first[id] = l.Time
		}
	}
	var list []start
	for i := range got.history.Submits {
		s := &got.history.Submits[i]
		if at, ok := first[s.Task]; ok && s.Task != "" {
			list = append(list, start{at: s.Sent.Sub(got.began).Seconds(), class: slices.Index(harness.Classes, s.Class), wait: at.Sub(s.Sent).Seconds()})
		}
	}
	return list
}

func lastDot(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '.' {
			return i
		}
	}
	return -1
}

// quantile of unsorted values, NaN for none.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(values))
	return v[min(len(v)-1, int(q*float64(len(v))))]
}

func (m *measure) gates() []report.Gate {
	v := m.got.verdict
	broken := 0
	for _, n := range v.Broken {
		broken += n
	}
	ended := "all"
	if m.got.late != nil {
		ended = m.got.late.Error()
	}
	list := []report.Gate{
		{Name: "judge", Want: "no broken promise", Got: fmt.Sprintf("%d broken", broken), Passed: v.OK()},
		{Name: "every accepted task ends", Want: "all", Got: ended, Passed: m.got.late == nil},
		{Name: "something was accepted", Want: "tasks", Got: fmt.Sprint(v.Counts.Accepted), Passed: v.Counts.Accepted > 0},
		{Name: "submit p99", Want: "< " + apiP99.String(), Got: m.api.String(), Passed: m.api < apiP99},
		{Name: "read p99 (GET /queue)", Want: "< " + apiP99.String(), Got: m.read.Round(100 * time.Microsecond).String(), Passed: m.read < apiP99},
	}
	p := &m.o.profile
	if p.maxRSS > 0 {
		list = append(list, report.Gate{Name: "RSS of dash serve", Want: "< " + bytes(p.maxRSS), Got: bytes(m.rss), Passed: m.rss < p.maxRSS})
	}
	if p.maxCPU > 0 {
		list = append(list, report.Gate{Name: "CPU of dash serve", Want: fmt.Sprintf("< %.0f %% of the machine", 100*p.maxCPU),
			Got: fmt.Sprintf("%.1f %%", 100*m.cpu), Passed: m.cpu < p.maxCPU})
	}
	// Shorter runs do not reach the plateau.
	if p.minFlight > 0 && m.o.duration >= 2*p.runTime {
		n := v.Counts.PeakInFlight
		list = append(list, report.Gate{Name: "in flight at the plateau", Want: fmt.Sprintf(">= %d", p.minFlight), Got: fmt.Sprint(n), Passed: n >= p.minFlight})
	}
	if len(m.got.faults) > 0 {
		back := 0
		for _, f := range m.got.faults {
			if f.Recovery > 0 {
				back++
			}
		}
		list = append(list, report.Gate{Name: "work goes on after each fault", Want: fmt.Sprint(len(m.got.faults)), Got: fmt.Sprint(back), Passed: back == len(m.got.faults)})
	}
	return list
}

func bytes(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

func (m *measure) figures() []report.Figure {
	c := &m.got.verdict.Counts
	var waits []float64
	for _, s := range m.starts {
		waits = append(waits, s.wait)
	}
	ms := func(v float64) string { return fmt.Sprintf("%.1f ms", 1000*v) }
	p50, p99 := quantile(waits, 0.5), quantile(waits, 0.99)
	var commits harness.Buckets
	if n := len(m.got.samples); n > 0 {
		commits = m.got.samples[n-1].Commits
	}
	commit := commits.Quantile(0.99, harness.Buckets{})
	late := float64(m.got.begun.ValueAtQuantile(99)) / 1e6
	ended := float64(c.States["succeeded"]) / m.got.loaded.Seconds()
	return []report.Figure{
		{Name: "tasks accepted", Value: float64(c.Accepted), Text: fmt.Sprint(c.Accepted)},
		{Name: "succeeded per second of load", Value: ended, Unit: "1/s", Text: fmt.Sprintf("%.0f /s", ended)},
		{Name: "submit p50", Value: m.p(50), Unit: "s", Text: ms(m.p(50))},
		{Name: "submit p99", Value: m.p(99), Unit: "s", Text: ms(m.p(99))},
		{Name: "submits begun late by the harness p99", Value: late, Unit: "s", Text: ms(late)},
		{Name: "submit to model call p50", Value: p50, Unit: "s", Text: ms(p50)},
		{Name: "submit to model call p99", Value: p99, Unit: "s", Text: ms(p99)},
		{Name: "peak in flight", Value: float64(c.PeakInFlight), Text: fmt.Sprint(c.PeakInFlight)},
		{Name: "commit p99", Value: commit, Unit: "s", Text: ms(commit)},
		{Name: "the disk's own fsync p99", Value: m.fsync, Unit: "s", Text: ms(m.fsync)},
		{Name: "peak RSS of dash serve", Value: float64(m.rss), Unit: "B", Text: bytes(m.rss)},
		{Name: "CPU of dash serve, of the machine", Value: m.cpu, Text: fmt.Sprintf("%.0f %%", 100*m.cpu)},
	}
}

// p is a percentile of the submits' latency in seconds.
func (m *measure) p(q float64) float64 { return float64(m.got.latency.ValueAtQuantile(q)) / 1e6 }

func (m *measure) limits() []report.Utilisation {
	return []report.Utilisation{
		{Name: "gateway slots", Used: m.flight, Note: "mean of tasks at gateways by all slots; beyond it tasks wait in their class"},
		{Name: "CPU of the machine", Used: m.machine, Note: fmt.Sprintf("dash serve %.0f %%, simulated gateways %.0f %%, this harness %.0f %%, the rest is others'", 100*m.cpu, 100*m.simCPU, 100*m.own)},
		{Name: "store commits", Used: m.commits, Note: "share of the time in which a batch was being made durable"},
	}
}
