package app

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/persistence"
)

const (
	// keyEndsEvery is the pause between two looks at when keys end.
	keyEndsEvery   = time.Minute
	keyEndsTimeout = 10 * time.Second
	// keySoon is when the end of a key is worth a warning.
	keySoon = 7 * 24 * time.Hour
)

// keyEnds is what is known of the ends of keys.
type keyEnds struct {
	mu   sync.Mutex
	next time.Time // the soonest end of an active key; zero: none ends, or nobody looked yet
	soon int       // how many end within keySoon
}

// openCertificate reads the certificate of the API, if it has one.
func (a *App) openCertificate() (err error) {
	if a.cfg.TLSCert != "" {
		a.certificate, err = server.OpenCertificate(a.cfg.TLSCert, a.cfg.TLSKey)
	}
	return err
}

// Reload serves the certificate that is on disk now.
func (a *App) Reload() error {
	if a.certificate == nil {
		return nil
	}
	changed, err := a.certificate.Reload()
	if changed {
		a.logger.Info("a renewed certificate is served", slog.Time("expires", a.certificate.Expires()))
	}
	return err
}

// watchEnds follows what ends by itself: the certificate of the API, and keys.
func (a *App) watchEnds() error {
	if err := a.deps.Registry.Register(endsCollector{a}); err != nil {
		return fmt.Errorf("register metrics of expiry: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { a.watchKeys(ctx) })
	if a.certificate != nil {
		run.Go(func() { a.certificate.Watch(ctx, a.logger) })
	}
	a.cleanup.add("watch of ends", func(context.Context) error { cancel(); run.Wait(); return nil })
	return nil
}

func (a *App) watchKeys(ctx context.Context) {
	t := time.NewTicker(keyEndsEvery)
	defer t.Stop()
	for {
		a.lookAtKeys(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// lookAtKeys keeps what it knows while the store does not answer, which others log.
func (a *App) lookAtKeys(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, keyEndsTimeout)
	defer cancel()
	keys, err := a.repos.Keys.List(ctx)
	if err != nil {
		a.logger.Debug("the ends of keys are not known anew", slog.Any("err", err))
		return
	}
	next, soon := endsOf(keys, time.Now())
	a.keyEnds.mu.Lock()
	defer a.keyEnds.mu.Unlock()
	a.keyEnds.next, a.keyEnds.soon = next, soon
}

// endsOf is the soonest end of a key that still counts, and how many end soon.
func endsOf(keys []persistence.Key, now time.Time) (next time.Time, soon int) {
	for _, k := range keys {
		if !k.Active || k.ExpiresAt.IsZero() || !k.ExpiresAt.After(now) {
			continue
		}
		if next.IsZero() || k.ExpiresAt.Before(next) {
			next = k.ExpiresAt
		}
		if k.ExpiresAt.Sub(now) < keySoon {
			soon++
		}
	}
	return next, soon
}

// edgeChecks are those of the way into the node: they warn, and take no work away.
func (a *App) edgeChecks() []server.Check {
	var checks []server.Check
	if a.certificate != nil {
		checks = append(checks, a.certificate.Check())
	}
	a.keyEnds.mu.Lock()
	next, soon := a.keyEnds.next, a.keyEnds.soon
	a.keyEnds.mu.Unlock()
	if soon > 0 {
		checks = append(checks, server.Check{Name: "keys", OK: true,
			Detail: fmt.Sprintf("warning: %d active keys end within a week, the first at %s", soon, next.Format(time.RFC3339))})
	}
	if a.server != nil {
		if lately, failed := a.server.Starved(); lately {
			checks = append(checks, server.Check{Name: "descriptors", OK: true,
				Detail: fmt.Sprintf("warning: the process has no file descriptor left at times, %d connections had to wait; raise its limit (ulimit -n)", failed)})
		}
	}
	return checks
}

var (
	tlsExpiry = prometheus.NewDesc("dash_tls_expiry_seconds", "Time until the certificate of the API ends; below zero it has ended. No series without TLS.", nil, nil)
	keyExpiry = prometheus.NewDesc("dash_key_expiry_seconds", "Time until the next of the active API keys ends. No series while none has an end.", nil, nil)
)

// endsCollector computes the times that are left when it is asked.
type endsCollector struct{ a *App }

// Describe implements prometheus.Collector.
func (c endsCollector) Describe(ch chan<- *prometheus.Desc) { ch <- tlsExpiry; ch <- keyExpiry }

// Collect implements prometheus.Collector.
func (c endsCollector) Collect(ch chan<- prometheus.Metric) {
	if cert := c.a.certificate; cert != nil {
		ch <- prometheus.MustNewConstMetric(tlsExpiry, prometheus.GaugeValue, time.Until(cert.Expires()).Seconds())
	}
	c.a.keyEnds.mu.Lock()
	next := c.a.keyEnds.next
	c.a.keyEnds.mu.Unlock()
	if !next.IsZero() {
		ch <- prometheus.MustNewConstMetric(keyExpiry, prometheus.GaugeValue, time.Until(next).Seconds())
	}
}
