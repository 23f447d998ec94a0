package sqlite

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/dash-fleet/dash/persistence/internal/storemetrics"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	storemetrics.Metrics
	checkpoint prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, dir string) *metrics {
	m := &metrics{
		Metrics: storemetrics.New(),
		checkpoint: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dash_store_checkpoint_seconds", Help: "Time to copy the write-ahead log into the database.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
	}
	m.Register(reg, m.checkpoint,
		fileSize("dash_store_size_bytes", "Size of the database file.", filepath.Join(dir, FileName)),
		fileSize("dash_store_wal_bytes", "Size of the write-ahead log file.", filepath.Join(dir, FileName+"-wal")))
	return m
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
