package app

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestLeaseEndsBeforeTheStoreEndsIt: a node stops to believe in its lease while
// nobody can take over yet, by a tenth of it for clocks that run apart.
func TestLeaseEndsBeforeTheStoreEndsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l lease
		sent := time.Now()
		time.Sleep(300 * time.Millisecond) // the answer takes its time
		l.renewed(sent, nil)
		time.Sleep(1400 * time.Millisecond) // 1.7 s after it was sent
		if !l.valid() {
			t.Error("the lease of 2 s is over after 1.7 s")
		}
		time.Sleep(150 * time.Millisecond) // 1.85 s
		if l.valid() {
			t.Error("the lease of 2 s is believed after 1.85 s")
		}
	})
}

// TestLeaseDoubt: a lease that ended between two renewals is valid again only
// after a look at who owns what, however long that takes.
func TestLeaseDoubt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l lease
		if l.valid() {
			t.Error("valid before the first renewal")
		}
		if l.renewed(time.Now(), nil) || !l.valid() {
			t.Error("not valid after the first renewal")
		}
		time.Sleep(leaseSafety - time.Millisecond)
		if l.renewed(time.Now(), nil) || !l.valid() {
			t.Error("a renewal in time is doubted")
		}
		time.Sleep(leaseSafety + time.Millisecond)
		if l.valid() {
			t.Error("valid after its end")
		}
		for range 3 { // looks that fail
			if !l.renewed(time.Now(), nil) || l.valid() {
				t.Error("valid without a look")
			}
			time.Sleep(leaseTTL / 5)
		}
		l.certain()
		if !l.valid() || l.renewed(time.Now(), nil) {
			t.Error("still in doubt after a look")
		}
		l.renewed(time.Now().Add(-leaseTTL), nil) // the answer took longer than the lease
		if l.valid() {
			t.Error("valid by a renewal that was sent too long ago")
		}
	})
}
