package postgres

import (
	"github.com/dash-fleet/dash/persistence/internal/storemetrics"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	storemetrics.Metrics
	retries prometheus.Counter
	unknown *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		Metrics: storemetrics.New(),
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
	m.Register(reg, m.retries, m.unknown)
	return m
}
