package app

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/persistence"
)

// TestLateCommitIsNotReady: what waits for the store longer than the bound makes
// the node not ready, also when the store answers.
func TestLateCommitIsNotReady(t *testing.T) {
	t.Parallel()
	for oldest, want := range map[time.Duration]bool{0: true, time.Second: true, 10 * time.Second: true, 10*time.Second + 1: false, time.Hour: false} {
		if c := commitsCheck(oldest); c.OK != want || c.Detail == "" {
			t.Errorf("oldest %v: %+v, want ok %v", oldest, c, want)
		}
	}
}

// TestFullStoreStaysReady: a store without room refuses new tasks by itself; a
// node that is not ready would lose its reads and cancels, too.
func TestFullStoreStaysReady(t *testing.T) {
	t.Parallel()
	c := roomCheck(persistence.Room{Why: "the disk is nearly full", Next: "make room"})
	if !c.OK || c.Detail != "warning: the disk is nearly full; make room" {
		t.Errorf("%+v", c)
	}
	for _, r := range []persistence.Room{{Left: 5 << 20}, {Left: -1}} {
		if c := roomCheck(r); !c.OK || strings.HasPrefix(c.Detail, "warning:") {
			t.Errorf("%+v: %+v", r, c)
		}
	}
}

// TestHealthIsNotTheCallers: a caller that hangs up must not make the node look
// ill to the next one.
func TestHealthIsNotTheCallers(t *testing.T) {
	t.Parallel()
	h := &healthChecks{commands: newCommands(benchNode(t, t.TempDir(), 0, 1, nil))}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	h.Checks(gone)
	for _, c := range h.Checks(t.Context()) {
		if !c.OK {
			t.Errorf("%s: %s", c.Name, c.Detail)
		}
	}
}
