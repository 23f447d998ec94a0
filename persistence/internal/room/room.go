// Package room keeps an eye on what a store has left, once for all engines, so
// that admission can ask at any time without waiting for a disk or a server.
package room

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/persistence"
)

// Every is the pause between two looks. At 20 MB of new tasks a second that is
// 5 MB, far less than any reserve.
const Every = 250 * time.Millisecond

// Probe looks at what is left. An error leaves the last verdict as it is: who
// writes notices a disk or a server that is away.
type Probe func(ctx context.Context) (persistence.Room, error)

// Watch looks again and again until it is stopped.
type Watch struct {
	probe  Probe
	logger *slog.Logger
	reg    prometheus.Registerer
	gauge  prometheus.Collector
	last   atomic.Pointer[persistence.Room]
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Start looks once and then every so often. reg may be nil.
func Start(ctx context.Context, every time.Duration, probe Probe, logger *slog.Logger, reg prometheus.Registerer) *Watch {
	w := &Watch{probe: probe, logger: logger, reg: reg}
	w.gauge = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dash_store_room_bytes", Help: "Bytes that may still come before submits are refused; -1: the store cannot tell.",
	}, func() float64 { return float64(w.Room().Left) })
	if reg != nil {
		reg.MustRegister(w.gauge)
	}
	w.look(ctx)
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w.cancel = cancel
	w.done.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-run.Done():
				return
			case <-t.C:
				w.look(run)
			}
		}
	})
	return w
}

// Stop ends the watch and returns when it is over.
func (w *Watch) Stop() {
	w.cancel()
	w.done.Wait()
	if w.reg != nil {
		w.reg.Unregister(w.gauge)
	}
}

// Room is what the last look found. It never waits.
func (w *Watch) Room() persistence.Room {
	if r := w.last.Load(); r != nil {
		return *r
	}
	return persistence.Room{Left: -1}
}

func (w *Watch) look(ctx context.Context) {
	now, err := w.probe(ctx)
	if err != nil {
		return
	}
	before := w.Room()
	w.last.Store(&now)
	switch {
	case now.Full() && !before.Full():
		w.logger.Error("the store has no room for new tasks; submits are refused, what is under way goes on",
			slog.String("reason", now.Why), slog.String("next_step", now.Next))
	case before.Full() && !now.Full():
		w.logger.Info("the store has room for new tasks again")
	}
}

// Reserve is the part of a whole that is kept for what is under way: a
// twentieth, within bounds, and never more than a quarter.
func Reserve(whole, least, most int64) int64 {
	return min(max(whole/20, least), most, whole/4)
}
