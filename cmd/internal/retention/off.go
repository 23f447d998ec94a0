package retention

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/dash-fleet/dash/persistence"
)

// grace is how long at most the time that everything was off is given back.
const grace = 24 * time.Hour

// Off is how long nothing was written to the store before this node began: the
// time that all nodes were off, or that a restored backup is old. In it nobody
// could use what is kept for a time. So what is over goes only when the node has
// been up for as long as that, for a day at most: whoever comes back finds what
// was there. A restart of seconds puts nothing off.
type Off struct {
	Began time.Time
	Took  time.Duration
}

// NewOff finds out how long nothing was written, by the newest event, whose number
// is last.
func NewOff(ctx context.Context, store persistence.Store, last int64) (*Off, error) {
	took, err := silence(ctx, store, last)
	return &Off{Began: time.Now(), Took: took}, err
}

// over reports whether what is kept for d may go.
func (o *Off) over(d time.Duration) bool { return time.Since(o.Began) >= min(d, grace, o.Took) }

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
