package server

import (
	"net/http"
	"net/netip"
	"strings"
)

// address is where a request comes from: the peer, or, behind trusted proxies,
// the last hop of X-Forwarded-For that is none of them. What stands further left
// was written by whoever it was, and is not believed.
func (s *Server) address(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	client := plain(at.Addr())
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && s.trusts(client); i-- {
		hop, err := parseHop(strings.TrimSpace(hops[i]))
		if err != nil {
			break // the proxy itself is all that is known
		}
		client = plain(hop)
	}
	return client
}

// parseHop reads what proxies write: an address, some with a port.
func parseHop(hop string) (netip.Addr, error) {
	if at, err := netip.ParseAddrPort(hop); err == nil {
		return at.Addr(), nil
	}
	return netip.ParseAddr(strings.Trim(hop, "[]"))
}

// origin names whose address it is, for limits: of IPv6 one network is one holder.
func (s *Server) origin(r *http.Request) string {
	return "address:" + network(s.address(r)).String()
}

func network(a netip.Addr) netip.Addr {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// trusts reports whether the address is that of a trusted proxy.
func (s *Server) trusts(a netip.Addr) bool {
	for _, n := range s.cfg.TrustedProxies {
		if n.Contains(a) {
			return true
		}
	}
	return false
}
