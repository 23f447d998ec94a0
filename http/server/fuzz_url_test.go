package server

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

// FuzzGatewayURL: a URL that is taken leads, however it is read again, to one host
// and port, and holds nothing that is not part of an address.
func FuzzGatewayURL(f *testing.F) {
	for _, s := range []string{
		"ws://127.0.0.1:18789", "wss://gw.example/x", "ws://user:pw@127.0.0.1", "ws://127.0.0.1:0", "ws://127.0.0.1:99999", "http://127.0.0.1", "ws://", "ws:127.0.0.1",
		"ws://[::1]:1", "ws://[fe80::1%25eth0]:1", "ws://127.0.0.1#@evil", "ws://127.0.0.1?x", "ws://evil\\@127.0.0.1", "WS://LOCALHOST", "ws://127.1", "ws://0x7f000001", "ws://127.0.0.1:", "ws://a b", "ws://127.0.0.1/\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if checkGatewayURL(raw) != "" {
			return
		}
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatalf("%q is taken, and does not parse: %v", raw, err)
		}
		again, err := url.Parse(u.String())
		switch {
		case err != nil:
			t.Errorf("%q is taken, and cannot be written: %v", raw, err)
		case again.Hostname() != u.Hostname() || again.Port() != u.Port():
			t.Errorf("%q leads to %q, and written anew to %q", raw, u.Host, again.Host)
		case u.User != nil || u.RawQuery != "" || u.Fragment != "":
			t.Errorf("%q holds more than an address", raw)
		}
		if _, err := netip.ParseAddr(u.Hostname()); err != nil && strings.ContainsAny(u.Hostname(), " /\\@#?\x00\r\n") {
			t.Errorf("%q has the host %q", raw, u.Hostname())
		}
	})
}
