package openclawtest

import (
	"net"
	"sync"
)

const batchBytes = 64 << 10

// batchConn joins the small writes of one turn of a connection's writer into
// one system call. Outside hold/release it writes through.
type batchConn struct {
	net.Conn
	mu   sync.Mutex
	held bool
	buf  []byte
}

func (b *batchConn) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.held {
		return b.Conn.Write(p)
	}
	if len(b.buf)+len(p) > batchBytes {
		if err := b.flush(); err != nil {
			return 0, err
		}
		if len(p) > batchBytes {
			return b.Conn.Write(p)
		}
	}
	b.buf = append(b.buf, p...)
	return len(p), nil
}

func (b *batchConn) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = true
}

func (b *batchConn) release() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = false
	return b.flush()
}

func (b *batchConn) flush() error {
	if len(b.buf) == 0 {
		return nil
	}
	_, err := b.Conn.Write(b.buf)
	if cap(b.buf) > 2*batchBytes {
		b.buf = nil
	}
	b.buf = b.buf[:0]
	return err
}

type batchListener struct{ net.Listener }

func (l batchListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &batchConn{Conn: c}, nil
}
