package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/cmd/internal/telemetry"
)

// loader reads the settings of a node, again and again.
type loader func() (*config.Loaded, error)

// hotSettings are those that a running node takes up.
var hotSettings = []string{"log-level"}

// signalsOf gives the signals of a node beside SIGINT and SIGTERM: hup asks for
// a reload, and all others that would end the process at once end ctx. A node
// with a terminal gets SIGHUP when the terminal goes away, and then stops, too.
func signalsOf(ctx context.Context, t *terminal) (stopping context.Context, hup chan os.Signal, stop func()) {
	ends := []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM}
	hup = make(chan os.Signal, 1) // one that waits reads what is there for all
	if t.person {
		ends = append(ends, syscall.SIGHUP)
	} else {
		signal.Notify(hup, syscall.SIGHUP)
	}
	stopping, cancel := signal.NotifyContext(ctx, ends...)
	return stopping, hup, func() { signal.Stop(hup); cancel() }
}

// reloader takes up what can change while a node runs. Only the goroutine of
// serve uses it.
type reloader struct {
	load loader
	now  *config.Loaded // what the settings were when they were last read
	log  *telemetry.Log
}

// reload reads the settings and the certificate. What is wrong changes nothing,
// and the log says so.
func (r *reloader) reload(certificate func() error) {
	if err := certificate(); err != nil {
		r.log.Warn("the certificate on disk cannot be served, the old one is served on", slog.Any("err", err))
	}
	fresh, err := r.load()
	if err != nil {
		r.log.Warn("the settings were not read again, the old ones hold", slog.Any("err", err))
		return
	}
	changed := r.now.Changed(fresh)
	r.now = fresh
	if err := r.log.SetLevel(fresh.LogLevel); err != nil {
		r.log.Warn("the level of the log stays as it is", slog.Any("err", err)) // Validate knows the levels
	}
	later := slices.DeleteFunc(slices.Clone(changed), func(key string) bool { return slices.Contains(hotSettings, key) })
	if len(later) > 0 {
		r.log.Warn("changed settings take effect at the next start", slog.String("settings", strings.Join(later, " ")))
	}
	r.log.Info("settings and certificate were reloaded", slog.String("changed", strings.Join(changed, " ")), slog.String("log_level", fresh.LogLevel))
}
