// Package storemetrics holds the metrics that every engine has, so that they
// mean the same under every engine.
package storemetrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of one open store.
type Metrics struct {
	Fenced prometheus.Counter // operations
	Failed prometheus.Counter // batches

	commit, batch prometheus.Histogram

	reg prometheus.Registerer
	all []prometheus.Collector
}

// New makes the metrics; nothing is registered yet.
func New() Metrics {
	return Metrics{
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dash_store_commit_seconds", Help: "Time to make one batch durable, waiting for the writer included.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dash_store_batch_size", Help: "Operations per committed batch.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 13),
		}),
		Fenced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_fenced_writes_total", Help: "Operations refused because their writer no longer owned what it wrote to.",
		}),
		Failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_store_errors_total", Help: "Batches that the store could not make durable.",
		}),
	}
}

// Register registers the metrics and the engine's own with reg; a nil reg
// registers nowhere.
func (m *Metrics) Register(reg prometheus.Registerer, own ...prometheus.Collector) {
	m.reg, m.all = reg, append(own, m.commit, m.batch, m.Fenced, m.Failed)
	if reg != nil {
		reg.MustRegister(m.all...)
	}
}

// Unregister undoes Register.
func (m *Metrics) Unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}

// Committed counts a batch of n operations, begun at start, that is durable now.
func (m *Metrics) Committed(start time.Time, n int) {
	m.commit.Observe(time.Since(start).Seconds())
	m.batch.Observe(float64(n))
}
