package app

import (
	"context"
	"net"
	"net/url"
	"strings"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// endpoint names the process behind a gateway's URL as well as a URL can: two
// spellings of one address are one endpoint. Empty for a managed gateway.
func endpoint(g *messages.Gateway) string {
	u, err := url.Parse(g.URL)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	host, port, node := strings.ToLower(u.Hostname()), u.Port(), ""
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		host, node = "loopback", g.Node // of that node alone
	}
	if port == "" {
		port = map[string]string{"ws": "80", "wss": "443"}[strings.ToLower(u.Scheme)]
	}
	return node + " " + net.JoinHostPort(host, port) + strings.TrimRight(u.Path, "/")
}

// exclusive refuses a gateway whose process another one stands for already:
// each of the two would stop the other's runs as left behind, and both would
// give it work. The caller holds fleet.endpoints until the row is written.
func (c gatewayCommands) exclusive(ctx context.Context, g *messages.Gateway) error {
	at := endpoint(g)
	if at == "" {
		return nil
	}
	rows, err := c.app.repos.Gateways.List(ctx)
	if err != nil {
		return refused(err, "gateway", g.ID)
	}
	for i := range rows {
		other := &rows[i]
		if other.ID == g.ID || endpoint(other) != at {
			continue
		}
		name := "another gateway"
		if other.Tenant == g.Tenant {
			name = "the gateway " + other.ID
		}
		return &messages.Error{
			Code: messages.CodeConflict, Message: name + " has this URL already, and one process can be only one gateway",
			NextStep: next.RemoveThatFirst,
			Fields:   []messages.FieldError{{Pointer: "/url", Detail: "belongs to " + name}},
		}
	}
	return nil
}
