package openclaw

import "testing"

// TestRerunPending: what a stopped re-run leaves behind is no re-run to come.
func TestRerunPending(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		row  Session
		want bool
	}{
		{Session{Status: "running", AbortedLastRun: true}, true},
		{Session{Status: "failed", AbortedLastRun: true}, true},
		{Session{Status: "killed", AbortedLastRun: true}, false},
		{Session{Status: "running"}, false},
	} {
		if got := c.row.RerunPending(); got != c.want {
			t.Errorf("%+v: %t", c.row, got)
		}
	}
}
