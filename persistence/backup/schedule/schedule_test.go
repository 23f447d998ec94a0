package schedule

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/backup"
	"github.com/dash-fleet/dash/persistence/sqlite"
)

// TestScheduledBackups: archives appear, the oldest go, /health tells how old
// the newest is, and a failure removes nothing.
func TestScheduledBackups(t *testing.T) {
	t.Parallel()
	data, dir := t.TempDir(), t.TempDir()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Dir: data})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	works := true
	s := &Schedule{metrics: newMetrics(prometheus.NewRegistry()), cfg: Config{
		Works: func() bool { return works },
		Every: time.Hour, Keep: 2, Dir: dir, Series: "n", Logger: slog.New(slog.DiscardHandler),
		Open: func(ctx context.Context) (persistence.Snapshotter, error) { return sqlite.OpenSource(ctx, data) },
	}}
	if err := s.prepare(); err != nil {
		t.Fatal(err)
	}
	if c := s.Health(); !strings.HasPrefix(c, "there is no backup yet") {
		t.Errorf("before the first: %q", c)
	}
	for day := range 3 { // of earlier lives of the node
		src, err := s.cfg.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		path := dir + "/" + backup.Name("n", time.Now().AddDate(0, 0, day-5), false)
		if _, err := backup.Create(t.Context(), path, src, backup.Options{}); err != nil {
			t.Fatal(err)
		}
		if err := src.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.prepare(); err != nil {
		t.Fatal(err)
	}
	if c := s.Health(); !strings.HasPrefix(c, "warning: the newest backup is 72h0m") {
		t.Errorf("with an old one: %q", c)
	}
	if works = false; s.Health() != "the node that does the work makes the backups" {
		t.Errorf("while it stands by: %q", s.Health())
	}
	works = true
	s.once(t.Context())
	list, err := backup.List(dir, "n")
	if err != nil || len(list) != 2 || time.Since(list[0].At) > time.Hour {
		t.Errorf("after one backup: %v %v", list, err)
	}
	if c := s.Health(); strings.Contains(c, "warning") || !strings.HasPrefix(c, "the newest backup is") {
		t.Errorf("with a fresh one: %q", c)
	}
	s.cfg.Open = func(context.Context) (persistence.Snapshotter, error) { return nil, errors.New("no store") }
	s.once(t.Context())
	if c := s.Health(); !strings.Contains(c, "the last attempt failed") {
		t.Errorf("after a failure: %q", c)
	}
	if left, err := backup.List(dir, "n"); err != nil || len(left) != 2 {
		t.Errorf("a failure left %v, %v", left, err)
	}
	for range 100 {
		if p := s.pause(); p > s.cfg.Every || p < s.cfg.Every*9/10 {
			t.Fatalf("pause %s of %s", p, s.cfg.Every)
		}
	}
}

// TestFirstBackup: a node that is started again and again before the interval is
// over makes its backups all the same, and none too often.
func TestFirstBackup(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for what, c := range map[string]struct {
		every       time.Duration
		newest      time.Time
		least, most time.Duration
	}{
		"there is none":             {4 * time.Hour, time.Time{}, soon, soon},
		"none, and a short pause":   {time.Second, time.Time{}, time.Second, time.Second},
		"long overdue":              {4 * time.Hour, now.Add(-48 * time.Hour), soon, soon},
		"due in an hour":            {4 * time.Hour, now.Add(-3 * time.Hour), 30 * time.Minute, time.Hour},
		"made just now":             {4 * time.Hour, now, 3 * time.Hour, 4 * time.Hour},
		"by a clock that ran ahead": {4 * time.Hour, now.Add(9 * time.Hour), 3 * time.Hour, 4 * time.Hour},
	} {
		s := &Schedule{cfg: Config{Every: c.every}, newest: c.newest}
		if got := s.first(); got < c.least || got > c.most {
			t.Errorf("%s: %s, want %s to %s", what, got, c.least, c.most)
		}
	}
}

// TestOneNodeOfAFleetMakesBackups: a schedule does nothing while its node stands by,
// backs up soon after it has taken over, and not at once again after a short absence.
func TestOneNodeOfAFleetMakesBackups(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var works atomic.Bool
		made := make(chan time.Time, 100)
		s, err := Start(Config{
			Every: time.Hour, Keep: 2, Dir: t.TempDir(), Series: "n", Logger: slog.New(slog.DiscardHandler), Works: works.Load, Registerer: prometheus.NewRegistry(),
			Open: func(context.Context) (persistence.Snapshotter, error) {
				made <- time.Now()
				return nil, errors.New("the attempt is enough")
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Stop()
		time.Sleep(24 * time.Hour)
		if len(made) > 0 {
			t.Fatalf("%d backups while it stood by", len(made))
		}
		works.Store(true)
		time.Sleep(2*soon + time.Second)
		if len(made) != 1 {
			t.Fatalf("%d backups soon after it took over, want 1", len(made))
		}
		time.Sleep(10 * time.Hour)
		if n := len(made); n < 11 || n > 13 {
			t.Errorf("%d backups in ten hours", n)
		}
	})
}
