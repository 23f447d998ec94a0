package retention

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/dash-fleet/dash/persistence"
)

type sweeps struct {
	persistence.Store
	removed int
	err     error
	calls   *int
}

func (s sweeps) Sweep(context.Context, time.Time, int) (int, error) {
	if s.calls != nil {
		*s.calls++
	}
	return s.removed, s.err
}

// TestSweeperKeepsUp: more finished tasks than one batch are removed without
// the long pause.
func TestSweeperKeepsUp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		store sweeps
		want  time.Duration
	}{
		{sweeps{removed: taskRows}, taskPause},
		{sweeps{removed: taskRows - 1}, Every},
		{sweeps{removed: taskRows, err: errors.New("disk full")}, Every},
	} {
		w := &Tasks{Store: c.store, Keep: time.Hour, Off: &Off{}, Works: func() bool { return true }, Logger: slog.New(slog.DiscardHandler)}
		if got := w.Step(t.Context()); got != c.want {
			t.Errorf("pause after %d rows (%v) = %s, want %s", c.store.removed, c.store.err, got, c.want)
		}
	}
}

// TestTheFleetSweepsOnce: a node that stands by leaves the removal to the one that works.
func TestTheFleetSweepsOnce(t *testing.T) {
	t.Parallel()
	calls, works := 0, false
	w := &Tasks{
		Store: sweeps{removed: taskRows, calls: &calls}, Keep: time.Hour, Off: &Off{}, Works: func() bool { return works }, Logger: slog.New(slog.DiscardHandler),
	}
	if pause := w.Step(t.Context()); pause != Every || calls != 0 {
		t.Errorf("while it stands by: %d sweeps, a pause of %s", calls, pause)
	}
	works = true
	if pause := w.Step(t.Context()); pause != taskPause || calls != 1 {
		t.Errorf("when it works: %d sweeps, a pause of %s", calls, pause)
	}
}
