package server_test

import (
	"bufio"
	"context"
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

// halfClosed sends a request, closes the sending side, as `nc -N` and some
// proxies do, and reads the answer.
func halfClosed(t *testing.T, addr, request, body string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", request, admin, len(body), body)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	return resp, string(b)
}

// TestAHalfClosedClientIsAnswered: a client that closed its side is told what
// happened, not that something took too long or that the node stops.
func TestAHalfClosedClientIsAnswered(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	n.Fail = func(ctx context.Context, command string) error {
		if command == "WaitTask" {
			return nil
		}
		select { // long enough for the server to see the end of the client's side
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
			return nil
		}
	}
	for request, c := range map[string]struct {
		body   string
		status int
	}{
		"POST /api/v1/tasks":                              {hello, 202},
		"GET /api/v1/tasks":                               {"", 200},
		"GET /api/v1/sessions":                            {"", 200},
		"GET /api/v1/gateways":                            {"", 200},
		"GET /api/v1/queue":                               {"", 200},
		"GET /api/v1/audit":                               {"", 200},
		"POST /api/v1/gateways/gw-1/drain":                {"", 202},
		"GET /api/v1/tasks/" + openTask:                   {"", 200},
		"PUT /api/v1/pools/none":                          {`{}`, 428},
		"GET /api/v1/nodes":                               {"", 200},
		"GET /health/ready":                               {"", 200},
		"GET /api/v1/tasks/x":                             {"", 404},
		"POST /api/v1/tasks/" + heldTask + "/cancel":      {"{}", 202},
		"GET /api/v1/sessions/s-1/transcript?limit=2":     {"", 200},
		"POST /api/v1/sessions/s-1/messages":              {`{"message":"x"}`, 202},
		"POST /api/v1/dead-letters/replay":                {`{"filter":{},"dry_run":true}`, 200},
		"GET /api/v1/tasks?id_end=0002&state=dead_letter": {"", 200},
	} {
		t.Run(request, func(t *testing.T) {
			t.Parallel()
			if resp, body := halfClosed(t, n.srv.Addr().String(), request, c.body); resp.StatusCode != c.status {
				t.Errorf("%d, want %d: %s", resp.StatusCode, c.status, body)
			}
		})
	}
	t.Run("a long-poll keeps nobody waiting", func(t *testing.T) {
		t.Parallel()
		began := time.Now()
		resp, body := halfClosed(t, n.srv.Addr().String(), "GET /api/v1/tasks/"+openTask+"?wait_seconds=300", "")
		if got := read[api.Task](t, body); resp.StatusCode != 200 || got.State != api.TaskStateQueued || time.Since(began) > 15*time.Second {
			t.Errorf("%d %s", resp.StatusCode, body)
		}
	})
}

// TestAStopCutsWhatIsDetached: a command that does not end is cut by a Stop
// whose time is over, although no client gives it up.
func TestAStopCutsWhatIsDetached(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	began, ended := make(chan struct{}), make(chan error, 1)
	n.Fail = func(ctx context.Context, command string) error {
		if command == "Tasks" {
			close(began)
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		}
		return nil
	}
	answer := make(chan string, 1)
	go func() {
		resp, err := n.plain.RoundTrip(func() *http.Request {
			r, _ := http.NewRequest("GET", n.base+"/api/v1/tasks", strings.NewReader(""))
			r.Header.Set("Authorization", "Bearer "+admin)
			return r
		}())
		if err == nil {
			resp.Body.Close()
		}
		answer <- fmt.Sprint(err)
	}()
	<-began
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := n.srv.Stop(ctx); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err != context.Canceled {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the command goes on after the stop")
	}
	<-answer
}
