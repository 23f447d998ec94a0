package requests

import (
	"testing"

	"github.com/dash-fleet/dash/messages"
)

// TestWhatARemovalLeaves: nobody is told that a process is stopped which its home
// does not look for.
func TestWhatARemovalLeaves(t *testing.T) {
	t.Parallel()
	for dir, want := range map[string]string{
		"":         "the process of gateway g is on its home, node b, which stops it as soon as it is alive",
		"/srv/own": "the process of gateway g is on its home, node b, with a state folder of its own, /srv/own: stop it there, Dash does not",
	} {
		if got := leftBehind(messages.Gateway{ID: "g", Node: "b", Managed: &messages.Managed{StateDir: dir}}); got != want {
			t.Errorf("%q", got)
		}
	}
}
