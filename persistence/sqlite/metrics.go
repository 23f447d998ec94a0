package sqlite

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	reg        prometheus.Registerer
	all        []prometheus.Collector
	commit     prometheus.Histogram
	batch      prometheus.Histogram
	fenced     prometheus.Counter
	failed     prometheus.Counter
	checkpoint prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, dir string) *metrics {
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
		checkpoint: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dash_store_checkpoint_seconds", Help: "Time to copy the write-ahead log into the database.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
	}
	m.all = []prometheus.Collector{
		m.commit, m.batch, m.fenced, m.failed, m.checkpoint,
		fileSize("dash_store_size_bytes", "Size of the database file.", filepath.Join(dir, FileName)),
		fileSize("dash_store_wal_bytes", "Size of the write-ahead log file.", filepath.Join(dir, FileName+"-wal")),
	}
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

// fileSize reads the size when it is scraped; a file that is not there has 0.
func fileSize(name, help, path string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
		info, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			return 0
		}
		if err != nil {
			return -1
		}
		return float64(info.Size())
	})
}
