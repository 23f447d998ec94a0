package server_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/server"
)

// TestKeyLimit: what counts, what does not, and what the client is told.
func TestKeyLimit(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	for i, want := range []string{`"key";r=1;t=30`, `"key";r=0;t=`} {
		resp, body := n.call("GET", "/api/v1/pools", twice, "")
		if resp.StatusCode != 200 || resp.Header.Get("RateLimit-Policy") != `"key";q=2;w=60` || !strings.HasPrefix(resp.Header.Get("RateLimit"), want) {
			t.Fatalf("request %d: %d %v %s", i, resp.StatusCode, resp.Header, body)
		}
	}
	for _, path := range []string{"/api/v1/pools", "/api/queue", "/api/v1/tasks/" + doneTask, "/api/v1/tasks/nope"} {
		resp, body := n.call("GET", path, twice, "")
		p := read[api.Problem](t, body)
		after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
		if resp.StatusCode != 429 || p.Code != "rate_limited" || err != nil || after < 1 || after > 30 || p.NextStep == nil || p.Queue != nil {
			t.Errorf("%s: %d %s, Retry-After %q", path, resp.StatusCode, body, resp.Header.Get("Retry-After"))
		}
	}
	for _, path := range []string{"/health?verbose=true", "/api/v1/health/ready", "/metrics", "/api/v1/openapi.json", "/api/v1/docs", "/api/v1/docs/errors/rate_limited"} {
		if resp, _ := n.call("GET", path, twice, ""); resp.StatusCode != 200 || resp.Header.Get("RateLimit") != "" {
			t.Errorf("%s: %d, counted: %q", path, resp.StatusCode, resp.Header.Get("RateLimit"))
		}
	}
	for range 3 {
		if resp, _ := n.call("GET", "/api/v1/pools", admin, ""); resp.StatusCode != 200 || resp.Header.Get("RateLimit-Policy") != "" {
			t.Errorf("a key without a limit: %d %v", resp.StatusCode, resp.Header)
		}
	}
}

// TestTenantLimit: the keys of a tenant share a limit, also one that has none of
// its own; what a key has too many takes nothing from the others; keys of all
// tenants are not under it.
func TestTenantLimit(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{TenantRateLimit: 5})
	for i, want := range []int{200, 200, 200, 429, 429, 429} {
		resp, body := n.call("GET", "/api/v1/pools", twin, "")
		if resp.StatusCode != want || (want == 429) != strings.Contains(string(body), "this key has used up the 3 requests per minute") {
			t.Fatalf("request %d of the key with a limit: %d %s", i, resp.StatusCode, body)
		}
	}
	for i, want := range []string{`"tenant";r=1;t=`, `"tenant";r=0;t=`} {
		resp, body := n.call("GET", "/api/v1/pools", tenant, "")
		if resp.StatusCode != 200 || resp.Header.Get("RateLimit-Policy") != `"tenant";q=5;w=60` || !strings.HasPrefix(resp.Header.Get("RateLimit"), want) {
			t.Fatalf("request %d of the key without: %d %v %s", i, resp.StatusCode, resp.Header, body)
		}
	}
	resp, body := n.call("GET", "/api/v1/pools", tenant, "")
	p := read[api.Problem](t, body)
	if after, err := strconv.Atoi(resp.Header.Get("Retry-After")); resp.StatusCode != 429 || p.Code != "rate_limited" || err != nil || after < 1 || after > 12 {
		t.Errorf("one too many of the tenant: %d %s, Retry-After %q", resp.StatusCode, body, resp.Header.Get("Retry-After"))
	}
	if resp, _ := n.call("GET", "/api/v1/pools", admin, ""); resp.StatusCode != 200 || resp.Header.Get("RateLimit") != "" {
		t.Errorf("a key of all tenants: %d %v", resp.StatusCode, resp.Header)
	}
}

// TestRetryAfterIsTrue: whoever waits as told passes.
func TestRetryAfterIsTrue(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	var resp *http.Response
	passed := 0
	for ; passed < 10_000; passed++ { // it comes back at one per second
		if resp, _ = n.call("GET", "/api/v1/pools", paced, ""); resp.StatusCode == 429 {
			break
		}
		if resp.StatusCode != 403 { // it lacks the permission, and counts all the same
			t.Fatal(resp.StatusCode)
		}
	}
	after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || passed < 60 {
		t.Fatalf("%d passed, then %d with Retry-After %v", passed, resp.StatusCode, resp.Header["Retry-After"])
	}
	time.Sleep(time.Duration(after) * time.Second)
	if resp, _ := n.call("GET", "/api/v1/pools", paced, ""); resp.StatusCode != 403 {
		t.Errorf("%d after waiting %d s as told", resp.StatusCode, after)
	}
}

// TestStreamsCountOnce: a stream counts when it opens, wherever its credential is.
func TestStreamsCountOnce(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{EventHeartbeat: 10 * time.Millisecond})
	dial := func(header string) (*websocket.Conn, *http.Response, error) {
		h := http.Header{}
		if header != "" {
			h.Set("Authorization", "Bearer "+header)
		}
		return websocket.Dial(t.Context(), n.base+"/events?since=0", &websocket.DialOptions{HTTPHeader: h, HTTPClient: &http.Client{Transport: n.plain}})
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", n.base+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+twice)
	sse, err := n.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer sse.Body.Close()
	if sse.StatusCode != 200 || sse.Header.Get("RateLimit") != `"key";r=1;t=30` {
		t.Fatalf("%d %v", sse.StatusCode, sse.Header)
	}
	buf := make([]byte, 4096)
	for range 5 { // heartbeats, each of which asks for the credential again
		if _, err := sse.Body.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	inBand := func() (*websocket.Conn, error) {
		conn, _, err := dial("")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.CloseNow() })
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"type":"auth","token":"`+twice+`"}`)); err != nil {
			t.Fatal(err)
		}
		_, _, err = conn.Read(t.Context())
		return conn, err
	}
	if _, err := inBand(); err != nil {
		t.Fatalf("the second request: %v", err)
	}
	if _, err := inBand(); websocket.CloseStatus(err) != websocket.StatusTryAgainLater {
		t.Errorf("the third request, credential in the first frame: %v", err)
	}
	if conn, resp, err := dial(twice); err == nil {
		conn.CloseNow()
		t.Error("the fourth request, credential in the header, is let in")
	} else if resp == nil || resp.StatusCode != 429 {
		t.Errorf("the fourth request: %v %v", resp, err)
	}
}
