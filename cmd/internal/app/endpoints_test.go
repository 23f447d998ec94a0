package app

import (
	"strings"
	"testing"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

func TestOneProcessIsOneGateway(t *testing.T) {
	t.Parallel()
	a := benchNode(t, t.TempDir(), 0, 1, nil)
	c := newCommands(a).gateways()
	add := func(id, url, tenant, node string) error {
		_, err := c.Create(t.Context(), "", messages.Gateway{ID: id, Tenant: tenant, Pool: messages.OwnPool(tenant), URL: url, Token: "t", Node: node, Weight: 1})
		return err
	}
	if err := add("a", "ws://127.0.0.1:1/", "default", ""); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{"ws://127.0.0.1:1", "WS://localhost:1/", "ws://[::1]:1", "wss://127.0.0.2:1"} {
		if err := add("b", url, "default", ""); messages.CodeOf(err) != messages.CodeConflict {
			t.Errorf("%s is at a's endpoint, but: %v", url, err)
		}
	}
	if _, err := a.Commands().Accounts.CreateTenant(t.Context(), messages.Tenant{ID: "t2", Name: "t2"}); err != nil {
		t.Fatal(err)
	}
	if err := add("b", "ws://127.0.0.1:1", "t2", ""); messages.CodeOf(err) != messages.CodeConflict {
		t.Errorf("other tenant: %v", err)
	}
	for id, url := range map[string]string{"c": "ws://127.0.0.1:2/", "d": "ws://127.0.0.1:1/other", "e": "ws://127.0.0.1/"} {
		if err := add(id, url, "default", ""); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	if err := add("f", "ws://127.0.0.1:1/", "default", "elsewhere"); messages.CodeOf(err) != messages.CodeInvalid {
		t.Errorf("loopback of a node that nobody knows: %v", err)
	}
	g := messages.Gateway{ID: "f", Tenant: "default", Pool: "default", URL: "ws://127.0.0.1:1/", Token: "t", Node: "elsewhere", Weight: 1, MaxConcurrency: 1}
	if err := c.Fleet.Admit(t.Context(), "", &g, func() error { return nil }); err != nil {
		t.Errorf("loopback of another node: %v", err)
	}
	url, token := "ws://localhost:1", messages.Secret("t")
	if _, err := c.Update(t.Context(), "", "c", server.GatewayChange{URL: &url, Token: &token}, 0); messages.CodeOf(err) != messages.CodeConflict {
		t.Errorf("c moved onto a: %v", err)
	}
	if _, err := c.Update(t.Context(), "", "a", server.GatewayChange{URL: &url}, 0); messages.CodeOf(err) != messages.CodeInvalid {
		t.Errorf("the stored token would be sent to another address: %v", err)
	}
	if _, err := c.Update(t.Context(), "", "a", server.GatewayChange{URL: &url, Token: &token}, 0); err != nil {
		t.Errorf("a may spell its own URL anew: %v", err)
	}
}

func TestARefusalNamesWhatItRefuses(t *testing.T) {
	t.Parallel()
	c := newCommands(benchNode(t, t.TempDir(), 1, 1, nil))
	for what, do := range map[string]func() error{
		`the pool "default" was changed meanwhile`: func() error {
			_, err := c.pools().Put(t.Context(), "", messages.Pool{ID: "default", Tenant: "default", Version: 99})
			return err
		},
		`the gateway "gw-0" was changed meanwhile`: func() error {
			weight := 2
			_, err := c.gateways().Update(t.Context(), "", "gw-0", server.GatewayChange{Weight: &weight}, 99)
			return err
		},
		`the gateway "gw-0" exists`: func() error {
			_, err := c.gateways().Create(t.Context(), "", messages.Gateway{ID: "gw-0", Tenant: "default", Pool: "default", URL: "ws://127.0.0.1:9"})
			return err
		},
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %s", err, what)
		}
	}
}
