package app

import (
	"context"
	"testing"
)

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
