package accounts

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

// Ends follows when keys end.
type Ends struct {
	keys   persistence.Keys
	logger *slog.Logger

	mu   sync.Mutex
	next time.Time // the soonest end of an active key; zero: none ends, or nobody looked yet
	soon int       // how many end within keySoon
}

// NewEnds knows nothing until Watch has looked.
func NewEnds(keys persistence.Keys, logger *slog.Logger) *Ends {
	return &Ends{keys: keys, logger: logger}
}

// Watch looks at the keys until ctx ends.
func (e *Ends) Watch(ctx context.Context) {
	t := time.NewTicker(keyEndsEvery)
	defer t.Stop()
	for {
		e.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// look keeps what it knows while the store does not answer, which others log.
func (e *Ends) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, keyEndsTimeout)
	defer cancel()
	keys, err := e.keys.List(ctx)
	if err != nil {
		e.logger.Debug("the ends of keys are not known anew", slog.Any("err", err))
		return
	}
	next, soon := endsOf(keys, time.Now())
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next, e.soon = next, soon
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

func (e *Ends) known() (next time.Time, soon int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.next, e.soon
}

// Checks warn of keys that end soon.
func (e *Ends) Checks() []server.Check {
	next, soon := e.known()
	if soon == 0 {
		return nil
	}
	return []server.Check{{Name: "keys", OK: true, Detail: fmt.Sprintf("warning: %d active keys end within a week, the first at %s", soon, next.Format(time.RFC3339))}}
}

var keyExpiry = prometheus.NewDesc("dash_key_expiry_seconds", "Time until the next of the active API keys ends. No series while none has an end.", nil, nil)

// Describe implements prometheus.Collector.
func (e *Ends) Describe(ch chan<- *prometheus.Desc) { ch <- keyExpiry }

// Collect implements prometheus.Collector.
func (e *Ends) Collect(ch chan<- prometheus.Metric) {
	if next, _ := e.known(); !next.IsZero() {
		ch <- prometheus.MustNewConstMetric(keyExpiry, prometheus.GaugeValue, time.Until(next).Seconds())
	}
}
