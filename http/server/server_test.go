package server_test

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

const hello = `{"priority":"high","input":{"message":"hello"}}`

func read[T any](t testing.TB, body string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return v
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	big := `{"priority":"high","input":{"message":"` + strings.Repeat("x", 256<<10+1) + `"}}`
	for _, c := range []struct {
		name, method, path, token, body string
		status                          int
		code                            string
		header                          []string
	}{
		{name: "no credential", method: "GET", path: "/api/v1/tasks", status: 401, code: "unauthorized"},
		{name: "wrong credential", method: "GET", path: "/api/v1/tasks", token: "nope", status: 401, code: "unauthorized"},
		{name: "basic credential", method: "GET", path: "/api/v1/tasks", header: []string{"Authorization", "Basic eA=="}, status: 401, code: "unauthorized"},
		{name: "keys cannot be checked", method: "GET", path: "/api/v1/tasks", token: busy, status: 503, code: "unavailable"},
		{name: "lacks permission", method: "POST", path: "/api/v1/tasks", token: reader, body: hello, status: 403, code: "forbidden"},
		{name: "alias asks too", method: "GET", path: "/api/tasks", status: 401, code: "unauthorized"},
		{name: "metrics ask too", method: "GET", path: "/metrics", status: 401, code: "unauthorized"},
		{name: "no path", method: "GET", path: "/api/v1/nothing", token: admin, status: 404, code: "not_found"},
		{name: "no redirect of case", method: "GET", path: "/API/v1/tasks", token: admin, status: 404, code: "not_found"},
		{name: "no redirect of slash", method: "GET", path: "/api/v1/tasks/", token: admin, status: 404, code: "not_found"},
		{name: "encoded path", method: "GET", path: "/api/v1/%74asks", token: admin, status: 400, code: "invalid_request"},
		{name: "encoded slash", method: "GET", path: "/api/v1/tasks%2fx", token: admin, status: 400, code: "invalid_request"},
		{name: "double slash", method: "GET", path: "/api/v1//tasks", token: admin, status: 400, code: "invalid_request"},
		{name: "dots", method: "GET", path: "/health/../api/v1/tasks", token: admin, status: 400, code: "invalid_request"},
		{name: "semicolon", method: "GET", path: "/api/v1/tasks;x", token: admin, status: 400, code: "invalid_request"},
		{name: "space", method: "GET", path: "/api/v1/tasks/a%20b", token: admin, status: 400, code: "invalid_request"},
		{name: "bad id", method: "GET", path: "/api/v1/tasks/a*b", token: admin, status: 400, code: "invalid_request"},
		{name: "method", method: "PUT", path: "/api/v1/tasks", token: admin, status: 405, code: "method_not_allowed"},
		{name: "no WebSocket", method: "GET", path: "/events", status: 426, code: "upgrade_required"},
		{name: "no such task", method: "GET", path: "/api/v1/tasks/x", token: admin, status: 404, code: "not_found"},
		{name: "other tenant's task", method: "GET", path: "/api/v1/tasks/" + openTask, token: tenant, status: 404, code: "not_found"},
		{name: "other tenant in a list", method: "GET", path: "/api/v1/tasks?tenant=default", token: tenant, status: 403, code: "forbidden"},
		{name: "other tenant in a submit", method: "POST", path: "/api/v1/tasks", token: tenant, body: `{"priority":"low","tenant":"default","input":{"message":"x"}}`, status: 403, code: "forbidden"},
		{name: "unknown parameter", method: "GET", path: "/api/v1/tasks?stat=queued", token: admin, status: 400, code: "invalid_request"},
		{name: "repeated parameter", method: "GET", path: "/api/v1/tasks?limit=1&limit=2", token: admin, status: 400, code: "invalid_request"},
		{name: "limit", method: "GET", path: "/api/v1/tasks?limit=1001", token: admin, status: 400, code: "invalid_request"},
		{name: "state", method: "GET", path: "/api/v1/tasks?state=queued,done", token: admin, status: 400, code: "invalid_request"},
		{name: "wait too long", method: "GET", path: "/api/v1/tasks/" + openTask + "?wait_seconds=301", token: admin, status: 400, code: "invalid_request"},
		{name: "cursor", method: "GET", path: "/api/v1/tasks?cursor=abc", token: admin, status: 400, code: "invalid_request"},
		{name: "no body", method: "POST", path: "/api/v1/tasks", token: admin, status: 400, code: "invalid_request"},
		{name: "needless body", method: "POST", path: "/api/v1/gateways/gw-1/drain", token: admin, body: `{}`, status: 400, code: "invalid_request"},
		{name: "body on GET", method: "GET", path: "/api/v1/tasks", token: admin, body: `{}`, status: 400, code: "invalid_request"},
		{name: "media type", method: "POST", path: "/api/v1/tasks", token: admin, body: hello, header: []string{"Content-Type", "text/plain"}, status: 415, code: "unsupported_media_type"},
		{name: "charset", method: "POST", path: "/api/v1/tasks", token: admin, body: hello, header: []string{"Content-Type", "application/json; charset=latin1"}, status: 415, code: "unsupported_media_type"},
		{name: "compressed", method: "POST", path: "/api/v1/tasks", token: admin, body: hello, header: []string{"Content-Type", "application/json;charset=utf-8", "Content-Encoding", "gzip"}, status: 415, code: "unsupported_media_type"},
		{name: "compressed, plain media type", method: "POST", path: "/api/v1/tasks", token: admin, body: hello, header: []string{"Content-Encoding", "gzip"}, status: 415, code: "unsupported_media_type"},
		{name: "message too large", method: "POST", path: "/api/v1/tasks", token: admin, body: big, status: 413, code: "too_large"},
		{name: "body too large", method: "POST", path: "/api/v1/tasks", token: admin, body: strings.Repeat(" ", 1<<20) + hello, status: 413, code: "too_large"},
		{name: "repeated field", method: "POST", path: "/api/v1/tasks", token: admin, body: `{"priority":"low","priority":"high","input":{"message":"x"}}`, status: 400, code: "invalid_request"},
		{name: "unknown field", method: "POST", path: "/api/v1/tasks", token: admin, body: `{"priority":"low","prio":1,"input":{"message":"x"}}`, status: 400, code: "invalid_request"},
		{name: "bad key", method: "POST", path: "/api/v1/tasks", token: admin, body: hello, header: []string{"Idempotency-Key", strings.Repeat("x", 256)}, status: 400, code: "invalid_request"},
		{name: "wrong state", method: "POST", path: "/api/v1/tasks/" + openTask + "/replay", token: admin, status: 409, code: "wrong_state"},
		{name: "cancel of a finished task", method: "POST", path: "/api/v1/tasks/" + doneTask + "/cancel", token: admin, status: 409, code: "wrong_state"},
		{name: "release needs an action", method: "POST", path: "/api/v1/tasks/" + heldTask + "/release", token: admin, body: `{"action":"drop"}`, status: 400, code: "invalid_request"},
		{name: "gateway exists", method: "POST", path: "/api/v1/gateways", token: admin, body: `{"id":"gw-1","url":"ws://h:1","token":"x"}`, status: 409, code: "conflict"},
		{name: "gateway without url", method: "POST", path: "/api/v1/gateways", token: admin, body: `{"id":"gw-9"}`, status: 400, code: "invalid_request"},
		{name: "gateway with both", method: "POST", path: "/api/v1/gateways", token: admin, body: `{"id":"gw-9","url":"ws://h:1","managed":{}}`, status: 400, code: "invalid_request"},
		{name: "gateway over http", method: "POST", path: "/api/v1/gateways", token: admin, body: `{"id":"gw-9","url":"http://h:1","token":"x"}`, status: 400, code: "invalid_request"},
		{name: "gateway at no port", method: "POST", path: "/api/v1/gateways", token: admin, body: `{"id":"gw-9","url":"ws://h:99999","token":"x"}`, status: 400, code: "invalid_request"},
		{name: "gateway at port zero", method: "PATCH", path: "/api/v1/gateways/gw-1", token: admin, body: `{"url":"ws://h:0"}`, status: 400, code: "invalid_request"},
		{name: "gateway with a password in the URL", method: "POST", path: "/api/v1/gateways", token: admin, body: `{"id":"gw-9","url":"ws://u:p@h:1","token":"x"}`, status: 400, code: "invalid_request"},
		{name: "relative command", method: "POST", path: "/api/v1/gateways", token: admin, body: `{"id":"gw-9","managed":{"command":["sh"]}}`, status: 400, code: "invalid_request"},
		{name: "managed gateway of one tenant", method: "POST", path: "/api/v1/gateways", token: tenant, body: `{"id":"gw-9","managed":{"command":["/bin/sh"]}}`, status: 403, code: "forbidden"},
		{name: "configuration without admin", method: "POST", path: "/api/v1/gateways", token: keeper, body: `{"id":"gw-9","managed":{"config":{}}}`, status: 403, code: "forbidden"},
		{name: "environment without admin", method: "POST", path: "/api/v1/gateways", token: keeper, body: `{"id":"gw-9","managed":{"env":{"A":"b"}}}`, status: 403, code: "forbidden"},
		{name: "command without admin", method: "POST", path: "/api/v1/gateways", token: keeper, body: `{"id":"gw-9","managed":{"command":["/bin/sh"]}}`, status: 403, code: "forbidden"},
		{name: "folder without admin", method: "POST", path: "/api/v1/gateways", token: keeper, body: `{"id":"gw-9","managed":{"state_dir":"/x"}}`, status: 403, code: "forbidden"},
		{name: "changed command without admin", method: "PATCH", path: "/api/v1/gateways/gw-1", token: keeper, body: `{"managed":{"command":["/bin/sh"]}}`, status: 403, code: "forbidden"},
		{name: "changed environment without admin", method: "PATCH", path: "/api/v1/gateways/gw-1", token: keeper, body: `{"managed":{"env":{}}}`, status: 403, code: "forbidden"},
		{name: "changed configuration without admin", method: "PATCH", path: "/api/v1/gateways/gw-1", token: keeper, body: `{"managed":{"config":{}}}`, status: 403, code: "forbidden"},
		{name: "changed configuration by a tenant's admin", method: "PATCH", path: "/api/v1/gateways/gw-1", token: tenant, body: `{"managed":{"config":{}}}`, status: 403, code: "forbidden"},
		{name: "relative command later", method: "PATCH", path: "/api/v1/gateways/gw-1", token: admin, body: `{"managed":{"command":["sh"]}}`, status: 400, code: "invalid_request"},
		{name: "empty change", method: "PATCH", path: "/api/v1/gateways/gw-1", token: admin, body: `{}`, status: 400, code: "invalid_request"},
		{name: "old version", method: "PATCH", path: "/api/v1/gateways/gw-1", token: admin, body: `{"weight":2}`, header: []string{"If-Match", `"6"`}, status: 412, code: "version_mismatch"},
		{name: "no time to be away", method: "PUT", path: "/api/v1/pools/batch", token: admin, body: `{"away_seconds":0}`, header: []string{"If-Match", `"3"`}, status: 400, code: "invalid_request"},
		{name: "no version", method: "PUT", path: "/api/v1/pools/batch", token: admin, body: `{}`, status: 428, code: "precondition_required"},
		{name: "pool exists", method: "PUT", path: "/api/v1/pools/batch", token: admin, body: `{}`, header: []string{"If-None-Match", "*"}, status: 412, code: "version_mismatch"},
		{name: "session of another tenant", method: "GET", path: "/api/v1/sessions/s-1?tenant=default", token: tenant, status: 403, code: "forbidden"},
		{name: "move to nowhere", method: "POST", path: "/api/v1/sessions/s-1/move", token: admin, body: `{"gateway":"gw-9"}`, status: 400, code: "invalid_request"},
		{name: "no such error", method: "GET", path: "/api/v1/docs/errors/nope", status: 404, code: "not_found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := n.call(c.method, c.path, c.token, c.body, c.header...)
			if resp.StatusCode != c.status {
				t.Fatalf("status %d, want %d: %s", resp.StatusCode, c.status, body)
			}
			p := read[api.Problem](t, body)
			if p.Code != c.code || p.Status != c.status || p.RequestId != resp.Header.Get("X-Request-Id") || p.Type != "/api/v1/docs/errors/"+c.code {
				t.Errorf("problem %s", body)
			}
			if c.status == 405 && resp.Header.Get("Allow") == "" {
				t.Error("405 without Allow")
			}
			if c.status == 503 && resp.Header.Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
			if c.status == 401 && resp.Header.Get("WWW-Authenticate") == "" {
				t.Error("401 without WWW-Authenticate")
			}
		})
	}
}

// TestABodyOfUnknownLengthIsBounded as one is that says how long it is.
func TestABodyOfUnknownLengthIsBounded(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	for blanks, want := range map[int]int{1000: 202, 1 << 20: 413} {
		body := io.MultiReader(strings.NewReader(strings.Repeat(" ", blanks)), strings.NewReader(hello)) // sent in chunks
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.base+"/api/v1/tasks", body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+admin)
		resp, err := n.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%d blanks and a task: %d, want %d", blanks, resp.StatusCode, want)
		}
	}
}

func TestRawRequestsThatNoClientSends(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	for line, status := range map[string]string{
		"GET http://other/api/v1/health HTTP/1.1": "400", "GET /a\\b HTTP/1.1": "400", "GET /api/v1/health/. HTTP/1.1": "400",
		"OPTIONS * HTTP/1.1": "204", "OPTIONS /api/v1/tasks HTTP/1.1": "204", "GET /health HTTP/1.1": "200", "FOO /health HTTP/1.1": "405",
		"GET /\x01 HTTP/1.1": "400",
	} {
		conn, err := net.Dial("tcp", n.srv.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s\r\nHost: x\r\nConnection: close\r\n\r\n", line)
		answer, err := io.ReadAll(conn)
		_ = conn.Close() // read to its end, or cut
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 "+status) {
			t.Errorf("%s: %.80q %v", line, answer, err)
		}
	}
}

func TestSlowBodiesAreCut(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{ReadTimeout: 50 * time.Millisecond, DrainTimeout: 50 * time.Millisecond})
	for name, head := range map[string]string{
		"submit":          "POST /api/v1/tasks HTTP/1.1\r\nAuthorization: Bearer " + admin + "\r\nContent-Type: application/json\r\nContent-Length: 10",
		"no credential":   "POST /api/v1/tasks HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 10",
		"no body allowed": "POST /api/v1/gateways/gw-1/drain HTTP/1.1\r\nAuthorization: Bearer " + admin + "\r\nTransfer-Encoding: chunked",
		"no such path":    "POST /nowhere HTTP/1.1\r\nTransfer-Encoding: chunked",
	} {
		conn, err := net.Dial("tcp", n.srv.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s\r\nHost: x\r\n\r\n", head)
		answer, err := io.ReadAll(conn)
		_ = conn.Close() // read to its end, or cut
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 4") {
			t.Errorf("%s: %.60q %v", name, answer, err)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	pair := httptest.NewUnstartedServer(nil)
	pair.StartTLS()
	defer pair.Close()
	cert, key := writePair(t, pair.TLS.Certificates[0])
	served, err := server.OpenCertificate(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, server.Config{Certificate: served})
	resp, err := pair.Client().Get(strings.Replace(n.base, "http://", "https://", 1) + "/health")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	pair.Client().CloseIdleConnections()
}

func writePair(t *testing.T, pair tls.Certificate) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestSubmitIsIdempotent(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	var mu sync.Mutex
	ids := map[string]int{}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			resp, body := n.call("POST", "/api/v1/tasks", admin, hello, "Idempotency-Key", "k 1")
			if resp.StatusCode != 202 {
				t.Errorf("%d %s", resp.StatusCode, body)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			ids[read[api.Task](t, body).Id]++
			if resp.Header.Get("Idempotent-Replayed") == "" {
				ids["first"]++
			}
			if want := "/api/v1/tasks/" + read[api.Task](t, body).Id; resp.Header.Get("Location") != want {
				t.Errorf("Location %q, want %q", resp.Header.Get("Location"), want)
			}
		})
	}
	wg.Wait()
	if len(ids) != 2 || ids["first"] != 1 {
		t.Fatalf("50 submits with one key: %v", ids)
	}
	// The order of the fields and white space make no difference.
	if resp, body := n.call("POST", "/api/v1/tasks", admin, `{ "input": {"message":"hello"}, "priority":"high" }`, "Idempotency-Key", "k 1"); resp.StatusCode != 202 {
		t.Errorf("the same body, written otherwise: %s", body)
	}
	if resp, body := n.call("POST", "/api/v1/tasks", admin, `{"priority":"low","input":{"message":"hello"}}`, "Idempotency-Key", "k 1"); resp.StatusCode != 422 {
		t.Errorf("another body: %d %s", resp.StatusCode, body)
	}
	// Nor is a message to one session taken for the same one to another.
	var first string
	for i, id := range []string{"talk-1", "talk-1", "talk-2"} {
		if i != 1 {
			if resp, body := n.call("POST", "/api/v1/sessions", admin, `{"id":"`+id+`"}`); resp.StatusCode != 201 {
				t.Fatalf("%d %s", resp.StatusCode, body)
			}
		}
		resp, body := n.call("POST", "/api/v1/sessions/"+id+"/messages", admin, `{"message":"hello"}`, "Idempotency-Key", "m")
		switch {
		case i == 0 && resp.StatusCode == 202:
			first = read[api.Task](t, body).Id
		case i == 1 && resp.StatusCode == 202 && read[api.Task](t, body).Id == first:
		case i == 2 && resp.StatusCode == 422:
		default:
			t.Errorf("message %d, to %s: %d %s", i, id, resp.StatusCode, body)
		}
	}
}

func TestOtherWritesAreIdempotent(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	create := `{"id":"gw-9","url":"ws://h:1","token":"x"}`
	first, body := n.call("POST", "/api/v1/gateways", admin, create, "Idempotency-Key", "g")
	if first.StatusCode != 201 {
		t.Fatalf("%d %s", first.StatusCode, body)
	}
	again, body2 := n.call("POST", "/api/v1/gateways", admin, create, "Idempotency-Key", "g")
	if again.StatusCode != 201 || body2 != body || again.Header.Get("Idempotent-Replayed") != "true" || again.Header.Get("Location") != first.Header.Get("Location") || again.Header.Get("ETag") != `"1"` {
		t.Errorf("%d %v %s", again.StatusCode, again.Header, body2)
	}
	if resp, b := n.call("POST", "/api/v1/gateways", admin, strings.Replace(create, "gw-9", "gw-8", 1), "Idempotency-Key", "g"); resp.StatusCode != 422 {
		t.Errorf("another body: %d %s", resp.StatusCode, b)
	}
	if resp, b := n.call("DELETE", "/api/v1/gateways/gw-9", admin, "", "Idempotency-Key", "d"); resp.StatusCode != 204 {
		t.Errorf("%d %s", resp.StatusCode, b)
	}
	if resp, b := n.call("DELETE", "/api/v1/gateways/gw-9", admin, "", "Idempotency-Key", "d"); resp.StatusCode != 204 || resp.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%d %s", resp.StatusCode, b)
	}
	// The key was for that gateway: another one is not taken for removed.
	if resp, b := n.call("DELETE", "/api/v1/gateways/gw-8", admin, "", "Idempotency-Key", "d"); resp.StatusCode != 422 {
		t.Errorf("another path: %d %s", resp.StatusCode, b)
	}
	// A refusal is not remembered: the reason may go away.
	if resp, _ := n.call("POST", "/api/v1/tasks/"+openTask+"/replay", admin, "", "Idempotency-Key", "r"); resp.StatusCode != 409 {
		t.Errorf("%d", resp.StatusCode)
	}
	n.Change(openTask, messages.DeadLetter, nil)
	if resp, b := n.call("POST", "/api/v1/tasks/"+openTask+"/replay", admin, "", "Idempotency-Key", "r"); resp.StatusCode != 202 {
		t.Errorf("%d %s", resp.StatusCode, b)
	}
}

func TestFullQueue(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	n.QueueLimit = 4
	resp, body := n.call("POST", "/api/v1/tasks", admin, hello)
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "2" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	p := read[api.Problem](t, body)
	if p.Queue == nil || p.Queue.Position != 5 || p.Queue.Limit != 4 {
		t.Errorf("%s", body)
	}
}

func TestPanicAnswersAProblem(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	n.Fail = func(_ context.Context, command string) error {
		if command == "Queue" {
			panic("boom")
		}
		return fmt.Errorf("secret detail of the store")
	}
	resp, body := n.call("GET", "/api/v1/queue", admin, "", "X-Request-Id", "my-id.1")
	if resp.StatusCode != 500 || read[api.Problem](t, body).RequestId != "my-id.1" || strings.Contains(body, "boom") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	resp, body = n.call("GET", "/api/v1/tasks/x", admin, "", "X-Request-Id", "bad id")
	if resp.StatusCode != 500 || strings.Contains(body, "secret") || resp.Header.Get("X-Request-Id") == "bad id" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestLongPoll(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{MaxWaits: 1})
	done := make(chan api.Task)
	waiting := make(chan struct{})
	n.Fail = func(_ context.Context, command string) error {
		if command == "WaitTask" {
			close(waiting)
		}
		return nil
	}
	go func() {
		_, body := n.call("GET", "/api/v1/tasks/"+openTask+"?wait_seconds=60", admin, "")
		done <- read[api.Task](t, body)
	}()
	<-waiting
	if resp, body := n.call("GET", "/api/v1/tasks/"+openTask+"?wait_seconds=60", admin, ""); resp.StatusCode != 503 {
		t.Errorf("one wait too many: %d %s", resp.StatusCode, body)
	}
	n.Finish(openTask, "done")
	if got := <-done; got.State != api.TaskStateSucceeded || got.Result.Text != "done" {
		t.Errorf("%+v", got)
	}
}

// TestAHeldTaskIsNotDue: what is kept as the end of its wait is no time at
// which it becomes due.
func TestAHeldTaskIsNotDue(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	end := time.Now().Add(time.Hour)
	for state, due := range map[messages.TaskState]bool{messages.Held: false, messages.Scheduled: true, messages.RetryWait: true} {
		task := messages.Task{ID: messages.NewID(), Tenant: "default", Pool: "default", Class: messages.Low, State: state, DueAt: end, Spec: &messages.TaskSpec{Message: "m"}}
		n.PutTask(task)
		_, body := n.call("GET", "/api/v1/tasks/"+task.ID, admin, "")
		if got := read[api.Task](t, body); (got.DueAt != nil) != due {
			t.Errorf("%s: due_at %v", state, got.DueAt)
		}
	}
}

func TestLongPollEndsInTimeAndAtStop(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	_, body := n.call("GET", "/api/v1/tasks/"+openTask+"?wait_seconds=1", admin, "")
	if got := read[api.Task](t, body); got.State != api.TaskStateQueued {
		t.Errorf("%+v", got)
	}
	waiting := make(chan struct{})
	n.Fail = func(_ context.Context, command string) error {
		if command == "WaitTask" {
			close(waiting)
		}
		return nil
	}
	done := make(chan api.Task)
	go func() {
		_, body := n.call("GET", "/api/v1/tasks/"+openTask+"?wait_seconds=300", admin, "")
		done <- read[api.Task](t, body)
	}()
	<-waiting
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := n.srv.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
	if got := <-done; got.State != api.TaskStateQueued {
		t.Errorf("%+v", got)
	}
}

func TestPaging(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	for range 5 {
		n.call("POST", "/api/v1/tasks", admin, hello)
	}
	for _, path := range []string{"/api/v1/tasks?priority=high", "/api/v1/gateways?pool=default", "/api/v1/pools?", "/api/v1/sessions?"} {
		seen, cursor := map[string]bool{}, ""
		pages := 0
		for ; ; pages++ {
			_, body := n.call("GET", path+"&limit=1"+cursor, admin, "")
			p := read[struct {
				Items      []struct{ ID string }
				NextCursor *string `json:"next_cursor"`
			}](t, body)
			for _, i := range p.Items {
				if seen[i.ID] {
					t.Errorf("%s: %s twice", path, i.ID)
				}
				seen[i.ID] = true
			}
			if p.NextCursor == nil {
				break
			}
			if pages > 20 {
				t.Fatalf("%s: no end", path)
			}
			cursor = "&cursor=" + *p.NextCursor
			if resp, _ := n.call("GET", "/api/v1/tasks?session=x"+cursor, admin, ""); resp.StatusCode != 400 {
				t.Errorf("%s: the cursor is good for another query", path)
			}
		}
		want := map[string]int{"/api/v1/tasks?priority=high": 9, "/api/v1/gateways?pool=default": 2, "/api/v1/pools?": 2, "/api/v1/sessions?": 1}[path]
		if len(seen) != want {
			t.Errorf("%s: %d things, want %d", path, len(seen), want)
		}
		if pages+1 != want {
			t.Errorf("%s: %d things came on %d pages of one: the last one must not give a cursor", path, want, pages+1)
		}
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	for _, path := range []string{"/health", "/health/live", "/health/ready", "/api/v1/health", "/api/health/ready", "/api/v1/health/live"} {
		if resp, body := n.call("GET", path, "", ""); resp.StatusCode != 200 || read[api.Health](t, body).Status != api.HealthStatusOk {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	if _, body := n.call("GET", "/health?verbose", "", ""); strings.Contains(body, "1 ms") || !strings.Contains(body, `"store"`) {
		t.Errorf("details for strangers: %s", body)
	}
	if _, body := n.call("GET", "/health?verbose=true", admin, ""); !strings.Contains(body, "1 ms") {
		t.Errorf("no details with a credential: %s", body)
	}
	n.SetChecks(server.Check{Name: "store", Detail: "disk full"})
	if resp, body := n.call("GET", "/health/ready", "", ""); resp.StatusCode != 503 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if resp, _ := n.call("GET", "/health/live", "", ""); resp.StatusCode != 200 {
		t.Errorf("live: %d", resp.StatusCode)
	}
	n.SetChecks()
	n.srv.Drain()
	if resp, _ := n.call("GET", "/health/ready", "", ""); resp.StatusCode != 503 {
		t.Errorf("ready while stopping: %d", resp.StatusCode)
	}
}

func TestMetricsUseTemplatesOnly(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{PublicMetrics: true})
	n.call("GET", "/api/v1/tasks/"+openTask, admin, "")
	n.call("GET", "/nowhere/"+openTask, admin, "")
	n.call("BREW", "/api/v1/tasks", admin, "")
	_, body := n.call("GET", "/metrics", "", "")
	for _, want := range []string{
		`dash_http_request_seconds_count{method="GET",route="/api/v1/tasks/{id}",status="200"} 1`,
		`dash_http_request_seconds_count{method="GET",route="none",status="404"} 1`,
		`dash_http_request_seconds_count{method="other",route="none",status="405"} 1`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(body, openTask) {
		t.Error("metrics hold an id")
	}
}

func TestGzipAndHead(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	resp, zipped := n.call("GET", "/api/v1/openapi.json", "", "", "Accept-Encoding", "br, gzip;q=0.5")
	if resp.Header.Get("Content-Encoding") != "gzip" {
		t.Fatal("not compressed")
	}
	z, err := gzip.NewReader(strings.NewReader(zipped))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := io.ReadAll(z); err != nil || !json.Valid(plain) {
		t.Errorf("%v", err)
	}
	if resp, _ := n.call("GET", "/api/v1/openapi.json", "", "", "Accept-Encoding", "gzip;q=0"); resp.Header.Get("Content-Encoding") != "" {
		t.Error("compressed against the client's will")
	}
	if resp, body := n.call("HEAD", "/api/v1/queue", admin, ""); resp.StatusCode != 200 || body != "" || resp.ContentLength <= 0 {
		t.Errorf("HEAD: %d %q %d", resp.StatusCode, body, resp.ContentLength)
	}
}

func TestRequestsInFlightAreBounded(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{MaxRequests: 1, QueueTimeout: time.Millisecond})
	inside, leave := make(chan struct{}), make(chan struct{})
	n.Fail = func(_ context.Context, command string) error {
		if command == "Queue" {
			close(inside)
			<-leave
		}
		return nil
	}
	done := make(chan int)
	go func() {
		resp, _ := n.call("GET", "/api/v1/queue", admin, "")
		done <- resp.StatusCode
	}()
	<-inside
	if resp, body := n.call("GET", "/api/v1/tasks", admin, ""); resp.StatusCode != 503 || read[api.Problem](t, body).Code != "too_many_requests_in_flight" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if resp, _ := n.call("GET", "/health/ready", "", ""); resp.StatusCode != 200 {
		t.Errorf("health waits behind requests: %d", resp.StatusCode)
	}
	close(leave)
	if got := <-done; got != 200 {
		t.Errorf("%d", got)
	}
}

func TestClient(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	c, err := api.NewClient(n.base, admin, n.http)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	task, err := c.SubmitTask(ctx, api.SubmitTask{Priority: api.PriorityHigh, Input: api.SubmitInput{Message: "x"}}, api.WithIdempotencyKey("c"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.GetTask(ctx, task.Id, 0); err != nil || got.Id != task.Id {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := c.GetTask(ctx, "nope", 0); api.CodeOf(err) != "not_found" {
		t.Errorf("%v", err)
	}
	if page, err := c.ListTasks(ctx, api.TaskQuery{States: []api.TaskState{api.TaskStateHeld, api.TaskStateDeadLetter}, Page: api.Page{Limit: 5}}); err != nil || len(page.Items) != 2 {
		t.Errorf("%+v %v", page, err)
	}
	if s, err := c.GetSession(ctx, "", "s-1"); err != nil || *s.Reason != "failed 5 times" {
		t.Errorf("%+v %v", s, err)
	}
	if tr, err := c.GetTranscript(ctx, "default", "s-1", api.Page{Limit: 10}); err != nil || len(tr.Items) != 1 || tr.Items[0].Text != "hello" {
		t.Errorf("%+v %v", tr, err)
	}
	if p, err := c.PutPool(ctx, "p2", api.PutPool{}, api.WithCreateOnly()); err != nil || p.Version != 1 {
		t.Errorf("%+v %v", p, err)
	}
	if _, err := c.PutPool(ctx, "p2", api.PutPool{}, api.WithVersion(9)); api.CodeOf(err) != "version_mismatch" {
		t.Errorf("%v", err)
	}
	n.SetChecks(server.Check{Name: "store", Detail: "disk full"})
	if h, err := c.GetReady(ctx); err != nil || h.Status != api.HealthStatusUnavailable || *(*h.Checks)[0].Detail != "disk full" {
		t.Errorf("%+v %v", h, err)
	}
	n.Finish(task.Id, "fine")
	var types []string
	for m, err := range c.StreamTask(ctx, task.Id) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Seq == nil {
			t.Errorf("%s has no place to go on from", m.Type)
		}
		types = append(types, m.Type)
	}
	if got := strings.Join(types, " "); got != "position snapshot final" {
		t.Errorf("stream of a finished task: %s", got)
	}
}

func TestSocketThroughTheServer(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	dial := func(token string) (*websocket.Conn, error) {
		h := http.Header{}
		if token != "" {
			h.Set("Authorization", "Bearer "+token)
		}
		conn, _, err := websocket.Dial(t.Context(), n.base+"/events?since=0", &websocket.DialOptions{HTTPHeader: h, HTTPClient: &http.Client{Transport: n.plain}})
		return conn, err
	}
	if _, err := dial("nope"); err == nil {
		t.Error("a wrong credential in the header is accepted")
	}
	if _, err := dial(reader); err == nil {
		t.Error("a credential without events:read is accepted")
	}
	conn, err := dial("")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"type":"auth","token":"`+admin+`"}`)); err != nil {
		t.Fatal(err)
	}
	_, body := n.call("POST", "/api/v1/tasks", admin, hello)
	for {
		_, b, err := conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m := read[api.EventMessage](t, string(b)); m.Type == "task.state" {
			if got := read[api.TaskChanged](t, string(*m.Data)); got.Id != read[api.Task](t, body).Id {
				t.Errorf("%+v", got)
			}
			break
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stopped := make(chan error)
	go func() { stopped <- n.srv.Stop(ctx) }()
	_, _, err = conn.Read(t.Context())
	if websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("closed at stop with %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
}

func TestNothingLeaksIntoTheLog(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	n.call("GET", "/api/v1/queue", "dash_wrongwrongwr_secretsecret", "")
	n.Fail = func(context.Context, string) error { return fmt.Errorf("store broke") }
	n.call("GET", "/api/v1/queue", admin, "")
	if logs := n.logs.String(); strings.Contains(logs, "secretsecret") || strings.Contains(logs, admin) || !strings.Contains(logs, "store broke") {
		t.Errorf("log: %s", logs)
	}
}
