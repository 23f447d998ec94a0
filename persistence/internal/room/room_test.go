package room_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/internal/room"
)

// TestWatch: the verdict follows what is found, an error leaves it, and nobody
// has to ask for the next look.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var left atomic.Int64
		left.Store(100)
		w := room.Start(t.Context(), room.Every, func(context.Context) (persistence.Room, error) {
			switch n := left.Load(); {
			case n < 0:
				return persistence.Room{}, errors.New("away")
			case n == 0:
				return persistence.Room{Why: "full", Next: "make room"}, nil
			default:
				return persistence.Room{Left: n}, nil
			}
		}, slog.New(slog.DiscardHandler), nil)
		defer w.Stop()
		if r := w.Room(); r.Left != 100 || r.Full() {
			t.Fatalf("at the start: %+v", r)
		}
		for _, step := range []struct {
			left int64
			full bool
		}{{0, true}, {-1, true}, {7, false}, {-1, false}} {
			left.Store(step.left)
			time.Sleep(room.Every + time.Millisecond)
			if r := w.Room(); r.Full() != step.full {
				t.Errorf("after %d: %+v", step.left, r)
			}
		}
	})
}

func TestReserve(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ whole, want int64 }{{1000, 50}, {100, 10}, {20, 5}, {10_000, 100}, {0, 0}} {
		if got := room.Reserve(c.whole, 10, 100); got != c.want {
			t.Errorf("of %d: %d, want %d", c.whole, got, c.want)
		}
	}
}
