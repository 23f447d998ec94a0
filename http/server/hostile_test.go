package server_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

func TestUnknownFieldsArePointedAt(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	for body, want := range map[string]string{
		`{"priority":"low","prio":1,"input":{"message":"x"}}`:                "/prio",
		`{"priority":"low","input":{"message":"x","a/b~c":1}}`:               "/input/a~1b~0c",
		`{"priority":"low","input":{"message":"x"},"requires":{"gpu":true}}`: "/requires/gpu",
		`{"priority":"low","input":{"message":"x"},"back\"off":{}}`:          `/back"off`,
	} {
		resp, answer := n.call("POST", "/api/v1/tasks", admin, body)
		p := read[api.Problem](t, answer)
		if resp.StatusCode != 400 || p.Errors == nil || len(*p.Errors) != 1 || (*p.Errors)[0].Pointer != want {
			t.Errorf("%s: %d %s, want pointer %s", body, resp.StatusCode, answer, want)
		}
	}
}

func TestBoundsAreSaidInPlainNumbers(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	for field, want := range map[string]string{
		`"delay_seconds":4e7`: "number must be at most 31536000",
		`"max_attempts":0`:    "number must be at least 1",
	} {
		resp, answer := n.call("POST", "/api/v1/tasks", admin, `{"priority":"low","input":{"message":"x"},`+field+`}`)
		p := read[api.Problem](t, answer)
		if resp.StatusCode != 400 || p.Errors == nil || len(*p.Errors) != 1 || (*p.Errors)[0].Detail != want {
			t.Errorf("%s: %d %s, want %q", field, resp.StatusCode, answer, want)
		}
	}
}

func TestAnUnstoredPoolIsReplacedByTheVersionItShows(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	resp, body := n.call("PUT", "/api/v1/pools/fresh", admin, `{}`, "If-Match", `"0"`)
	if resp.StatusCode != 200 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if resp, body := n.call("PUT", "/api/v1/pools/batch", admin, `{}`, "If-Match", `"0"`); resp.StatusCode != 412 {
		t.Errorf("a stored pool was replaced without its version: %d %s", resp.StatusCode, body)
	}
}

func TestStopCutsARequestThatNeverArrives(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	conn, err := net.Dial("tcp", n.srv.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n", admin)
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	// The server asks for the body, so the handler is reading it.
	line := make([]byte, len("HTTP/1.1 100"))
	if _, err := conn.Read(line); err != nil || !strings.HasPrefix(string(line), "HTTP/1.1 100") {
		t.Fatalf("%q %v", line, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if err := n.srv.Stop(ctx); err != nil {
		t.Errorf("a slow client makes the stop fail: %v", err)
	}
	if logs := n.logs.String(); !strings.Contains(logs, "cut") {
		t.Errorf("the cut is not logged: %s", logs)
	}
}

// TestAKeyThatEndsBeforeTheBody: what arrives after the revoke is not done.
func TestAKeyThatEndsBeforeTheBody(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	conn, err := net.Dial("tcp", n.srv.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const body = `{"priority":"low","input":{"message":"too late"}}`
	fmt.Fprintf(conn, "POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", admin, len(body))
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(conn)
	if line, err := answers.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("%q %v", line, err)
	}
	if _, err := answers.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	n.auth.ended.Store(admin, true)
	time.Sleep(200 * time.Millisecond) // longer than a caller counts as proven
	if _, err := conn.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, " 401 ") {
		t.Errorf("a submit whose body came after the revoke: %q %v", line, err)
	}
}

// longPoll begins to wait for a task and returns when it waits. answer gives the
// status of the answer.
func (n *node) longPoll(seconds int) (answer func() int) {
	waiting, status := make(chan struct{}), make(chan int, 1)
	n.Fail = func(_ context.Context, command string) error {
		if command == "WaitTask" {
			close(waiting)
		}
		return nil
	}
	go func() {
		resp, _ := n.call("GET", fmt.Sprintf("/api/v1/tasks/%s?wait_seconds=%d", openTask, seconds), admin, "")
		status <- resp.StatusCode
	}()
	<-waiting
	return func() int { return <-status }
}

// TestAKeyThatEndsDuringAWait: who waited with it is not told how the task ended,
// nor how it is when the wait is over.
func TestAKeyThatEndsDuringAWait(t *testing.T) {
	t.Parallel()
	for _, finished := range []bool{true, false} {
		n := start(t, server.Config{})
		answer := n.longPoll(1)
		n.auth.ended.Store(admin, true)
		if finished {
			time.Sleep(200 * time.Millisecond) // longer than a caller counts as proven
			n.Finish(openTask, "secret")
		}
		if status := answer(); status != 401 {
			t.Errorf("finished %v: %d, want 401", finished, status)
		}
	}
}

// TestAKeyThatEndsEndsItsWaits: a long-poll does not wait for its time to be told.
func TestAKeyThatEndsEndsItsWaits(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	answer := n.longPoll(300)
	n.auth.revoke(admin)
	revoked := time.Now()
	if status := answer(); status != 401 || time.Since(revoked) > time.Second {
		t.Errorf("%d after %v, want 401 within a second", status, time.Since(revoked))
	}
}

// TestANodeThatIsCutOffOnlyReads: and says how old its knowledge is.
func TestANodeThatIsCutOffOnlyReads(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{QueueTimeout: 300 * time.Millisecond})
	if resp, _ := n.call("GET", "/api/v1/pools", admin, ""); resp.Header["Dash-Stale"] != nil {
		t.Errorf("a confirmed credential: Dash-Stale %q", resp.Header["Dash-Stale"])
	}
	n.auth.cut.Store(true)
	resp, _ := n.call("GET", "/api/v1/pools", admin, "")
	if age, err := strconv.Atoi(resp.Header.Get("Dash-Stale")); resp.StatusCode != 200 || err != nil || age < 3 || age > 10 {
		t.Errorf("a read: %d, Dash-Stale %q", resp.StatusCode, resp.Header.Get("Dash-Stale"))
	}
	for _, write := range []string{"POST /api/v1/tasks/" + openTask + "/cancel", "DELETE /api/v1/sessions/s-1", "DELETE /api/v1/keys/k1"} {
		method, path, _ := strings.Cut(write, " ")
		if resp, body := n.call(method, path, admin, ""); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s", write, resp.StatusCode, body)
		}
	}
	cut := n.auth.Changed()
	n.auth.unconfirmed = make(chan struct{}, 8)
	go func() {
		for range 2 { // it was asked, and again before it waits
			<-n.auth.unconfirmed
		}
		n.auth.cut.Store(false)
		n.auth.changed.Ring()
	}()
	if resp, body := n.call("POST", "/api/v1/tasks/"+openTask+"/cancel", admin, ""); resp.StatusCode != 202 {
		t.Errorf("a change whose credential is confirmed in time: %d %s", resp.StatusCode, body)
	}
	<-cut
}

func TestStopCutsAWatcherThatNeverReads(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	conn, err := net.Dial("tcp", n.srv.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(2048); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", admin)
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, " 101 ") {
		t.Fatalf("%q %v", line, err)
	}
	// More than the buffers of the connection hold.
	long := strings.Repeat("x", 64<<10)
	for range 400 {
		n.Publish(&messages.Event{TimeMicros: 1, Tenant: "default", Type: "task.state", Subject: "t", Data: &messages.Event_Task{
			Task: &messages.TaskChanged{Pool: "default", Class: "high", State: "queued", Reason: long},
		}})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := n.srv.Stop(ctx); err != nil {
		t.Errorf("a watcher that does not read makes the stop fail: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the stop took %s", took)
	}
}

// TestIDsThatPathsCannotHold: what is named . or .. could never be read or removed.
func TestIDsThatPathsCannotHold(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	for _, id := range []string{".", ".."} {
		for path, body := range map[string]string{
			"/api/v1/gateways":          `{"id":%q,"url":"ws://127.0.0.1:1","token":"x"}`,
			"/api/v1/sessions":          `{"id":%q}`,
			"/api/v1/tenants":           `{"id":%q}`,
			"/api/v1/tasks":             `{"priority":"low","session":%q,"input":{"message":"x"}}`,
			"/api/v1/tasks?":            `{"priority":"low","pool":%q,"input":{"message":"x"}}`,
			"/api/v1/keys":              `{"name":"k","permissions":["read"],"tenant":%q}`,
			"/api/v1/users":             `{"email":"a@b","password":"correct horse battery","tenant":%q}`,
			"/api/v1/sessions/s-1/move": `{"gateway":%q}`,
		} {
			resp, answer := n.call("POST", path, admin, fmt.Sprintf(body, id))
			if p := read[api.Problem](t, answer); resp.StatusCode != 400 || !strings.Contains(p.Detail, "neither . nor ..") {
				t.Errorf("%s %s: %d %s", path, id, resp.StatusCode, answer)
			}
		}
	}
	if resp, body := n.call("POST", "/api/v1/tenants", admin, `{"id":"a:b"}`); resp.StatusCode != 400 || !strings.Contains(body, "colon") {
		t.Errorf("a tenant whose sessions could be another's: %d %s", resp.StatusCode, body)
	}
	if resp, body := n.call("POST", "/api/v1/sessions", admin, `{"id":"..."}`); resp.StatusCode != 201 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestAMessageOfWhiteSpaceIsRefused(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	for _, m := range []string{" ", "\t\n", "\u00a0\u2003\u3000"} {
		for path, body := range map[string]string{"/api/v1/tasks": `{"priority":"low","input":{"message":%q}}`, "/api/v1/sessions/s-1/messages": `{"message":%q}`} {
			if resp, answer := n.call("POST", path, admin, fmt.Sprintf(body, m)); resp.StatusCode != 400 || !strings.Contains(answer, "white space") {
				t.Errorf("%s %q: %d %s", path, m, resp.StatusCode, answer)
			}
		}
	}
}
