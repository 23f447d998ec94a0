package daemon

import (
	"errors"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/actors/openclaw/launcher"
)

// TestAFailedStartQuotesTheGateway: its last words are part of the reason,
// within a bound, and the next step is said once.
func TestAFailedStartQuotesTheGateway(t *testing.T) {
	t.Parallel()
	e := startError(&launcher.StartError{Permanent: true, Reason: "gateway gw refused its configuration (exit code 78)", NextStep: "correct it",
		LogTail: []string{"one", "", "two", "config invalid: models.x", "  ", "run doctor"}, Err: errors.New("cause")})
	if want := "gateway gw refused its configuration (exit code 78): cause; it printed last: two | config invalid: models.x | run doctor"; e.Reason != want || e.NextStep != "correct it" || !e.Permanent {
		t.Errorf("%+v, want %q", e, want)
	}
	e = startError(&launcher.StartError{Reason: "r", LogTail: []string{strings.Repeat("ä", 5000) + "end"}})
	if len(e.Reason) > quotedBytes+50 || !strings.HasSuffix(e.Reason, "äend") || strings.Contains(e.Reason, "\uFFFD") {
		t.Errorf("%d bytes: %q", len(e.Reason), e.Reason)
	}
	if e = startError(&launcher.StartError{Reason: "r"}); e.Reason != "r" {
		t.Errorf("without output: %q", e.Reason)
	}
}
