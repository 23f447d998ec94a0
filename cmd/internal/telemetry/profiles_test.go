package telemetry

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestProfiles are for whoever is on this machine, without the command line.
func TestProfiles(t *testing.T) {
	t.Parallel()
	h := profiles()
	for _, c := range []struct {
		host, path, origin string
		want               int
	}{
		{"127.0.0.1:6060", "/debug/pprof/goroutine?debug=1", "", 200},
		{"[::1]:6060", "/debug/pprof/", "", 200},
		{"127.0.0.1:6060", "/debug/pprof/cmdline", "", 404},
		{"rebound.example:6060", "/debug/pprof/goroutine?debug=1", "", 403},
		{"127.0.0.1:6060", "/debug/pprof/goroutine?debug=1", "https://evil.example", 403},
	} {
		r := httptest.NewRequest(http.MethodGet, c.path, nil)
		r.Host = c.host
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%+v: %d", c, w.Code)
		}
	}
}
