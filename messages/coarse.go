package messages

import (
	"fmt"
	"strings"

	"github.com/dash-fleet/dash/messages/next"
)

// What stands before the details in the reason of a gateway that Dash has no
// connection to, and all that a tenant is told of it.
const (
	GatewayUnreached    = "the gateway cannot be reached"
	GatewayRefusesToken = "the gateway refuses Dash with its token"
	GatewayNoProtocol   = "what answers does not speak the gateway protocol"
)

// Coarse is the reason and the next step of a gateway for whoever has rights over
// one tenant only. Who may give a gateway any URL would learn from the details,
// such as the words of a failed connection, what else is in Dash's network. The
// details are for keys of all tenants, and in the log. In the other states it has
// answered as a gateway, and nothing is left out.
func Coarse(id, state, reason, step string) (string, string) {
	if state != GatewayUnreachable.String() && state != GatewayQuarantined.String() || reason == "" {
		return reason, step
	}
	reason, _, _ = strings.Cut(reason, ": ")
	switch reason {
	case GatewayRefusesToken:
		step = next.SetGatewayToken
	case GatewayNoProtocol:
		step = next.CheckOpenClawURL
	default:
		reason, step = GatewayUnreached, next.CheckGatewayRuns
	}
	if state == GatewayQuarantined.String() {
		step = fmt.Sprintf(next.ThenRestartGateway, step, id)
	}
	return reason, step
}
