package retention

import (
	"testing"
	"time"
)

// TestTimeOffIsGivenBack: a restart of seconds puts nothing off, so that a node
// that restarts every night keeps its store small; a long time off counts a day.
func TestTimeOffIsGivenBack(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for _, c := range []struct {
		took, up, kept time.Duration
		want           bool
	}{
		{took: 0, up: 0, kept: 30 * day, want: true},
		{took: time.Minute, up: 30 * time.Second, kept: 30 * day},
		{took: time.Minute, up: 2 * time.Minute, kept: 30 * day, want: true},
		{took: 60 * day, up: 23 * time.Hour, kept: 30 * day},
		{took: 60 * day, up: 25 * time.Hour, kept: 30 * day, want: true},
		{took: 60 * day, up: 2 * time.Hour, kept: time.Hour, want: true},
	} {
		if got := (&Off{Began: time.Now().Add(-c.up), Took: c.took}).over(c.kept); got != c.want {
			t.Errorf("off for %s, up for %s, kept for %s: %v", c.took, c.up, c.kept, got)
		}
	}
}
