package app

import (
	"net/netip"
	"testing"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

func TestGatewaysElsewhereAreRefused(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := gatewayCommands{newCommands(benchNode(t, t.TempDir(), 1, 1, nil))}
	add := func(id, url string) error {
		_, err := c.Create(ctx, messages.Gateway{ID: id, Tenant: "default", Pool: "default", URL: url, Token: "t", Weight: 1})
		return err
	}
	elsewhere := []string{"ws://10.1.2.3:1", "wss://gw.invalid/", "ws://0.0.0.0:1", "ws://[fd00::1]:1", "ws://169.254.169.254/", "ws://[::ffff:10.1.2.3]:1"}
	token := messages.Secret("t")
	for _, url := range elsewhere {
		refusedFor(t, add("far", url), messages.CodeInvalid, "is not this machine", "has to be paired")
		_, err := c.Update(ctx, "", "gw-0", server.GatewayChange{URL: &url, Token: &token}, 0)
		refusedFor(t, err, messages.CodeInvalid, "is not this machine")
	}
	for id, url := range map[string]string{"a": "ws://localhost:101", "b": "ws://[::1]:102", "c": "ws://127.9.9.9:103", "d": "ws://[::ffff:127.0.0.1]:104"} {
		if err := add(id, url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	c.app.fleet.networks = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	for id, url := range map[string]string{"e": "ws://10.1.2.3:1", "f": "ws://[::ffff:10.1.2.4]:1"} {
		if err := add(id, url); err != nil {
			t.Errorf("%s is in the networks: %v", url, err)
		}
	}
	refusedFor(t, add("g", "ws://10.2.0.1:1"), messages.CodeInvalid, "is not this machine")
	refusedFor(t, add("g", "ws://gw.invalid:1"), messages.CodeInvalid, "cannot be resolved")
}
