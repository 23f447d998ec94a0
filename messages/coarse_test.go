package messages_test

import (
	"strings"
	"testing"

	"github.com/dash-fleet/dash/messages"
)

// TestCoarseTellsNoDetails: without a connection only the three words go out,
// whatever stands behind or in place of them; else the reason stays.
func TestCoarseTellsNoDetails(t *testing.T) {
	t.Parallel()
	down, shut := messages.GatewayUnreachable.String(), messages.GatewayQuarantined.String()
	for _, c := range []struct{ state, reason, want, step string }{
		{down, messages.GatewayUnreached + ": dial tcp 10.0.0.1:22: refused", messages.GatewayUnreached, "check that"},
		{down, messages.GatewayNoProtocol + ": HTTP 404", messages.GatewayNoProtocol, "belongs to an OpenClaw gateway"},
		{shut, messages.GatewayRefusesToken + ": wrong", messages.GatewayRefusesToken, "gateway restart gw"},
		{shut, "words of an older release about HTTP 401", messages.GatewayUnreached, "gateway restart gw"},
		{down, "its home, node n-2, is dead", messages.GatewayUnreached, "check that"},
		{down, messages.GatewayNoProtocol + " and more", messages.GatewayUnreached, "check that"},
		{messages.GatewayDegraded.String(), "the provider refuses: 401", "the provider refuses: 401", "step"},
		{messages.GatewayConnecting.String(), "", "", "step"},
	} {
		reason, step := messages.Coarse("gw", c.state, c.reason, "step")
		if reason != c.want || !strings.Contains(step, c.step) {
			t.Errorf("%s, %q: %q and %q, want %q and %q", c.state, c.reason, reason, step, c.want, c.step)
		}
	}
}
