package postgres

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	reg     prometheus.Registerer
	all     []prometheus.Collector
	commit  prometheus.Histogram
	batch   prometheus.Histogram
	fenced  prometheus.Counter
	failed  prometheus.Counter
	retries prometheus.Counter
	unknown *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		reg: reg,
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dash_store_commit_seconds", Help: "Time to make one batch durable, waiting for the writer included.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dash_store_batch_size", Help: "Operations per committed batch.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 13),
		}),
		fenced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_fenced_writes_total", Help: "Operations refused because their writer no longer owned what it wrote to.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_store_errors_total", Help: "Batches that the store could not make durable.",
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_store_retries_total", Help: "Batches sent again: serialization failures, dead-locks, ops that did not fit.",
		}),
		unknown: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dash_store_unknown_commits_total", Help: "Commits whose answer was lost, by what reading back found.",
		}, []string{"found"}),
	}
	for _, found := range []string{"kept", "not_kept"} {
		m.unknown.WithLabelValues(found)
	}
	m.all = []prometheus.Collector{m.commit, m.batch, m.fenced, m.failed, m.retries, m.unknown}
	if reg != nil {
		for _, c := range m.all {
			reg.MustRegister(c)
		}
	}
	return m
}

func (m *metrics) unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}
