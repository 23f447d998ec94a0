package commit

import "github.com/prometheus/client_golang/prometheus"

// Metrics of a committer.
type Metrics struct {
	pending prometheus.Gauge
	refused prometheus.Counter
	failed  prometheus.Counter
}

// NewMetrics registers the committer's metrics with r; a nil r registers nowhere.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		pending: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "dash_commit_pending", Help: "Operations that wait for the store.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_commit_refused_total", Help: "Operations refused because too many waited.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_commit_failures_total", Help: "Batches that the store did not take.",
		}),
	}
	if r != nil {
		r.MustRegister(m.pending, m.refused, m.failed)
	}
	return m
}
