// Package networks says at which addresses gateways may be. A key of one tenant
// may give fewer of them than one of all tenants, and a name leads nowhere that only
// an address may mean.
package networks

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// resolveTimeout bounds the look-up of a gateway's name.
const resolveTimeout = 3 * time.Second

// Policy is what a node permits.
type Policy struct {
	Within []netip.Prefix   // where gateways may be besides this machine
	Own    []netip.AddrPort // where Dash itself answers; complete before gateways are dialled
}

// nearby are addresses that mean whoever connects to them, or a service of the
// network that trusts it, such as the one that hands a host its cloud
// credentials. Only a key of all tenants gives a gateway one, and only as the
// address itself: a name leads there today or tomorrow as its owner likes.
var nearby = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("100.100.100.200/32"), netip.MustParsePrefix("168.63.129.16/32"), netip.MustParsePrefix("fd00:ec2::254/128"),
}

// guarded reports whether the address, or the IPv4 address that it stands for, is
// nearby, a loopback address or one of a link. An address that this machine has in
// the networks of gateways is one like any other there.
func guarded(a netip.Addr) bool {
	a = unzoned(a)
	if a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsMulticast() {
		return true
	}
	if v4, ok := within4(a); ok && guarded(v4) {
		return true
	}
	return slices.ContainsFunc(nearby, func(p netip.Prefix) bool { return p.Contains(a) })
}

func unzoned(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// translated are prefixes behind which a router may find an IPv4 address, and the
// byte where that begins.
var translated = map[netip.Prefix]int{
	netip.MustParsePrefix("64:ff9b::/96"): 12, netip.MustParsePrefix("::/96"): 12, netip.MustParsePrefix("::ffff:0:0:0/96"): 12,
	netip.MustParsePrefix("2002::/16"): 2,
}

func within4(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() {
		return netip.Addr{}, false
	}
	raw := a.As16()
	for p, at := range translated {
		if p.Contains(a) {
			return netip.AddrFrom4([4]byte(raw[at : at+4])), true
		}
	}
	return netip.Addr{}, false
}

// literal reports whether a URL's host is the guarded address itself, or one of
// the names that mean this machine everywhere.
func literal(host string, a netip.Addr) bool {
	if own, err := netip.ParseAddr(host); err == nil {
		return unzoned(own) == unzoned(a) || own.IsUnspecified() && a.IsLoopback()
	}
	return a.IsLoopback() && messages.LoopbackName(host)
}

// Allowed reports whether a gateway whose URL has this host may be connected to
// at the address.
func (p *Policy) Allowed(host string, at netip.AddrPort) bool {
	a := unzoned(at.Addr())
	if p.ownAt(netip.AddrPortFrom(a, at.Port())) || guarded(a) && !literal(host, a) {
		return false
	}
	return a.IsLoopback() || slices.ContainsFunc(p.Within, func(n netip.Prefix) bool { return n.Contains(a) })
}

// ownAt reports whether Dash itself would answer there.
func (p *Policy) ownAt(at netip.AddrPort) bool {
	return slices.ContainsFunc(p.Own, func(l netip.AddrPort) bool {
		return l.Port() == at.Port() && (unzoned(l.Addr()) == at.Addr() || l.Addr().IsUnspecified() && ofThisHost(at.Addr()))
	})
}

func ofThisHost(a netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	all, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(all, func(i net.Addr) bool {
		p, err := netip.ParsePrefix(i.String())
		return err == nil && unzoned(p.Addr()) == a
	})
}

// Listening notes an address of Dash's own.
func (p *Policy) Listening(l net.Addr) {
	if t, ok := l.(*net.TCPAddr); ok {
		p.Own = append(p.Own, t.AddrPort())
	}
}

// Reachable refuses a URL that leads to where no gateway may be, or none that
// the tenant, empty for a caller with rights over all, may give. Its name may
// mean something else later; the connection is checked again.
func (p *Policy) Reachable(ctx context.Context, tenant, raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return nil // a managed gateway; the form of others was checked
	}
	host := strings.ToLower(u.Hostname())
	addrs, err := p.addresses(ctx, host)
	bad := err != nil || len(addrs) == 0
	for _, a := range addrs {
		bad = bad || !p.Allowed(host, netip.AddrPortFrom(a, portOf(u))) || tenant != "" && guarded(a)
	}
	switch {
	case !bad:
		return nil
	case tenant != "": // no more: the answer would tell what is in Dash's network
		return &messages.Error{
			Code: messages.CodeInvalid, Message: "a gateway that a key of one tenant gives may not be at " + host, NextStep: next.AskForNetwork,
			Fields: []messages.FieldError{{Pointer: "/url", Detail: "its host is unknown, or not in the networks that a tenant's gateways may be in"}},
		}
	case err != nil:
		return &messages.Error{
			Code: messages.CodeInvalid, Message: "the name " + host + " in the gateway's URL cannot be resolved on this node",
			NextStep: next.CorrectHostName,
			Fields:   []messages.FieldError{{Pointer: "/url", Detail: "its host is unknown"}}, Err: err,
		}
	}
	return p.unreachable(host, portOf(u), addrs)
}

// addresses are those that a URL's host leads to; those of a name are none while
// no answer would be good enough.
func (p *Policy) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	if messages.LoopbackName(host) {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	}
	if len(p.Within) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// portOf is the port of a URL, that of its scheme unless it has one.
func portOf(u *url.URL) uint16 {
	port := u.Port()
	if port == "" {
		port = map[string]string{"ws": "80", "wss": "443"}[strings.ToLower(u.Scheme)]
	}
	n, _ := strconv.ParseUint(port, 10, 16) // it was checked with the form
	return uint16(n)
}

func (p *Policy) unreachable(host string, port uint16, addrs []netip.Addr) error {
	e := &messages.Error{
		Code: messages.CodeInvalid,
		Message: host + " is not this machine: a gateway elsewhere has to be paired with Dash before it gives it any rights, " +
			"which this version of Dash cannot do",
		NextStep: next.AllowNetwork,
		Fields:   []messages.FieldError{{Pointer: "/url", Detail: "is neither on this machine nor in the networks that gateways may be in"}},
	}
	for _, at := range addrs {
		switch {
		case p.ownAt(netip.AddrPortFrom(unzoned(at), port)):
			e.Message, e.NextStep, e.Fields[0].Detail = "Dash itself listens there, and is no gateway", next.CheckWebSocketAddress, "is an address of Dash's own"
		case guarded(at) && !literal(host, at):
			e.Message = "the name " + host + " leads to " + at.String() + ", and its owner could change that at any time"
			e.NextStep, e.Fields[0].Detail = next.GiveAddress, "must hold the address in place of the name"
		}
	}
	return e
}
