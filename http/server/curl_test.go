package server_test

import (
	"html"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/http/server"
)

// TestDocsShowHowToCall: the page has a line for a shell for every operation, and
// for every body that the document gives as an example.
func TestDocsShowHowToCall(t *testing.T) {
	t.Parallel()
	want := 0
	for _, item := range testDoc.Paths.Map() {
		for _, op := range item.Operations() {
			want += len(bodies(t, op))
		}
	}
	lines := shown(t, server.Config{})
	if len(lines) != want {
		t.Errorf("%d lines, want %d", len(lines), want)
	}
	const key = ` -H "Authorization: Bearer $DASH_API_KEY"`
	for _, line := range []string{
		`curl -s "$DASH_URL/api/v1/tasks"` + key + ` -H 'Content-Type: application/json' -d '{"input":{"message":"Say hello."},"priority":"high"}'`,
		`curl -s "$DASH_URL/api/v1/tasks?state=queued,running&limit=10"` + key,
		`curl -sN "$DASH_URL/api/v1/events?topics=task.*,gateway.gw-1.*"` + key,
		`curl -s -X DELETE "$DASH_URL/api/v1/gateways/gw-1"` + key,
		`curl -s -X PUT "$DASH_URL/api/v1/pools/batch"` + key + ` -H 'If-None-Match: *' -H 'Content-Type: application/json' -d '{"aging_seconds":0,"away_seconds":60,"limits":{"low":{"bytes":1048576,"count":1000}},"max_concurrency":100,"reserved":{"critical":2}}'`,
		`curl -s "$DASH_URL/api/v1/health/ready"`,
	} {
		if !slices.Contains(lines, line) {
			t.Errorf("there is no line %s", line)
		}
	}
	for _, line := range shown(t, server.Config{PublicURL: "https://host/dash"}) {
		if !strings.Contains(line, ` "https://host/dash/api/v1/`) || strings.Contains(line, "DASH_URL") {
			t.Errorf("of a server with a public URL: %s", line)
		}
	}
}

func shown(t *testing.T, cfg server.Config) (lines []string) {
	t.Helper()
	_, page := start(t, cfg).call("GET", "/api/v1/docs", "", "")
	for _, m := range regexp.MustCompile(`<pre>(curl [^<]*)</pre>`).FindAllStringSubmatch(string(page), -1) {
		lines = append(lines, html.UnescapeString(m[1]))
	}
	return lines
}
