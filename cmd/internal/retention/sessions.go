package retention

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// Bounds of the walk over all sessions: 200 rows five times a second, and a
// pause behind the last one.
const (
	sessionRows  = 200
	sessionPause = 200 * time.Millisecond
	sessionEvery = time.Minute
	sessionLimit = 15 * time.Second // of reading a page, and of one pool's part of it
)

// Sessions walks over all sessions and hands those whose time is over to the
// owners of their pools, who decide: only they know what is being used. It is
// one goroutine's.
type Sessions struct {
	Store      persistence.Store
	Keep, Idle time.Duration // closed ones, and until unused ones are closed; 0: for ever
	Off        *Off
	Works      func() bool // false while the node stands by
	// Retire has the owner of one pool do its part. A pool that has nothing but old
	// sessions may have no owner yet.
	Retire func(ctx context.Context, pool string, due dispatch.RetireSessions) (dispatch.Retired, error)
	Limit  time.Duration // of reading a page, and of one pool's part of it
	Logger *slog.Logger

	retired         *prometheus.CounterVec
	after           string
	closed, removed int // of this walk
}

// NewSessions registers the walk's metric.
func NewSessions(w Sessions, registry prometheus.Registerer) *Sessions {
	w.Limit = cmp.Or(w.Limit, sessionLimit)
	w.retired = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dash_sessions_retired_total", Help: "Sessions that were closed because they were not used (closed), and closed ones that were removed (removed).",
	}, []string{"what"})
	for _, what := range []string{"closed", "removed"} {
		w.retired.WithLabelValues(what)
	}
	registry.MustRegister(w.retired)
	return &w
}

// Step looks at one page and returns the pause before the next.
func (w *Sessions) Step(ctx context.Context) time.Duration {
	if !w.Works() {
		w.after = ""
		return sessionEvery
	}
	last, err := w.page(ctx)
	if last {
		if w.closed+w.removed > 0 {
			w.Logger.Info("sessions closed and removed, their time was over", slog.Int("closed", w.closed), slog.Int("removed", w.removed))
		}
		w.after, w.closed, w.removed = "", 0, 0
	}
	switch {
	case err != nil:
		if ctx.Err() == nil {
			w.Logger.Warn("sessions could not be closed or removed; they are tried again", slog.Any("err", err))
		}
		return Every
	case !last:
		return sessionPause
	}
	return sessionEvery
}

// page goes on behind a page that was read, also when a pool's owner did not do
// its part: the next walk comes by again, and other pools are not kept waiting.
func (w *Sessions) page(ctx context.Context) (last bool, err error) {
	limited, cancel := context.WithTimeout(ctx, w.Limit)
	rows, err := w.Store.Sessions(limited, "", "", w.after, sessionRows)
	cancel()
	if err != nil {
		return false, err
	}
	due := dispatch.RetireSessions{ClosedSince: w.since(w.Keep), UnusedSince: w.since(w.Idle)}
	pools := map[string][]messages.Session{}
	for _, s := range rows {
		if due.Due(&s) {
			pools[s.Pool] = append(pools[s.Pool], s)
		}
	}
	for pool, list := range pools {
		due.Sessions = list
		err = errors.Join(err, w.retire(ctx, pool, due))
	}
	if len(rows) < sessionRows {
		return true, err
	}
	w.after = persistence.SessionPlace(rows[len(rows)-1])
	return false, err
}

// since is before when the last use has to lie; zero: nobody's time is over.
func (w *Sessions) since(d time.Duration) time.Time {
	if d <= 0 || !w.Off.over(d) {
		return time.Time{}
	}
	return messages.Now().Add(-d)
}

func (w *Sessions) retire(ctx context.Context, pool string, due dispatch.RetireSessions) error {
	ctx, cancel := context.WithTimeout(ctx, w.Limit)
	defer cancel()
	r, err := w.Retire(ctx, pool, due)
	w.closed += r.Closed
	w.removed += r.Removed
	w.retired.WithLabelValues("closed").Add(float64(r.Closed))
	w.retired.WithLabelValues("removed").Add(float64(r.Removed))
	if err != nil {
		return fmt.Errorf("pool %s: %w", pool, err)
	}
	return nil
}
