package server_test

import (
	"encoding/base64"
	"hash/fnv"
	"net/url"
	"strconv"
	"testing"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/server"
)

func TestShortIDsAreLookedForHere(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	for _, c := range []struct {
		query string
		want  []string
	}{
		{"id_end=0002", []string{deadTask}},
		{"id_end=0002&state=queued,running,held", nil},
		{"id_end=1&state=queued,running,held", []string{openTask}},
		{"id_begin=0199&state=dead_letter", []string{deadTask}},
		{"id_begin=0198", nil},
		{"code=provider_unavailable", []string{deadTask}},
		{"created_after=2026-11-21T10:00:00Z", nil},
		{"created_before=2026-11-21T10:00:00%2B02:00", nil},
		{"created_before=2026-11-21T10:00:00Z&state=held", []string{heldTask}},
	} {
		resp, body := n.call("GET", "/api/v1/tasks?"+c.query, admin, "")
		page := read[api.TaskPage](t, body)
		if resp.StatusCode != 200 || len(page.Items) != len(c.want) || page.SearchedTo != nil {
			t.Fatalf("%s: %d %s", c.query, resp.StatusCode, body)
		}
		for i, v := range page.Items {
			if v.Id != c.want[i] {
				t.Errorf("%s: %s, want %s", c.query, v.Id, c.want[i])
			}
		}
	}
	for _, bad := range []string{"id_end=", "id_begin=a*b", "created_after=yesterday", "code="} {
		if resp, body := n.call("GET", "/api/v1/tasks?"+bad, admin, ""); resp.StatusCode != 400 {
			t.Errorf("%s: %d %s", bad, resp.StatusCode, body)
		}
	}
}

// TestASearchSaysHowFarItLooked: a page that ended early is told from the end,
// and its cursor goes on.
func TestASearchSaysHowFarItLooked(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	n.SearchEarly = deadTask
	_, body := n.call("GET", "/api/v1/tasks?id_end=0001", admin, "")
	page := read[api.TaskPage](t, body)
	if len(page.Items) != 0 || page.SearchedTo == nil || page.SearchedTo.Year() != 2026 || page.NextCursor == nil {
		t.Fatal(body)
	}
	_, body = n.call("GET", "/api/v1/tasks?id_end=0001&cursor="+url.QueryEscape(*page.NextCursor), admin, "")
	if page = read[api.TaskPage](t, body); len(page.Items) != 1 || page.Items[0].Id != openTask || page.NextCursor != nil {
		t.Error(body)
	}
}

// TestCursorsAreText: whoever makes one up does not lead the store astray.
func TestCursorsAreText(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	for op, path := range map[string]string{"listKeys": "/keys", "listUsers": "/users", "listTenants": "/tenants", "listGateways": "/gateways", "listPools": "/pools"} {
		mark := fnv.New32a()
		mark.Write([]byte(op + "?"))
		for inner, want := range map[string]int{"zzz": 200, "a\x00": 400, "a\xff": 400} {
			cursor := base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatUint(uint64(mark.Sum32()), 36) + "|" + inner))
			if resp, body := n.call("GET", "/api/v1"+path+"?cursor="+cursor, admin, ""); resp.StatusCode != want {
				t.Errorf("%s behind %q: %d %s", path, inner, resp.StatusCode, body)
			}
		}
	}
}
