package app

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// TestWhoUsesAPoolWaitsNoLongerThanItMay while another request has it alone.
func TestWhoUsesAPoolWaitsNoLongerThanItMay(t *testing.T) {
	t.Parallel()
	_, c := twoTenants(t)
	end, err := c.app.fleet.alone(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	used := make(chan error, 1)
	go func() {
		_, err := c.app.fleet.use(ctx, "a", "a")
		used <- err
	}()
	select {
	case err := <-used:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("used: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it waits on after its deadline")
	}
	end()
	done, err := c.app.fleet.use(t.Context(), "a", "a")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.app.fleet.alone(t.Context(), "a")
	refusedFor(t, err, messages.CodeWrongState, "being used by other requests")
	done()
	if end, err = c.app.fleet.alone(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	end()
}

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
