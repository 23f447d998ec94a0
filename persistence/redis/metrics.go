package redis

import (
	"github.com/dash-fleet/dash/persistence/internal/storemetrics"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	storemetrics.Metrics
	unknown prometheus.Counter
	losses  prometheus.Counter
	drained prometheus.Counter
	dropped prometheus.Counter
	lag     prometheus.Gauge
}

func newMetrics(db *DB) *metrics {
	m := &metrics{
		Metrics: storemetrics.New(),
		unknown: counter("dash_store_unknown_total", "Answers to batches that were lost; the batch was sent again under the same number."),
		losses:  counter("dash_store_data_losses_total", "Times the server came back with less than it had acknowledged."),
		drained: counter("dash_store_history_saved_total", "Accepted or ended tasks saved in the task history."),
		dropped: counter("dash_store_history_unremembered_total", "Accepted or ended tasks that are not yet in the task history and no longer remembered by this process, because it is too far behind."),
		lag:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "dash_store_history_lag_seconds", Help: "Age of the oldest change that the task history does not have."}),
	}
	m.Register(db.cfg.Registerer, m.unknown, m.losses, m.drained, m.dropped, m.lag,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "dash_store_loss_window_seconds", Help: "Span of acknowledged writes that may be lost with the server's settings, as accepted; 0: none."},
			func() float64 { return db.Loss().Window.Seconds() }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "dash_store_data_lost", Help: "1 while writes are refused because the server has lost data."}, func() float64 {
			if db.Lost() != nil {
				return 1
			}
			return 0
		}))
	return m
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}
