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

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/server"
)

// writeThenRead is a client as most libraries are: it writes everything, and
// only then looks for the answer.
func writeThenRead(addr, head string, body string) (*http.Response, string, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return nil, "", err
	}
	if _, err := io.WriteString(conn, head+"\r\n\r\n"); err != nil {
		return nil, "", fmt.Errorf("write the head: %w", err)
	}
	for b := body; len(b) > 0; {
		n := min(len(b), 16<<10)
		if _, err := io.WriteString(conn, b[:n]); err != nil {
			return nil, "", fmt.Errorf("write the body, %d bytes before its end: %w", len(b), err)
		}
		b = b[n:]
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, "", fmt.Errorf("read the answer: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

func TestARefusalReachesWhoeverWritesFirst(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	const json = "\r\nContent-Type: application/json"
	long := strings.Repeat(" ", 4<<20)
	for name, c := range map[string]struct {
		head, body string
		status     int
		code       string
	}{
		"too large":               {"POST /api/v1/tasks HTTP/1.1\r\nAuthorization: Bearer " + admin + json, long, 413, "too_large"},
		"much too large":          {"POST /api/v1/tasks HTTP/1.1\r\nAuthorization: Bearer " + admin + json, strings.Repeat(long, 4), 413, "too_large"},
		"no credential":           {"POST /api/v1/tasks HTTP/1.1" + json, long, 401, "unauthorized"},
		"no permission":           {"POST /api/v1/tasks HTTP/1.1\r\nAuthorization: Bearer " + reader + json, long, 403, "forbidden"},
		"no such path":            {"POST /api/v1/nothing HTTP/1.1\r\nAuthorization: Bearer " + admin + json, long, 404, "not_found"},
		"no such method":          {"PUT /api/v1/tasks HTTP/1.1\r\nAuthorization: Bearer " + admin + json, long, 405, "method_not_allowed"},
		"not canonical":           {"POST /api/v1//tasks HTTP/1.1\r\nAuthorization: Bearer " + admin + json, long, 400, "invalid_request"},
		"media type":              {"POST /api/v1/tasks HTTP/1.1\r\nAuthorization: Bearer " + admin + "\r\nContent-Type: text/plain", long, 415, "unsupported_media_type"},
		"no body expected":        {"POST /api/v1/gateways/gw-1/drain HTTP/1.1\r\nAuthorization: Bearer " + admin + json, long, 400, "invalid_request"},
		"a body that is too much": {"GET /api/v1/tasks HTTP/1.1\r\nAuthorization: Bearer " + admin + json, long, 400, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i := range 30 {
				if i > 2 && len(c.body) > len(long) {
					break
				}
				length, body := fmt.Sprintf("\r\nContent-Length: %d", len(c.body)), c.body
				if i%2 == 1 {
					length, body = "\r\nTransfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(c.body), c.body)
				}
				resp, answer, err := writeThenRead(n.srv.Addr().String(), c.head+"\r\nHost: x"+length, body)
				if err != nil {
					t.Fatalf("try %d: %v", i, err)
				}
				if p := read[api.Problem](t, answer); resp.StatusCode != c.status || p.Code != c.code {
					t.Fatalf("try %d: %d %s", i, resp.StatusCode, answer)
				}
			}
		})
	}
}

// TestARefusalDoesNotAskForTheBody: a client that waits for leave gets the
// refusal at once, and one that never sends is not waited for for long.
func TestARefusalDoesNotAskForTheBody(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	head := "POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4194304\r\nAuthorization: Bearer " + admin
	began := time.Now()
	resp, body, err := writeThenRead(n.srv.Addr().String(), head+"\r\nExpect: 100-continue", "")
	if err != nil || resp.StatusCode != 413 || time.Since(began) > 4*time.Second {
		t.Errorf("%v %v %s after %s", resp, err, body, time.Since(began))
	}
	began = time.Now()
	resp, body, err = writeThenRead(n.srv.Addr().String(), head, "{")
	if err != nil || resp.StatusCode != 413 || time.Since(began) > 15*time.Second {
		t.Errorf("%v %v %s after %s", resp, err, body, time.Since(began))
	}
}
