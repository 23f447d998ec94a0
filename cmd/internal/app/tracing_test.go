package app

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/dash-fleet/dash/cmd/internal/config"
)

// TestTasksAreTraced: from the request with a client's traceparent to the
// collector; the attempt has the ids that the gateway was told.
func TestTasksAreTraced(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	c := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var in collector.ExportTraceServiceRequest
		if raw, err := io.ReadAll(r.Body); err != nil || proto.Unmarshal(raw, &in) != nil {
			t.Errorf("%s: %v", r.URL, err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range in.GetResourceSpans() {
			for _, ss := range rs.GetScopeSpans() {
				for _, s := range ss.GetSpans() {
					line := fmt.Sprintf("%s %x %x", s.GetName(), s.GetTraceId(), s.GetSpanId())
					for _, l := range s.GetLinks() {
						line += fmt.Sprintf(" of the client's %x %x", l.GetTraceId(), l.GetSpanId())
					}
					got = append(got, line)
				}
			}
		}
	}))
	t.Cleanup(c.Close)
	cfg, data := config.Default(), t.TempDir()
	cfg.Listen, cfg.SimGateways, cfg.OTelEndpoint = "127.0.0.1:0", 1, c.URL
	a, err := startNode(t, cfg, "n", data)
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(data, "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	call := func(method, path, body string) string {
		req, err := http.NewRequestWithContext(t.Context(), method, a.URL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(key)))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode > 299 {
			t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, raw, err)
		}
		return string(raw)
	}
	_, id, _ := strings.Cut(call("POST", "/api/v1/tasks", `{"priority":"high","input":{"message":"x"}}`), `"id":"`)
	id = id[:36]
	if task := call("GET", "/api/v1/tasks/"+id+"?wait_seconds=30", ""); !strings.Contains(task, `"state":"succeeded"`) {
		t.Fatal(task)
	}
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	all, hex := strings.Join(got, "\n"), strings.ReplaceAll(id, "-", "")
	for _, want := range []string{
		"task " + hex + " ", "attempt " + hex + " 0000000000000001", "submit " + hex + " ",
		" of the client's 4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7",
	} {
		if strings.Count(all, want) != 1 {
			t.Errorf("%q is not once in\n%s", want, all)
		}
	}
}
