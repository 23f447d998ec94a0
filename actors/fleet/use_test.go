package fleet

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestAPoolIsTakenAloneAtOnce when its last user leaves; until then it may be used again.
func TestAPoolIsTakenAloneAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, u := t.Context(), &poolUse{}
		enter := func() {
			if err := u.enter(ctx); err != nil {
				t.Error(err)
			}
		}
		enter()
		began := time.Now()
		const stays, alone = 1500 * time.Microsecond, time.Second
		go func() {
			time.Sleep(stays / 2)
			enter() // beside who waits to have it alone
			u.leave()
			time.Sleep(stays / 2)
			u.leave()
		}()
		if err := u.shut(ctx); err != nil || time.Since(began) != stays {
			t.Fatalf("alone after %v (%v), want %v", time.Since(began), err, stays)
		}
		for range 2 {
			go func() {
				enter()
				if time.Since(began) != stays+alone {
					t.Errorf("used after %v", time.Since(began))
				}
				u.leave()
			}()
		}
		short, cancel := context.WithTimeout(ctx, alone/2)
		defer cancel()
		if err := u.shut(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("two have it alone: %v", err)
		}
		time.Sleep(alone / 2)
		u.open()
		synctest.Wait()
		if err := u.shut(ctx); err != nil {
			t.Error(err)
		}
	})
}
