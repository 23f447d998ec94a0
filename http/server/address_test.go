package server

import (
	"net/http"
	"net/netip"
	"testing"
)

// TestAddress: only what trusted proxies wrote is believed.
func TestAddress(t *testing.T) {
	t.Parallel()
	s := &Server{cfg: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}}
	for _, c := range []struct {
		peer string
		hops []string
		want string
	}{
		{"203.0.113.7:1", nil, "203.0.113.7"},
		{"203.0.113.7:1", []string{"198.51.100.1"}, "203.0.113.7"}, // no proxy: anybody may write this
		{"10.0.0.1:1", nil, "10.0.0.1"},
		{"10.0.0.1:1", []string{"198.51.100.1"}, "198.51.100.1"},
		{"10.0.0.1:1", []string{"192.0.2.66, 198.51.100.1, 10.2.3.4"}, "198.51.100.1"}, // the left one is the client's word
		{"10.0.0.1:1", []string{"192.0.2.66", "198.51.100.1"}, "198.51.100.1"},
		{"10.0.0.1:1", []string{"10.9.9.9, 10.2.3.4"}, "10.9.9.9"},
		{"10.0.0.1:1", []string{"198.51.100.1, nonsense"}, "10.0.0.1"},
		{"10.0.0.1:1", []string{""}, "10.0.0.1"},
		{"10.0.0.1:1", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		{"[::ffff:10.0.0.1]:1", []string{"[2001:db8::1]:4711"}, "2001:db8::1"},
		{"[fd00::1%eth0]:1", []string{"2001:db8::1"}, "2001:db8::1"},
		{"@", []string{"198.51.100.1"}, "invalid IP"},
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{"X-Forwarded-For": c.hops}}
		if got := s.address(r).String(); got != c.want {
			t.Errorf("peer %s, X-Forwarded-For %q: %s, want %s", c.peer, c.hops, got, c.want)
		}
	}
	one, two := &http.Request{RemoteAddr: "[2001:db8:1:2::1]:1"}, &http.Request{RemoteAddr: "[2001:db8:1:2:ffff::9]:1"}
	if s.origin(one) != s.origin(two) {
		t.Errorf("%s and %s: one network of IPv6 is one origin", s.origin(one), s.origin(two))
	}
}
