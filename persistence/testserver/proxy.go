package testserver

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"
)

// Moment says when CutOn cuts, seen from the chunk that matched.
type Moment int

const (
	// BeforeForward drops the chunk: the server never sees it.
	BeforeForward Moment = iota
	// AfterForward sends it to the server and resets both sides at once: whether
	// the server carries it out is open, and the client never hears of it.
	AfterForward
	// AfterAnswer sends it and waits until the server answers: it has carried the
	// command out, and the client never hears of it. What the server says before
	// the client's next bytes counts as the answer; it is swallowed.
	AfterAnswer
)

// Proxy is a TCP proxy on loopback that injects faults between a client and a
// server. A reset (RST) is what a crashed peer or a firewall sends; a black
// hole is a network that drops everything and says nothing, except that the
// operating system still acknowledges what a client sends.
type Proxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu     sync.Mutex
	conns  map[*pair]struct{}
	trap   *trap
	hole   chan struct{} // closed when the black hole ends; nil without one
	delay  time.Duration
	refuse bool
	closed bool
}

// trap waits for a chunk.
type trap struct {
	match  func(chunk []byte) bool
	moment Moment
	sprung chan struct{}
}

// pair is one client's connection and its connection to the server.
type pair struct {
	client, server *net.TCPConn
	once           sync.Once
	over           chan struct{} // closed with the connections

	mu      sync.Mutex
	waiting *trap // sprung by the server's next answer
	mute    bool  // the client hears nothing any more
}

// StartProxy listens on a free loopback port and forwards to target, host:port.
// The caller closes it.
func StartProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start a proxy: %w", err)
	}
	p := &Proxy{listener: l, target: target, conns: map[*pair]struct{}{}}
	p.wg.Go(p.accept)
	return p, nil
}

// NewProxy is StartProxy for a test, closed at its end.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := StartProxy(target)
	fatal(t, err)
	t.Cleanup(p.Close)
	return p
}

// Addr is the proxy's host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// URL is a server's URL that leads through the proxy.
func (p *Proxy) URL(server string) (string, error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", errors.New("lead a URL through a proxy: it is malformed") // without quoting its password
	}
	u.Host = p.Addr()
	return u.String(), nil
}

// Cut resets all connections, on both sides, and returns their number. New ones
// are taken.
func (p *Proxy) Cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.conns)
	for c := range p.conns {
		c.reset()
	}
	return n
}

// Refuse resets new connections at once while on.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = on
}

// CutOn cuts the first connection on which the client sends a chunk that
// matches, once, and closes the channel it returns when it has. A chunk is what
// one read took from the socket, up to 64 KiB; match runs on the connection's
// goroutine and must not keep it. A second call replaces a trap that is still
// set; nil removes it.
func (p *Proxy) CutOn(match func(chunk []byte) bool, at Moment) <-chan struct{} {
	t := &trap{match: match, moment: at, sprung: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trap = t
	if match == nil {
		p.trap = nil
	}
	return t.sprung
}

// BlackHole holds back everything in both directions while on, also on new
// connections. Nothing is lost: it is delivered when it is switched off, as
// after a network's recovery.
func (p *Proxy) BlackHole(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case on && p.hole == nil:
		p.hole = make(chan struct{})
	case !on && p.hole != nil:
		close(p.hole)
		p.hole = nil
	}
}

// Delay holds each chunk back by d, in each direction: the round trip grows by
// twice that. 0 ends it.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Close resets all connections, ends listening and waits for the goroutines.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		c.reset()
	}
	p.mu.Unlock()
	p.listener.Close()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		client := c.(*net.TCPConn)
		p.wg.Go(func() { p.serve(client) })
	}
}

// serve connects to the server; one that does not listen resets the client.
func (p *Proxy) serve(client *net.TCPConn) {
	c, err := net.DialTimeout("tcp4", p.target, 5*time.Second)
	if err != nil {
		reset(client)
		return
	}
	pr := &pair{client: client, server: c.(*net.TCPConn), over: make(chan struct{})}
	p.mu.Lock()
	if p.closed || p.refuse {
		p.mu.Unlock()
		pr.reset()
		return
	}
	p.conns[pr] = struct{}{}
	p.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { p.pump(pr, client, pr.server, p.fromClient) })
	wg.Go(func() { p.pump(pr, pr.server, client, p.fromServer) })
	wg.Wait()
	pr.reset()
	p.mu.Lock()
	delete(p.conns, pr)
	p.mu.Unlock()
}

// pump forwards until one side ends; an orderly end is passed on.
func (p *Proxy) pump(pr *pair, from, to *net.TCPConn, handle func(*pair, []byte) bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if !p.hold(pr) {
				return
			}
			if !handle(pr, buf[:n]) {
				pr.reset()
				return
			}
		}
		if err != nil {
			if p.hold(pr) {
				_ = to.CloseWrite() // reset meanwhile: then there is nobody to tell
			}
			return
		}
	}
}

// hold waits out the delay and the black hole; false when the pair is over.
func (p *Proxy) hold(pr *pair) bool {
	p.mu.Lock()
	delay := p.delay
	p.mu.Unlock()
	if delay > 0 {
		select {
		case <-pr.over:
			return false
		case <-time.After(delay):
		}
	}
	for {
		p.mu.Lock()
		hole := p.hole
		p.mu.Unlock()
		if hole == nil {
			return true
		}
		select {
		case <-pr.over:
			return false
		case <-hole:
		}
	}
}

// fromClient forwards a chunk, or springs the trap; false cuts the pair.
func (p *Proxy) fromClient(pr *pair, chunk []byte) bool {
	t := p.spring(chunk)
	if t == nil {
		_, err := pr.server.Write(chunk)
		return err == nil
	}
	switch t.moment {
	case AfterForward:
		pr.mu.Lock()
		pr.mute = true
		pr.mu.Unlock()
		_, _ = pr.server.Write(chunk) // it is cut either way
	case AfterAnswer:
		pr.mu.Lock()
		pr.waiting = t
		pr.mu.Unlock()
		_, err := pr.server.Write(chunk)
		return err == nil
	case BeforeForward:
	}
	pr.reset()
	close(t.sprung)
	return false
}

// spring takes the trap when it matches, so that it fires once.
func (p *Proxy) spring(chunk []byte) *trap {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.trap
	if t == nil || !t.match(chunk) {
		return nil
	}
	p.trap = nil
	return t
}

func (p *Proxy) fromServer(pr *pair, chunk []byte) bool {
	pr.mu.Lock()
	t, mute := pr.waiting, pr.mute
	pr.mu.Unlock()
	if mute {
		return false
	}
	if t != nil {
		pr.reset()
		close(t.sprung)
		return false
	}
	_, err := pr.client.Write(chunk)
	return err == nil
}

func (pr *pair) reset() {
	pr.once.Do(func() {
		close(pr.over)
		reset(pr.client)
		reset(pr.server)
	})
}

// reset closes a connection with RST.
func reset(c *net.TCPConn) {
	_, _ = c.SetLinger(0), c.Close() // the peer may have closed it already
}
