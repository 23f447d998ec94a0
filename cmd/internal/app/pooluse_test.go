package app

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// TestWhoUsesAPoolWaitsNoLongerThanItMay while another request has it alone.
func TestWhoUsesAPoolWaitsNoLongerThanItMay(t *testing.T) {
	t.Parallel()
	_, c := twoTenants(t)
	end, err := c.app.fleet.Alone(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	used := make(chan error, 1)
	go func() {
		_, err := c.app.fleet.Use(ctx, "a", "a")
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
	done, err := c.app.fleet.Use(t.Context(), "a", "a")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.app.fleet.Alone(t.Context(), "a")
	refusedFor(t, err, messages.CodeWrongState, "being used by other requests")
	done()
	if end, err = c.app.fleet.Alone(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	end()
}
