package fleet

import (
	"strings"
	"testing"

	"github.com/dash-fleet/dash/messages"
)

// TestAPortIsOfOneGateway: a managed gateway is not let in at a port that
// another gateway of its node has; on another node it is another port.
func TestAPortIsOfOneGateway(t *testing.T) {
	t.Parallel()
	managed := func(id string, port int, node string) *messages.Gateway {
		return &messages.Gateway{ID: id, Tenant: "default", Node: node, Managed: &messages.Managed{Port: port}}
	}
	rows := []messages.Gateway{*managed("m-1", 20000, "n1"), *managed("m-0", 0, "n1"), {ID: "u-1", Tenant: "default", Node: "n1", URL: "ws://localhost:20128/gw"}}
	for _, tt := range []struct {
		g    *messages.Gateway
		held string // who has the port
	}{
		{managed("m-2", 20000, "n1"), "m-1"}, {managed("m-2", 20128, "n1"), "u-1"},
		{&messages.Gateway{ID: "u-2", Tenant: "default", Node: "n1", URL: "ws://127.0.0.1:20000/x"}, "m-1"},
		{managed("m-2", 20000, "n2"), ""}, {managed("m-2", 20256, "n1"), ""}, {managed("m-2", 0, "n1"), ""}, {managed("m-1", 20000, "n1"), ""},
	} {
		err := exclusive(rows, tt.g)
		switch {
		case tt.held == "" && err != nil:
			t.Errorf("%s on %s: %v", tt.g.ID, tt.g.Node, err)
		case tt.held != "":
			if messages.CodeOf(err) != messages.CodeConflict || !strings.Contains(err.Error(), tt.held) {
				t.Errorf("%s on %s: %v, want that %s has it", tt.g.ID, tt.g.Node, err, tt.held)
			}
		}
	}
}
