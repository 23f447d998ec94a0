package server

import (
	"net"
	"net/netip"
	"testing"
)

// fakeConn is a connection from an address.
type fakeConn struct {
	net.Conn
	from   string
	closed bool
}

func (c *fakeConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(c.from), 1))
}
func (c *fakeConn) Close() error { c.closed = true; return nil }

// TestConnectionsMakeRoom: who goes when there is no room, and that nothing is
// left of those who went.
func TestConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	s := newConnections(8, func(a netip.Addr) bool { return a == netip.MustParseAddr("10.0.0.1") })
	var open []*connection
	enter := func(from string) (*connection, *fakeConn) {
		f := &fakeConn{from: from}
		c := s.enter(f)
		open = append(open, c)
		return c, f
	}
	want := func(what string, f *fakeConn, closed bool) {
		t.Helper()
		if f.closed != closed {
			t.Errorf("%s: closed %v, want %v", what, f.closed, closed)
		}
	}
	worker, w := enter("192.0.2.1")
	worker.prove()
	worker.begin()
	idle, i := enter("192.0.2.1")
	idle.prove()
	_, proxied := enter("10.0.0.1")
	_, first := enter("192.0.2.9")
	_, second := enter("192.0.2.9")
	want("below the bound", first, false)
	_, third := enter("192.0.2.9") // a quarter is 2, and more than half are taken
	want("the oldest of an address with more than its part", first, true)
	want("a younger one", second, false)
	for range 5 { // a proxy's address counts for nothing
		enter("10.0.0.1")
	}
	want("the oldest stranger of all", proxied, true)
	want("a known one", i, false)
	for n := 0; s.count(stranger) > 0; n++ { // all strangers are at work now, or known
		at := s.all[stranger].Front().Value.(*connection)
		at.prove()
		at.begin()
	}
	want("strangers", third, false)
	newcomer, _ := enter("192.0.2.3")
	want("the known one that has nothing to do", i, true)
	newcomer.prove()
	newcomer.begin()
	probe, p := enter("192.0.2.4")
	if !probe.probesOnly() || newcomer.probesOnly() {
		t.Error("a connection beyond the bound may more than probe")
	}
	for range maxReserved {
		enter("192.0.2.4")
	}
	want("the oldest probe", p, true)
	want("one at work", w, false)
	for _, c := range open {
		_ = c.Close()
		_ = c.Close()
		c.end() // a request may end after its connection
	}
	for of := range standings {
		if s.count(of) != 0 {
			t.Errorf("%d %s connections are left", s.count(of), of)
		}
	}
	if len(s.by) != 0 {
		t.Errorf("addresses are left: %v", s.by)
	}
}

// TestBodiesAreBounded: in all, for a key to half, for its address to three quarters, so
// that one key leaves the others there something; what was taken is given back.
func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	w := newBudget(100, 0)
	a := &held{of: w, who: []string{"a", "x"}}
	other := &held{of: w, who: []string{"b", "x"}}
	far := &held{of: w, who: []string{"c", "y"}}
	late := &held{of: w, who: []string{"d", "z"}}
	for _, c := range []struct {
		l    *held
		n    int64
		want bool
	}{
		{a, 50, true}, {a, 1, false}, {other, 26, false}, {other, 25, true}, {far, 25, true}, {late, 1, false},
	} {
		if got := c.l.grow(c.n); got != c.want {
			t.Errorf("%v takes %d of 100 with %d taken: %v", c.l.who, c.n, w.sum, got)
		}
	}
	for _, l := range []*held{a, other, far, late, nil} {
		l.release()
		l.release()
	}
	if w.sum != 0 || len(w.by) != 0 {
		t.Errorf("%d is left, of %v", w.sum, w.by)
	}
}
