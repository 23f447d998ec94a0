package app

import (
	"context"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// endpoint names the process behind a gateway as well as a URL can: two
// spellings of one address are one endpoint. at is the port that it listens on,
// path what is asked there. at is empty for a managed gateway whose port the
// launcher chooses: it takes one that is free.
func endpoint(g *messages.Gateway) (at, path string) {
	if m := g.Managed; m != nil {
		if m.Port == 0 {
			return "", ""
		}
		return g.Node + " " + net.JoinHostPort("loopback", strconv.Itoa(m.Port)), ""
	}
	u, err := url.Parse(g.URL)
	if err != nil || u.Hostname() == "" {
		return "", ""
	}
	host, port, node := strings.ToLower(u.Hostname()), u.Port(), ""
	if messages.Loopback(g.URL) {
		host, node = "loopback", g.Node // of that node alone
	}
	if port == "" {
		port = map[string]string{"ws": "80", "wss": "443"}[strings.ToLower(u.Scheme)]
	}
	return node + " " + net.JoinHostPort(host, port), strings.TrimRight(u.Path, "/")
}

// collide reports whether two gateways cannot both be: one process would be
// both, or two would listen on one port of a node.
func collide(a, b *messages.Gateway) bool {
	at, path := endpoint(a)
	other, otherPath := endpoint(b)
	return at != "" && at == other && (path == otherPath || a.Managed != nil || b.Managed != nil)
}

// exclusive refuses a gateway whose process another one stands for already:
// each of the two would stop the other's runs as left behind, and both would
// give it work. The caller holds fleet.endpoints until the row is written.
func (c gatewayCommands) exclusive(ctx context.Context, g *messages.Gateway) error {
	if at, _ := endpoint(g); at == "" {
		return nil
	}
	rows, err := c.app.repos.Gateways.List(ctx)
	if err != nil {
		return refused(err, "gateway", g.ID)
	}
	for i := range rows {
		other := &rows[i]
		if other.ID == g.ID || !collide(g, other) {
			continue
		}
		name := "another gateway"
		if other.Tenant == g.Tenant {
			name = "the gateway " + other.ID
		}
		if g.Managed != nil {
			return &messages.Error{
				Code: messages.CodeConflict, Message: name + " has this port of the node already", NextStep: next.FreePort,
				Fields: []messages.FieldError{{Pointer: "/managed/port", Detail: "belongs to " + name}},
			}
		}
		return &messages.Error{
			Code: messages.CodeConflict, Message: name + " has this URL already, and one process can be only one gateway",
			NextStep: next.RemoveThatFirst,
			Fields:   []messages.FieldError{{Pointer: "/url", Detail: "belongs to " + name}},
		}
	}
	return nil
}
