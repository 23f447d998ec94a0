package networks

import (
	"net/netip"
	"testing"
)

// TestOnlyTheAddressItselfIsNearby is what is asked right before a connection.
func TestOnlyTheAddressItselfIsNearby(t *testing.T) {
	t.Parallel()
	p := Policy{
		Own:    []netip.AddrPort{netip.MustParseAddrPort("[::]:7373"), netip.MustParseAddrPort("127.0.0.1:6060")},
		Within: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16")},
	}
	for _, c := range []struct {
		host, at string
		want     bool
	}{
		{"127.0.0.1", "127.0.0.1:1", true}, {"::ffff:127.0.0.1", "127.0.0.1:1", true}, {"0.0.0.0", "127.0.0.1:1", true},
		{"localhost", "127.0.0.1:1", true}, {"localhost.", "[::1]:1", true}, {"127.0.0.2", "127.0.0.1:1", false},
		{"gw.example", "127.0.0.1:1", false}, {"gw.example", "[::1]:1", false}, {"gw.example", "[::ffff:127.0.0.1]:1", false},
		{"gw.example", "169.254.169.254:80", false}, {"169.254.169.254", "169.254.169.254:80", true}, {"localhost", "169.254.169.254:80", false},
		{"gw.example", "10.1.2.3:1", true}, {"gw.example", "192.0.2.1:1", false}, {"192.0.2.1", "192.0.2.1:1", false},
		{"127.0.0.1", "127.0.0.1:7373", false}, {"localhost", "[::1]:7373", false}, {"127.0.0.1", "127.0.0.1:6060", false}, {"127.0.0.2", "127.0.0.2:6060", true},
		{"2130706433", "127.0.0.1:1", false}, {"127.1", "127.0.0.1:1", false},
	} {
		if got := p.Allowed(c.host, netip.MustParseAddrPort(c.at)); got != c.want {
			t.Errorf("%s at %s: %v", c.host, c.at, got)
		}
	}
}
