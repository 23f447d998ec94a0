package health

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/persistence"
)

// TestLateCommitIsNotReady: what waits for the store longer than the bound makes
// the node not ready, also when the store answers.
func TestLateCommitIsNotReady(t *testing.T) {
	t.Parallel()
	for oldest, want := range map[time.Duration]bool{0: true, time.Second: true, 10 * time.Second: true, 10*time.Second + 1: false, time.Hour: false} {
		if c := Commits(oldest); c.OK != want || c.Detail == "" {
			t.Errorf("oldest %v: %+v, want ok %v", oldest, c, want)
		}
	}
}

// TestFullStoreStaysReady: a store without room refuses new tasks by itself; a
// node that is not ready would lose its reads and cancels, too.
func TestFullStoreStaysReady(t *testing.T) {
	t.Parallel()
	c := Room(persistence.Room{Why: "the disk is nearly full", Next: "make room"})
	if !c.OK || c.Detail != "warning: the disk is nearly full; make room" {
		t.Errorf("%+v", c)
	}
	for _, r := range []persistence.Room{{Left: 5 << 20}, {Left: -1}} {
		if c := Room(r); !c.OK || strings.HasPrefix(c.Detail, "warning:") {
			t.Errorf("%+v: %+v", r, c)
		}
	}
}

// TestHealthIsNotTheCallers: a caller that hangs up must not make the node look
// ill to the next one.
func TestHealthIsNotTheCallers(t *testing.T) {
	t.Parallel()
	rounds := 0
	h := New(func(ctx context.Context) []server.Check {
		rounds++
		return []server.Check{{Name: "store", OK: ctx.Err() == nil}}
	})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	h.Checks(gone)
	if got := h.Checks(t.Context()); len(got) != 1 || !got[0].OK || rounds != 1 {
		t.Errorf("%+v after %d rounds, want one that serves both", got, rounds)
	}
}
