package app

import (
	"context"
	"testing"
	"time"
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
