package fleet

import (
	"testing"

	"github.com/dash-fleet/dash/messages"
)

// TestStray: a process belongs to nobody when its gateway was removed, or has
// another home; not when the store never knew it.
func TestStray(t *testing.T) {
	t.Parallel()
	m := &messages.Managed{}
	all := []messages.Gateway{{ID: "mine", Managed: m, Home: "h1", Node: "a"}, {ID: "moved", Managed: m, Home: "h2", Node: "b"}, {ID: "remote", URL: "wss://x"}}
	known := []messages.GatewayStatus{{ID: "mine"}, {ID: "moved"}, {ID: "gone"}}
	s := Strays{Keeps: func(g *messages.Gateway) bool { return !g.HomeBound() || g.Home == "h1" }}
	for id, want := range map[string]bool{"mine": false, "moved": true, "remote": true, "gone": true, "never": false} {
		if got := s.stray(id, all, known); got != want {
			t.Errorf("%s: %t", id, got)
		}
	}
}
