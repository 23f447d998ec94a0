// Package schedule makes a backup of a store every now and then, on one node of a fleet.
package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"filippo.io/age"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/backup"
)

// Config of a schedule.
type Config struct {
	Every      time.Duration // from one backup to the next
	Keep       int           // how many archives of the series stay
	Dir        string        // of the archives; it is made
	Series     string        // the node's name
	By         string        // the version of Dash
	Recipients []age.Recipient
	Sign       func(sum []byte) backup.Signature // nil: nobody
	Open       func(context.Context) (persistence.Snapshotter, error)
	// Works is false while another node of the fleet does the work, and makes the
	// backups of the store that they share.
	Works      func() bool
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Schedule owns one goroutine from Start to Stop.
type Schedule struct {
	cfg     Config
	metrics metrics
	cancel  context.CancelFunc
	wait    sync.WaitGroup

	mu     sync.Mutex
	newest time.Time // of the newest archive in the folder
	since  time.Time // start of the schedule
	failed error     // of the last attempt
}

type metrics struct {
	last, size prometheus.Gauge
	seconds    prometheus.Gauge
	failures   prometheus.Counter
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		last:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "dash_backup_last_success_timestamp_seconds", Help: "When the newest backup of this node was begun; 0 while there is none."}),
		size:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "dash_backup_size_bytes", Help: "Size of the newest scheduled backup."}),
		seconds:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "dash_backup_duration_seconds", Help: "How long the newest scheduled backup took, its verification included."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "dash_backup_failures_total", Help: "Scheduled backups that failed."}),
	}
	r.MustRegister(m.last, m.size, m.seconds, m.failures)
	return m
}

// Start proves that the folder can be used and begins the schedule.
func Start(cfg Config) (*Schedule, error) {
	s := &Schedule{cfg: cfg, metrics: newMetrics(cfg.Registerer)}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.wait.Go(func() { s.run(ctx) })
	return s, nil
}

// Stop ends the schedule, and a backup that is under way.
func (s *Schedule) Stop() {
	s.cancel()
	s.wait.Wait()
}

// prepare proves at start that the folder can be used, and looks for what an
// earlier life of the node left in it.
func (s *Schedule) prepare() error {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("backup folder: %w; give one that can be written with --backup-dir", err)
	}
	list, err := backup.List(s.cfg.Dir, s.cfg.Series)
	if err != nil {
		return err
	}
	s.since = time.Now()
	if len(list) > 0 {
		s.newest = list[0].At
		s.metrics.last.Set(float64(s.newest.Unix()))
	}
	return nil
}

func (s *Schedule) run(ctx context.Context) {
	t := time.NewTimer(s.first())
	defer t.Stop()
	for worked := true; ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		did := worked
		switch worked = s.cfg.Works(); {
		case !worked:
			t.Reset(min(soon, s.cfg.Every))
		case !did: // it has taken over, and may have a fresh backup of an earlier turn
			t.Reset(s.first())
		default:
			s.once(ctx)
			t.Reset(s.pause())
		}
	}
}

// soon is how long after its start, or after it has taken over, a node makes a
// backup that is due.
const soon = 30 * time.Second

// first is the pause before the first backup of this life. It counts from the
// newest one of earlier lives: a node that is started anew more often than the
// interval backs its store up all the same.
func (s *Schedule) first() time.Duration {
	if s.newest.IsZero() {
		return min(soon, s.cfg.Every)
	}
	left := s.pause() - max(time.Since(s.newest), 0) // which the clock, set back, makes negative
	return max(left, min(soon, s.cfg.Every))
}

// pause is the interval, up to a tenth shorter: nodes that were started
// together do not read their store together, and no gap exceeds the interval.
func (s *Schedule) pause() time.Duration {
	return s.cfg.Every - time.Duration(rand.Int64N(int64(s.cfg.Every)/10+1))
}

// once makes a backup and removes the ones beyond the retention. It has twice
// the interval, so that one that hangs does not end the schedule.
func (s *Schedule) once(ctx context.Context) {
	call, cancel := context.WithTimeout(ctx, 2*s.cfg.Every)
	defer cancel()
	begun := time.Now()
	f, err := s.make(call, begun)
	if ctx.Err() != nil {
		return // the node stops; the next life goes on
	}
	s.mu.Lock()
	s.failed = err
	if err == nil {
		s.newest = begun
	}
	s.mu.Unlock()
	if err != nil {
		s.metrics.failures.Inc()
		s.cfg.Logger.Error("backup failed", slog.String("dir", s.cfg.Dir), slog.Any("err", err))
		return
	}
	took := time.Since(begun)
	s.metrics.last.Set(float64(begun.Unix()))
	s.metrics.size.Set(float64(f.Bytes))
	s.metrics.seconds.Set(took.Seconds())
	s.cfg.Logger.Info("backup made", slog.String("file", f.Path), slog.Int64("rows", f.Rows()), slog.Int64("bytes", f.Bytes), slog.Duration("took", took))
	removed, err := backup.Prune(s.cfg.Dir, s.cfg.Series, s.cfg.Keep)
	if err != nil {
		s.cfg.Logger.Warn("old backups could not be removed", slog.Any("err", err))
	}
	if len(removed) > 0 {
		s.cfg.Logger.Info("old backups removed", slog.Int("files", len(removed)))
	}
}

func (s *Schedule) make(ctx context.Context, at time.Time) (f *backup.File, err error) {
	src, err := s.cfg.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	path := filepath.Join(s.cfg.Dir, backup.Name(s.cfg.Series, at, len(s.cfg.Recipients) > 0))
	return backup.Create(ctx, path, src, backup.Options{By: s.cfg.By, Recipients: s.cfg.Recipients, Sign: s.cfg.Sign})
}

// Health says in words how old the newest backup is. The words begin with
// "warning: " when one is overdue: a node without a fresh backup still does its
// work, and who watches the words, the log or
// dash_backup_last_success_timestamp_seconds is warned.
func (s *Schedule) Health() string {
	if !s.cfg.Works() {
		return "the node that does the work makes the backups"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	base, detail := s.newest, "the newest backup is %s old, one is due every %s"
	if base.IsZero() {
		base, detail = s.since, "there is no backup yet; the schedule began %s ago, one is due every %s"
	}
	old := time.Since(base)
	detail = fmt.Sprintf(detail, old.Round(time.Second), s.cfg.Every)
	if old > 2*s.cfg.Every {
		detail = "warning: " + detail
	}
	if s.failed != nil {
		detail += "; the last attempt failed, see the log"
	}
	return detail
}
