package fleet

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// Admit writes the row of a gateway that is new, or gets another URL or home, unless
// another one stands for the same process. A new one that a tenant adds, empty for
// somebody of all tenants, has to be within what the tenant may have. Nobody else's row
// comes in between.
func (f *Fleet) Admit(ctx context.Context, tenant string, g *messages.Gateway, write func() error) error {
	f.endpoints.Lock()
	defer f.endpoints.Unlock()
	rows, err := f.cfg.Repos.Gateways.List(ctx)
	if err != nil {
		return persistence.Refusal(err, "gateway", g.ID)
	}
	if err := roomForGateway(rows, tenant); err != nil {
		return err
	}
	if err := exclusive(rows, g); err != nil {
		return err
	}
	return write()
}

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
// give it work.
func exclusive(rows []messages.Gateway, g *messages.Gateway) error {
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

// maxGateways is how many gateways a tenant may add: each has an owner, a connection
// that is tried for ever, and rows. Whoever has all tenants knows what the node can bear.
const maxGateways = 1000

// roomForGateway refuses one gateway more than a tenant may have.
func roomForGateway(rows []messages.Gateway, tenant string) error {
	if tenant == "" {
		return nil
	}
	has := 0
	for i := range rows {
		if rows[i].Tenant == tenant {
			has++
		}
	}
	if has < maxGateways {
		return nil
	}
	return &messages.Error{
		Code: messages.CodeConflict, Message: fmt.Sprintf("tenant %s has %d gateways, and may add no more", tenant, has), NextStep: next.RemoveGatewayOrAsk,
	}
}
