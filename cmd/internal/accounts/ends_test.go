package accounts

import (
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// TestEndsOf: keys that are revoked, over or without an end do not count.
func TestEndsOf(t *testing.T) {
	t.Parallel()
	now := time.Now()
	in := func(d time.Duration) time.Time { return now.Add(d) }
	const day = 24 * time.Hour
	keys := []persistence.Key{
		{Key: messages.Key{ID: "over", Active: true, ExpiresAt: in(-time.Second)}}, {Key: messages.Key{ID: "revoked", ExpiresAt: in(time.Hour)}}, {Key: messages.Key{ID: "for good", Active: true}},
		{Key: messages.Key{ID: "later", Active: true, ExpiresAt: in(30 * day)}}, {Key: messages.Key{ID: "second", Active: true, ExpiresAt: in(6 * day)}}, {Key: messages.Key{ID: "first", Active: true, ExpiresAt: in(2 * day)}},
	}
	if next, soon := endsOf(keys, now); !next.Equal(in(2*day)) || soon != 2 {
		t.Errorf("the next end is %s and %d end soon, want %s and 2", next, soon, in(2*day))
	}
	if next, soon := endsOf(keys[:3], now); !next.IsZero() || soon != 0 {
		t.Errorf("of keys that do not end: %s, %d", next, soon)
	}
}
