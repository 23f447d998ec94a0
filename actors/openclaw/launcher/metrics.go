package launcher

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	processes prometheus.Gauge
	starts    *prometheus.CounterVec
	adoptions prometheus.Counter
	exits     *prometheus.CounterVec
	boot      prometheus.Histogram
}

// newMetrics registers the launcher's metrics with r; a nil r registers nowhere.
func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		processes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "dash_launcher_processes", Help: "Gateway processes that are watched now.",
		}),
		starts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dash_launcher_starts_total", Help: "Starts of gateway processes by result: ready, late, ended, config, port, interrupted, failed.",
		}, []string{"result"}),
		adoptions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_launcher_adoptions_total", Help: "Gateway processes taken over from an earlier Dash process.",
		}),
		exits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dash_launcher_exits_total", Help: "Ends of gateway processes by kind: requested, clean, config, failed, signal, unknown.",
		}, []string{"kind"}),
		boot: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dash_launcher_boot_seconds", Help: "Time from the start of a gateway process until it was ready.",
			Buckets: []float64{0.25, 1, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180},
		}),
	}
	if r != nil {
		r.MustRegister(m.processes, m.starts, m.adoptions, m.exits, m.boot)
	}
	return m
}
