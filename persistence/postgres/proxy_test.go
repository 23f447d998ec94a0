package postgres

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dash-fleet/dash/messages"
)

// fault is what a proxy does to the next request that ends with Sync.
type fault int32

const (
	faultNone      fault = iota
	faultBefore          // cut before the server has it
	faultAfter           // hand it over, then cut both sides at once
	faultAnswer          // hand it over, let the server finish, keep the answer back and cut
	faultBlackHole       // neither side hears of the other again, no connection ends
)

// proxy stands between an engine and its server.
type proxy struct {
	l       net.Listener
	target  string
	armed   atomic.Int32
	refuse  atomic.Bool // new connections are cut
	done    chan struct{}
	mu      sync.Mutex
	conns   map[net.Conn]bool
	closing bool
	once    sync.Once
	all     sync.WaitGroup
}

// newProxy gives a proxy and cfg with its address in the place of the server's.
func newProxy(t testing.TB, cfg Config) (*proxy, Config) {
	t.Helper()
	u, err := url.Parse(cfg.URL.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, target: u.Host, done: make(chan struct{}), conns: map[net.Conn]bool{}}
	u.Host = l.Addr().String()
	cfg.URL = messages.Secret(u.String())
	p.all.Go(p.serve)
	t.Cleanup(p.close)
	return p, cfg
}

func (p *proxy) close() { p.once.Do(p.shut) }

func (p *proxy) shut() {
	_ = p.l.Close()
	close(p.done)
	p.mu.Lock()
	p.closing = true
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.all.Wait()
}

// keep registers a connection; false: the proxy is closing.
func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
	return !p.closing
}

func (p *proxy) serve() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		if p.refuse.Load() || !p.keep(client) {
			_ = client.Close()
			continue
		}
		p.all.Go(func() { p.connect(client) })
	}
}

func (p *proxy) connect(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", p.target)
	if err != nil || !p.keep(server) {
		return
	}
	defer func() { _ = server.Close() }()
	var hit atomic.Int32
	var back sync.WaitGroup
	back.Go(func() {
		_ = copyUntil(client, server, func() bool { f := fault(hit.Load()); return f == faultAnswer || f == faultBlackHole })
		if fault(hit.Load()) != faultBlackHole {
			_ = client.Close()
		}
	})
	p.forward(server, client, &hit)
	switch fault(hit.Load()) {
	case faultAnswer:
		back.Wait() // the server has answered
	case faultBlackHole:
		<-p.done
	}
	_ = client.Close()
	_ = server.Close()
	back.Wait()
}

// copyUntil copies until an error, or until stop is true when something arrives.
func copyUntil(to io.Writer, from io.Reader, stop func() bool) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return err
		}
		if stop() {
			return errors.New("stopped")
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return err
		}
	}
}

var (
	syncMessage = []byte{'S', 0, 0, 0, 4}
	batchName   = []byte(statement + "\x00")
)

// forward passes requests on until the armed fault has hit one: the end of a
// batch, which is a Bind of its statement up to Sync.
func (p *proxy) forward(server io.Writer, client io.Reader, hit *atomic.Int32) {
	buf := make([]byte, 64<<10)
	batch := false
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		b := buf[:n]
		batch = batch || (bytes.Contains(b, batchName) && bytes.IndexByte(b, 'B') == 0)
		end := batch && bytes.HasSuffix(b, syncMessage)
		if end {
			batch = false
			if f := fault(p.armed.Swap(0)); f != faultNone {
				hit.Store(int32(f))
				if f != faultBefore {
					_, _ = server.Write(b)
				}
				return
			}
		}
		if _, err := server.Write(b); err != nil {
			return
		}
	}
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}
