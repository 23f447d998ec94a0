package app

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/dash-fleet/dash/persistence"
)

// offGrace is how long at most the time that everything was off is given back.
const offGrace = 24 * time.Hour

// off is how long nothing was written to the store before this node began: the
// time that all nodes were off, or that a restored backup is old. In it nobody
// could use what is kept for a time. So what is over goes only when the node has
// been up for as long as that, for a day at most: whoever comes back finds what
// was there. A restart of seconds puts nothing off.
type off struct {
	began time.Time
	took  time.Duration
}

// over reports whether what is kept for d may go.
func (o off) over(d time.Duration) bool { return time.Since(o.began) >= min(d, offGrace, o.took) }

// noteOff finds out how long nothing was written, by the newest event.
func (a *App) noteOff(ctx context.Context) error {
	took, err := silence(ctx, a.store, a.lastSeq)
	a.off = off{began: time.Now(), took: took}
	return err
}

func silence(ctx context.Context, store persistence.Store, last int64) (time.Duration, error) {
	if last == 0 {
		return 0, nil // a new store
	}
	newest, _, err := store.Events(ctx, last-1, 1)
	if err != nil {
		return 0, fmt.Errorf("read the newest event: %w", err)
	}
	if len(newest) == 0 {
		return math.MaxInt64, nil // it is so old that it was removed
	}
	return max(0, time.Since(time.UnixMicro(newest[0].GetTimeMicros()))), nil
}
