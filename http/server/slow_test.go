package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/http/server"
)

// raw opens a connection and writes.
func (n *node) raw(text string) net.Conn {
	n.t.Helper()
	conn, err := net.Dial("tcp", n.srv.Addr().String())
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		n.t.Fatal(err)
	}
	return conn
}

// slowBody begins a submit and sends a part of its body.
func slowBody(token string) string {
	return "POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
}

// answer reads the status of an answer.
func answer(t testing.TB, conn net.Conn) *http.Response {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// awaitBodies waits until so many bodies are on their way, of as many as there is
// room for.
func (n *node) awaitBodies(many, room int) {
	n.t.Helper()
	held := 0.0
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		_, metrics := n.call("GET", "/metrics", admin, "")
		if held = metric(n.t, metrics, "dash_http_body_bytes"); held >= float64(many*((64<<20)/room)) {
			return
		}
	}
	n.t.Fatalf("bodies hold %.0f bytes, want those of %d", held, many)
}

// TestSlowBodiesTakeNobodysPlace: a request has its body before it has a place.
func TestSlowBodiesTakeNobodysPlace(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{MaxRequests: 2, QueueTimeout: 50 * time.Millisecond, MaxConnections: 8 * 99})
	for range 20 {
		n.raw(slowBody(admin))
	}
	n.awaitBodies(20, 100)
	for range 5 {
		if resp, body := n.call("GET", "/api/v1/pools", admin, ""); resp.StatusCode != 200 {
			t.Fatalf("beside 20 slow bodies: %d %s", resp.StatusCode, body)
		}
	}
}

// TestIdleConnectionsKeepNobodyOut: neither silent ones, nor ones that did one thing
// and stay, nor slow headers; and when all are at work health still answers.
func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{MaxConnections: 16})
	for range 20 {
		n.raw("")
		n.raw("GET /health HTTP/1.1\r\nX-Slow: ")
		conn := n.raw("GET /api/v1/pools HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + admin + "\r\n\r\n")
		if resp := answer(t, conn); resp.StatusCode != 200 {
			t.Fatalf("beside idle connections: %d", resp.StatusCode)
		}
	}
	deadline := time.Now().Add(30 * time.Second)
	for { // 16 connections are all there may be; slow bodies are cut after a while, so new ones come
		n.raw(slowBody(admin))
		n.raw(slowBody(tenant))
		resp := answer(t, n.raw("GET /api/v1/pools HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+admin+"\r\n\r\n"))
		if resp.StatusCode == 503 && resp.Close && resp.Header.Get("Retry-After") != "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("with all connections at work: %d, close %v", resp.StatusCode, resp.Close)
		}
	}
	for range 3 {
		if resp := answer(t, n.raw("GET /health HTTP/1.1\r\nHost: x\r\n\r\n")); resp.StatusCode != 200 {
			t.Errorf("health with all connections at work: %d", resp.StatusCode)
		}
	}
}

// TestBodiesOfOneKeyLeaveRoom: what a key's bodies may take is bounded.
func TestBodiesOfOneKeyLeaveRoom(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{MaxConnections: 64, TrustedProxies: loopback, DrainTimeout: 50 * time.Millisecond}) // 9 bodies, 4 of a key
	from := func(address string, text string) string {
		return strings.Replace(text, "Host: x", "Host: x\r\nX-Forwarded-For: "+address, 1)
	}
	for i := range 8 {
		n.raw(from(fmt.Sprintf("192.0.2.%d", i+1), slowBody(admin)))
	}
	n.awaitBodies(4, 9)
	if resp := answer(t, n.raw(from("192.0.2.99", slowBody(admin)))); resp.StatusCode != 503 {
		t.Errorf("a ninth slow body of a key: %d, want 503", resp.StatusCode)
	}
	whole := strings.Replace(slowBody(tenant), "Content-Length: 100\r\n\r\n{", "Content-Length: 2\r\n\r\n{}", 1)
	if resp := answer(t, n.raw(from("192.0.2.98", whole))); resp.StatusCode != 400 {
		t.Errorf("a body of another key: %d, want 400 as it is no task", resp.StatusCode)
	}
}

// TestChunkedRequestsEndTheirConnection: one with a Content-Length, too, cannot be
// told from others, and may be two requests to a proxy in between.
func TestChunkedRequestsEndTheirConnection(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	head := "POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + admin + "\r\nContent-Type: application/json\r\n"
	for name, text := range map[string]string{
		"both":    head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"chunked": head + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
	} {
		if resp := answer(t, n.raw(text)); resp.StatusCode != 400 || !resp.Close {
			t.Errorf("%s: %d, close %v, want 400 and the end of the connection", name, resp.StatusCode, resp.Close)
		}
	}
	if resp := answer(t, n.raw(head+"Content-Length: 2\r\n\r\n{}")); resp.StatusCode != 400 || resp.Close {
		t.Errorf("with a Content-Length alone: %d, close %v", resp.StatusCode, resp.Close)
	}
}
