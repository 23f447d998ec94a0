// Package retention removes what is kept for a time: finished tasks, and sessions
// that are closed or that nobody uses. One node of a fleet does it, the one that works.
package retention

import (
	"context"
	"log/slog"
	"time"

	"github.com/dash-fleet/dash/persistence"
)

// Every is the pause before the first step of a walk, and before the next one of a
// walk that has nothing to do or meets a store that is away.
const Every = 10 * time.Second

// taskRows and taskPause bound the removal of tasks: while there is something to
// remove it goes on after the pause, so that it keeps up with any load and never
// holds the writer for long.
const (
	taskRows  = 1000
	taskPause = 100 * time.Millisecond
)

// Tasks removes finished tasks. It is one goroutine's.
type Tasks struct {
	Store   persistence.Store
	History persistence.History // beside the store; nil: the store keeps them
	Keep    time.Duration
	Off     *Off
	Works   func() bool // false while the node stands by
	Logger  *slog.Logger
}

// Step removes a batch and returns the pause before the next.
func (w *Tasks) Step(ctx context.Context) time.Duration {
	if !w.Works() || !w.Off.over(w.Keep) {
		return Every
	}
	before := time.Now().Add(-w.Keep)
	removed, err := w.Store.Sweep(ctx, before, taskRows)
	if err == nil && w.History != nil {
		var old int
		old, err = w.History.Sweep(ctx, before, taskRows)
		removed = max(removed, old)
	}
	if err != nil && ctx.Err() == nil {
		w.Logger.Warn("finished tasks could not be removed", slog.Any("err", err))
	}
	if err != nil || removed < taskRows {
		return Every
	}
	return taskPause
}

// Repeat takes a step again and again until ctx ends. Each says the pause before
// the next.
func Repeat(ctx context.Context, step func(context.Context) time.Duration) {
	t := time.NewTimer(Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		t.Reset(step(ctx))
	}
}
