package openclaw

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestALateConnectionIsNobodys: the transport may get its connection after the
// deadline of Dial, which the race detector watches here.
func TestALateConnectionIsNobodys(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	cfg := Config{URL: "ws://" + l.Addr().String(), Token: "t", Allow: func(string, netip.AddrPort) bool {
		cancel()
		time.Sleep(100 * time.Millisecond) // a channel would order what the race detector shall find unordered
		return true
	}}
	if _, err := Dial(ctx, cfg, nil); err == nil {
		t.Fatal("Dial succeeded after its deadline")
	}
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	late, err := l.Accept()
	if err != nil {
		return // the transport gave up as well
	}
	defer func() { _ = late.Close() }()
	if err := late.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := late.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatalf("the late connection brought %d bytes, %v", n, err)
	}
}
