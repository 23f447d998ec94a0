package server_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/server"
)

// TestRequestIDsAreInTheLog: the request id that an error shows is found in the
// log, whatever refused the request.
func TestRequestIDsAreInTheLog(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	var shown []string
	for _, c := range []struct {
		method, path, key, body string
		status                  int
	}{
		{"GET", "/api/v1/tasks", "", "", 401},
		{"GET", "/api/v1/tasks/none", admin, "", 404},
		{"GET", "/api/v1/nowhere", admin, "", 404},
		{"GET", "/api/v1//tasks", admin, "", 400},
		{"DELETE", "/api/v1/tasks", admin, "", 405},
		{"POST", "/api/v1/tasks", admin, "{", 400},
		{"GET", "/api/v1/tasks?limit=x", admin, "", 400},
	} {
		resp, body := n.call(c.method, c.path, c.key, c.body)
		p := read[api.Problem](t, body)
		if resp.StatusCode != c.status || p.RequestId == "" {
			t.Fatalf("%s %s: %d %s", c.method, c.path, resp.StatusCode, body)
		}
		shown = append(shown, p.RequestId)
	}
	if err := n.srv.Stop(t.Context()); err != nil { // the log is complete
		t.Fatal(err)
	}
	for _, id := range shown {
		if !strings.Contains(n.logs.String(), "request_id="+id+" ") {
			t.Errorf("the log has no line of request %s:\n%s", id, n.logs)
		}
	}
}

// TestRefusalsAreBounded: a flood of refusals makes few lines, which say how
// many are missing, and does not hide those of another kind.
func TestRefusalsAreBounded(t *testing.T) {
	t.Parallel()
	r := server.NewRefusals(5)
	now := time.Unix(1000, 0)
	logged := 0
	for range 100 {
		if ok, _ := r.Allow(404, now); ok {
			logged++
		}
	}
	if logged != 5 {
		t.Errorf("%d of 100 refusals in a second are logged, want 5", logged)
	}
	if ok, hidden := r.Allow(503, now); !ok || hidden != 0 {
		t.Errorf("a refusal of another kind: %v, %d hidden", ok, hidden)
	}
	if ok, hidden := r.Allow(401, now.Add(time.Second)); !ok || hidden != 95 {
		t.Errorf("a second later: %v, %d hidden, want 95", ok, hidden)
	}
	if ok, hidden := r.Allow(401, now.Add(time.Second)); !ok || hidden != 0 {
		t.Errorf("told twice: %v, %d hidden", ok, hidden)
	}
}

// TestRoot: whoever opens the address in a browser or with curl reads what is where.
func TestRoot(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	get := func(method, accept string) (*http.Response, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, n.base+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		resp, err := n.plain.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	for accept, media := range map[string]string{"": "text/plain; charset=utf-8", "*/*": "text/plain; charset=utf-8", "text/html,application/xhtml+xml;q=0.9": "text/html; charset=utf-8"} {
		resp, body := get("GET", accept)
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != media {
			t.Errorf("Accept %q: %d %s", accept, resp.StatusCode, resp.Header.Get("Content-Type"))
		}
		for _, want := range []string{"Dash test", "/api/v1/docs", "/api/v1/openapi.json", "/health", "/metrics", "/events", "dash help"} {
			if !strings.Contains(body, want) {
				t.Errorf("Accept %q: no %s in %s", accept, want, body)
			}
		}
		if html := strings.Contains(body, "<a href"); html != strings.HasPrefix(media, "text/html") {
			t.Errorf("Accept %q: %s", accept, body)
		}
	}
	if resp, _ := get("POST", ""); resp.StatusCode != 405 {
		t.Errorf("POST /: %d", resp.StatusCode)
	}
}
