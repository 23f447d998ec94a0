package main

import (
	"math"
	"time"

	"github.com/dash-fleet/dash/soak/harness"
	"github.com/dash-fleet/dash/soak/report"
)

// bins is into how many parts the time is cut for rates and percentiles.
const bins = 60

// plots draws everything over the time from the first submit to the last end.
func (m *measure) plots() []report.Plot {
	list := []report.Plot{
		{Title: "Throughput", Unit: "tasks/s", Note: "Accepted tasks and tasks that reached a terminal state.", Series: m.throughput()},
		{Title: "Submit latency", Unit: "s", Log: true, Series: []report.Series{m.submitting("p99", 0.99), m.submitting("p50", 0.5)},
			Note: "From the planned time of a submit to its 202, by the planned time."},
		{Title: "Start latency, p99 by class", Unit: "s", Log: true, Series: m.starting(0.99),
			Note: "From the planned submit to the model call at the gateway, by the time of the submit. Lower classes wait first."},
		{Title: "Start latency, p50 by class", Unit: "s", Log: true, Series: m.starting(0.5), Note: "The same, median."},
	}
	depth := make([]report.Series, len(harness.Classes))
	for i, c := range harness.Classes {
		depth[i] = m.sampled(string(c), func(_, s *harness.Sample) float64 { return float64(s.Depth[i]) })
	}
	return append(list,
		report.Plot{Title: "Depth by class", Unit: "tasks", Note: "Tasks that wait for a gateway.", Series: depth},
		report.Plot{Title: "In flight", Unit: "tasks", Note: "Tasks at gateways.", Series: []report.Series{
			m.sampled("at gateways", func(_, s *harness.Sample) float64 { return float64(s.Running) })}},
		report.Plot{Title: "Commit latency", Unit: "ms", Log: true, Note: "Time to make one batch durable, from dash_store_commit_seconds.", Series: []report.Series{
			m.sampled("p99", commit(0.99)), m.sampled("p50", commit(0.5))}},
		report.Plot{Title: "Memory of dash serve", Unit: "MiB", Note: "Resident set.", Series: []report.Series{
			m.sampled("RSS", func(_, s *harness.Sample) float64 { return float64(s.RSS) / (1 << 20) })}},
		report.Plot{Title: "CPU", Unit: "cores", Note: "Cores used by dash serve and by the simulated gateways.", Series: []report.Series{
			m.sampled("dash serve", func(a, b *harness.Sample) float64 {
				return rate(a, b, func(s *harness.Sample) float64 { return s.CPU })
			}),
			m.sampled("simulated gateways", func(a, b *harness.Sample) float64 {
				return rate(a, b, func(s *harness.Sample) float64 { return s.SimCPU })
			}),
		}},
		report.Plot{Title: "Goroutines of dash serve", Note: "From its metrics.", Series: []report.Series{
			m.sampled("goroutines", func(_, s *harness.Sample) float64 { return s.Goroutines })}},
	)
}

func commit(q float64) func(a, b *harness.Sample) float64 {
	return func(a, b *harness.Sample) float64 {
		if a == nil || a.Life != b.Life {
			return math.NaN()
		}
		return 1000 * b.Commits.Quantile(q, a.Commits)
	}
}

func rate(a, b *harness.Sample, of func(*harness.Sample) float64) float64 {
	if a == nil || a.Life != b.Life {
		return math.NaN()
	}
	return (of(b) - of(a)) / b.At.Sub(a.At).Seconds()
}

// sampled makes a series of the samples; of gets the one before, too.
func (m *measure) sampled(name string, of func(before, now *harness.Sample) float64) report.Series {
	s := report.Series{Name: name}
	var before *harness.Sample
	for i := range m.got.samples {
		now := &m.got.samples[i]
		if before != nil && now.At.Sub(before.At) > 3*time.Second { // the node did not answer
			s.X, s.Y = append(s.X, m.since(before.At)+1), append(s.Y, math.NaN())
		}
		s.X, s.Y = append(s.X, m.since(now.At)), append(s.Y, of(before, now))
		before = now
	}
	return s
}

func (m *measure) since(t time.Time) float64 { return t.Sub(m.got.began).Seconds() }

// end is the time of the last sample or event, at least one second.
func (m *measure) end() float64 {
	end := 1.0
	for i := range m.got.samples {
		end = max(end, m.since(m.got.samples[i].At))
	}
	return end
}

func (m *measure) throughput() []report.Series {
	width := m.end() / bins
	accepted, ended := make([]float64, bins), make([]float64, bins)
	for i := range m.got.history.Events {
		e := &m.got.history.Events[i]
		bin := int(m.since(e.Time) / width)
		if e.Type != "task.state" || bin < 0 || bin >= bins {
			continue
		}
		switch {
		case e.From == "":
			accepted[bin] += 1 / width
		case e.State == "succeeded", e.State == "dead_letter", e.State == "cancelled", e.State == "expired":
			ended[bin] += 1 / width
		}
	}
	return []report.Series{binned("accepted", accepted, width), binned("ended", ended, width)}
}

func binned(name string, values []float64, width float64) report.Series {
	s := report.Series{Name: name, Y: values}
	for i := range values {
		s.X = append(s.X, (float64(i)+0.5)*width)
	}
	return s
}

// submitting is a quantile of the time until a submit was accepted.
func (m *measure) submitting(name string, q float64) report.Series {
	width := m.end() / bins
	var waits [bins][]float64
	for i := range m.got.history.Submits {
		s := &m.got.history.Submits[i]
		if bin := int(m.since(s.Sent) / width); s.Task != "" && bin >= 0 && bin < bins {
			waits[bin] = append(waits[bin], s.Answered.Sub(s.Sent).Seconds())
		}
	}
	values := make([]float64, bins)
	for bin := range values {
		values[bin] = quantile(waits[bin], q)
	}
	return binned(name, values, width)
}

// starting is a quantile of the start latency, by class and time.
func (m *measure) starting(q float64) []report.Series {
	width := m.end() / bins
	waits := make([][bins][]float64, len(harness.Classes))
	for _, s := range m.starts {
		if bin := int(s.at / width); s.class >= 0 && bin >= 0 && bin < bins {
			waits[s.class][bin] = append(waits[s.class][bin], s.wait)
		}
	}
	list := make([]report.Series, len(harness.Classes))
	for c, name := range harness.Classes {
		values := make([]float64, bins)
		for bin := range values {
			values[bin] = quantile(waits[c][bin], q)
		}
		list[c] = binned(string(name), values, width)
	}
	return list
}
