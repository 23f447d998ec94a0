package app

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// resolveTimeout bounds the look-up of a gateway's name.
const resolveTimeout = 3 * time.Second

// allowed reports whether a gateway may be at the address.
func (f *fleet) allowed(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.IsLoopback() {
		return true
	}
	for _, n := range f.networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// reachable refuses a URL that leads to where no gateway may be. Its name may
// mean something else later; the connection is checked again.
func (c gatewayCommands) reachable(ctx context.Context, raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return nil // a managed gateway; the form of others was checked
	}
	host := strings.ToLower(u.Hostname())
	if host == "localhost" {
		return nil
	}
	addrs := []netip.Addr{}
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, a)
	} else if len(c.app.fleet.networks) > 0 { // else no answer would be good enough
		ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
		defer cancel()
		if addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
			return &messages.Error{
				Code: messages.CodeInvalid, Message: "the name " + host + " in the gateway's URL cannot be resolved on this node",
				NextStep: next.CorrectHostName,
				Fields:   []messages.FieldError{{Pointer: "/url", Detail: "its host is unknown"}}, Err: err,
			}
		}
	}
	bad := len(addrs) == 0
	for _, a := range addrs {
		bad = bad || !c.app.fleet.allowed(a)
	}
	if !bad {
		return nil
	}
	return &messages.Error{
		Code: messages.CodeInvalid,
		Message: host + " is not this machine: a gateway elsewhere has to be paired with Dash before it gives it any rights, " +
			"which this version of Dash cannot do",
		NextStep: next.AllowNetwork,
		Fields:   []messages.FieldError{{Pointer: "/url", Detail: "is neither on this machine nor in the networks that gateways may be in"}},
	}
}
