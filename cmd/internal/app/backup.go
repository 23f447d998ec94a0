package app

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

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/backup"
)

// backups makes a backup every now and then. It owns one goroutine.
type backups struct {
	every      time.Duration
	keep       int
	dir        string
	series     string // the node's name
	by         string
	recipients []age.Recipient
	sign       func(sum []byte) backup.Signature // nil: nobody
	open       func(context.Context) (persistence.Snapshotter, error)
	logger     *slog.Logger
	metrics    backupMetrics

	mu     sync.Mutex
	newest time.Time // of the newest archive in dir
	since  time.Time // start of the schedule
	failed error     // of the last attempt
}

type backupMetrics struct {
	last, size prometheus.Gauge
	seconds    prometheus.Gauge
	failures   prometheus.Counter
}

func newBackupMetrics(r prometheus.Registerer) backupMetrics {
	m := backupMetrics{
		last:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "dash_backup_last_success_timestamp_seconds", Help: "When the newest backup of this node was begun; 0 while there is none."}),
		size:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "dash_backup_size_bytes", Help: "Size of the newest scheduled backup."}),
		seconds:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "dash_backup_duration_seconds", Help: "How long the newest scheduled backup took, its verification included."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "dash_backup_failures_total", Help: "Scheduled backups that failed."}),
	}
	r.MustRegister(m.last, m.size, m.seconds, m.failures)
	return m
}

// startBackups begins the schedule if there is one.
func (a *App) startBackups() error {
	if a.cfg.BackupEvery <= 0 {
		return nil
	}
	recipients, err := backup.ParseRecipients(a.cfg.BackupEncryptTo)
	if err != nil {
		return fmt.Errorf("backup-encrypt-to: %w", err)
	}
	b := &backups{
		every: a.cfg.BackupEvery, keep: a.cfg.BackupKeep, dir: a.cfg.BackupDir, series: a.cfg.Node, by: a.deps.Version, recipients: recipients, sign: signWith(a.signer),
		open:   func(ctx context.Context) (persistence.Snapshotter, error) { return OpenSource(ctx, a.cfg) },
		logger: a.logger, metrics: newBackupMetrics(a.deps.Registry),
	}
	if b.dir == "" {
		b.dir = filepath.Join(a.cfg.Data, "backups")
	}
	if err := b.prepare(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.run(ctx)
	}()
	a.backups = b
	a.cleanup.add("backups", func(context.Context) error { cancel(); <-done; return nil })
	return nil
}

// prepare proves at start that the folder can be used, and looks for what an
// earlier life of the node left in it.
func (b *backups) prepare() error {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return fmt.Errorf("backup folder: %w; give one that can be written with --backup-dir", err)
	}
	list, err := backup.List(b.dir, b.series)
	if err != nil {
		return err
	}
	b.since = time.Now()
	if len(list) > 0 {
		b.newest = list[0].At
		b.metrics.last.Set(float64(b.newest.Unix()))
	}
	return nil
}

func (b *backups) run(ctx context.Context) {
	t := time.NewTimer(b.first())
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		b.once(ctx)
		t.Reset(b.pause())
	}
}

// soon is how long after its start a node makes a backup that is due.
const soon = 30 * time.Second

// first is the pause before the first backup of this life. It counts from the
// newest one of earlier lives: a node that is started anew more often than the
// interval backs its store up all the same.
func (b *backups) first() time.Duration {
	if b.newest.IsZero() {
		return min(soon, b.every)
	}
	left := b.pause() - max(time.Since(b.newest), 0) // which the clock, set back, makes negative
	return max(left, min(soon, b.every))
}

// pause is the interval, up to a tenth shorter: nodes that were started
// together do not read their store together, and no gap exceeds the interval.
func (b *backups) pause() time.Duration {
	return b.every - time.Duration(rand.Int64N(int64(b.every)/10+1))
}

// once makes a backup and removes the ones beyond the retention. It has twice
// the interval, so that one that hangs does not end the schedule.
func (b *backups) once(ctx context.Context) {
	call, cancel := context.WithTimeout(ctx, 2*b.every)
	defer cancel()
	begun := time.Now()
	f, err := b.make(call, begun)
	if ctx.Err() != nil {
		return // the node stops; the next life goes on
	}
	b.mu.Lock()
	b.failed = err
	if err == nil {
		b.newest = begun
	}
	b.mu.Unlock()
	if err != nil {
		b.metrics.failures.Inc()
		b.logger.Error("backup failed", slog.String("dir", b.dir), slog.Any("err", err))
		return
	}
	took := time.Since(begun)
	b.metrics.last.Set(float64(begun.Unix()))
	b.metrics.size.Set(float64(f.Bytes))
	b.metrics.seconds.Set(took.Seconds())
	b.logger.Info("backup made", slog.String("file", f.Path), slog.Int64("rows", f.Rows()), slog.Int64("bytes", f.Bytes), slog.Duration("took", took))
	removed, err := backup.Prune(b.dir, b.series, b.keep)
	if err != nil {
		b.logger.Warn("old backups could not be removed", slog.Any("err", err))
	}
	if len(removed) > 0 {
		b.logger.Info("old backups removed", slog.Int("files", len(removed)))
	}
}

func (b *backups) make(ctx context.Context, at time.Time) (f *backup.File, err error) {
	src, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	path := filepath.Join(b.dir, backup.Name(b.series, at, len(b.recipients) > 0))
	return backup.Create(ctx, path, src, backup.Options{By: b.by, Recipients: b.recipients, Sign: b.sign})
}

// check tells of backups on /health. It never fails: a node without a fresh
// backup still does its work, and who watches the words, the log or
// dash_backup_last_success_timestamp_seconds is warned.
func (b *backups) check() server.Check {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := server.Check{Name: "backup", OK: true}
	base, what := b.newest, "the newest backup is"
	if base.IsZero() {
		base, what = b.since, "there is no backup yet; the schedule began"
	}
	old := time.Since(base)
	c.Detail = fmt.Sprintf("%s %s old, one is due every %s", what, old.Round(time.Second), b.every)
	if b.newest.IsZero() {
		c.Detail = fmt.Sprintf("%s %s ago, one is due every %s", what, old.Round(time.Second), b.every)
	}
	if old > 2*b.every {
		c.Detail = "warning: " + c.Detail
	}
	if b.failed != nil {
		c.Detail += "; the last attempt failed, see the log"
	}
	return c
}
