package server

import (
	lists "container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// standing is what a connection has shown so far.
type standing int

const (
	stranger standing = iota // no valid credential yet
	known                    // one of its requests had one
	reserved                 // beyond the bound: for probes alone
	standings
)

func (s standing) String() string { return [...]string{"stranger", "known", "reserved"}[s] }

// maxReserved are connections beyond the bound, kept for probes.
const maxReserved = 32

// connections bounds how many there are, so that descriptors are left for what
// the node itself does. When there is no room, one goes that nothing is lost
// with: a stranger's, idle ones first, then one that has nothing to do. When all
// are at work, newcomers may only probe. While more than half are taken, one
// address may have a quarter of them as strangers.
type connections struct {
	max     int
	trusts  func(netip.Addr) bool
	dropped *prometheus.CounterVec

	mu  sync.Mutex
	all [standings]*lists.List // of *connection, the one that did nothing for longest in front
	by  map[netip.Addr]int     // strangers
}

// connection is one of them, until it is closed.
type connection struct {
	net.Conn
	owner   *connections
	address netip.Addr // not valid: of a trusted proxy

	probes bool // it is a reserved one

	// of owner.mu
	standing standing
	at       *lists.Element // nil: it was closed
	busy     int            // requests that are being answered
}

func newConnections(n int, trusts func(netip.Addr) bool) *connections {
	s := &connections{max: n, trusts: trusts, by: map[netip.Addr]int{}, dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dash_http_connections_dropped_total", Help: "Connections that were closed to make room for others, by what they had shown: stranger (no valid credential), known, reserved (beyond the bound, for probes).",
	}, []string{"standing"})}
	for i := range s.all {
		s.all[i] = lists.New()
	}
	return s
}

// enter takes a new connection in, at the cost of another one if need be.
func (s *connections) enter(conn net.Conn) *connection {
	c := &connection{Conn: conn, owner: s}
	if at, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		if a := plain(at.Addr()); !s.trusts(a) {
			c.address = network(a)
		}
	}
	s.mu.Lock()
	var victim *connection
	n := s.all[stranger].Len() + s.all[known].Len()
	switch {
	case n > s.max/2 && c.address.IsValid() && s.by[c.address] >= max(1, s.max/4):
		victim = s.oldest(stranger, func(o *connection) bool { return o.address == c.address })
	case n >= s.max:
		if victim = s.oldest(stranger, func(*connection) bool { return true }); victim == nil {
			victim = s.idle(known, func(*connection) bool { return true })
		}
		if victim == nil {
			c.standing, c.probes = reserved, true
			if s.all[reserved].Len() >= maxReserved {
				victim = s.oldest(reserved, func(*connection) bool { return true })
			}
		}
	}
	if victim != nil {
		s.dropped.WithLabelValues(victim.standing.String()).Inc()
		s.remove(victim)
	}
	c.at = s.all[c.standing].PushBack(c)
	if c.standing == stranger {
		s.by[c.address]++
	}
	s.mu.Unlock()
	if victim != nil {
		_ = victim.Conn.Close()
	}
	return c
}

// idle is the one that did nothing for longest, of some. s.mu is held.
func (s *connections) idle(of standing, some func(*connection) bool) *connection {
	for at := s.all[of].Front(); at != nil; at = at.Next() {
		if c := at.Value.(*connection); c.busy == 0 && some(c) {
			return c
		}
	}
	return nil
}

// oldest is an idle one, or else the one that is at work for longest. s.mu is held.
func (s *connections) oldest(of standing, some func(*connection) bool) *connection {
	if c := s.idle(of, some); c != nil {
		return c
	}
	for at := s.all[of].Front(); at != nil; at = at.Next() {
		if c := at.Value.(*connection); some(c) {
			return c
		}
	}
	return nil
}

// remove forgets a connection, once. s.mu is held.
func (s *connections) remove(c *connection) {
	if c.at == nil {
		return
	}
	s.all[c.standing].Remove(c.at)
	c.at = nil
	s.uncount(c)
}

// uncount takes a stranger off its address. s.mu is held.
func (s *connections) uncount(c *connection) {
	if c.standing != stranger {
		return
	}
	if s.by[c.address]--; s.by[c.address] == 0 {
		delete(s.by, c.address)
	}
}

func (s *connections) count(of standing) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[of].Len()
}

// begin and end enclose a request. A nil connection is that of a test's recorder.
func (c *connection) begin() {
	if c != nil {
		c.owner.mu.Lock()
		c.busy++
		c.owner.mu.Unlock()
	}
}

func (c *connection) end() {
	if c == nil {
		return
	}
	c.owner.mu.Lock()
	defer c.owner.mu.Unlock()
	if c.busy--; c.at != nil {
		c.owner.all[c.standing].MoveToBack(c.at)
	}
}

// prove notes that a request had a valid credential.
func (c *connection) prove() {
	if c == nil {
		return
	}
	s := c.owner
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.standing != stranger || c.at == nil {
		return
	}
	s.all[stranger].Remove(c.at)
	s.uncount(c)
	c.standing = known
	c.at = s.all[known].PushBack(c)
}

// probesOnly reports whether it is one beyond the bound.
func (c *connection) probesOnly() bool { return c != nil && c.probes }

// Close implements net.Conn.
func (c *connection) Close() error {
	c.owner.mu.Lock()
	c.owner.remove(c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite lets net/http end an answer before it closes.
func (c *connection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

type connectionKey struct{}

// withConnection makes the connection known to its requests.
func withConnection(ctx context.Context, conn net.Conn) context.Context {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	c, _ := conn.(*connection)
	return context.WithValue(ctx, connectionKey{}, c)
}

func connectionOf(r *http.Request) *connection {
	c, _ := r.Context().Value(connectionKey{}).(*connection)
	return c
}
