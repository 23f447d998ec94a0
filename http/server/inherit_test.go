package server_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/http/server"
)

// TestAKeyMakesNoneThatIsStronger: what it does not ask for it has of its maker,
// and what it asks for is within that.
func TestAKeyMakesNoneThatIsStronger(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	end := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	weak := auth.Principal{ID: "key:weak", Permissions: []auth.Permission{auth.Admin}, RateLimit: 5, ExpiresAt: end}
	n.auth.add("weak", weak)
	weak.RateLimit = 50
	n.auth.add("less-weak", weak)
	create := func(token, more string) (int, string) {
		resp, body := n.call("POST", "/api/v1/keys", token, `{"name":"x","permissions":["admin"]`+more+`}`)
		return resp.StatusCode, body
	}
	status, body := create("weak", "")
	if k := read[api.ApiKey](t, body); status != 201 || k.RateLimit != 5 || k.ExpiresAt == nil || !k.ExpiresAt.Equal(end) || k.Parent == nil || *k.Parent != "weak" {
		t.Fatalf("%d %s, want the limit and the end of its maker, which is its parent", status, body)
	}
	weaker := end.Add(-time.Minute).Format(time.RFC3339)
	if status, body := create("less-weak", `,"rate_limit":4,"expires_at":"`+weaker+`"`); status != 201 {
		t.Errorf("a weaker key: %d %s", status, body)
	}
	for more, pointer := range map[string]string{
		`,"rate_limit":0`:  "/rate_limit",
		`,"rate_limit":51`: "/rate_limit",
		fmt.Sprintf(`,"expires_at":%q`, end.Add(time.Second).Format(time.RFC3339)): "/expires_at",
	} {
		status, body := create("less-weak", more)
		if p := read[api.Problem](t, body); status != 403 || p.Errors == nil || (*p.Errors)[0].Pointer != pointer {
			t.Errorf("%s: %d %s, want 403 at %s", more, status, body, pointer)
		}
	}
	status, body = create(admin, `,"rate_limit":0`)
	if k := read[api.ApiKey](t, body); status != 201 || k.RateLimit != 0 || k.ExpiresAt != nil {
		t.Errorf("of a key without limit and end: %d %s", status, body)
	}
	for _, write := range []struct{ method, path, body string }{
		{"POST", "/api/v1/users", `{"email":"a@example.com","password":"correct horse battery"}`},
		{"PATCH", "/api/v1/users/u-1", `{"role":"admin"}`},
	} {
		if resp, body := n.call(write.method, write.path, "less-weak", write.body); resp.StatusCode != 403 {
			t.Errorf("%s %s by a key that ends: %d %s", write.method, write.path, resp.StatusCode, body)
		}
	}
}

// TestAKeyIsRevokedWithItsMaker: over the API, and with keep_children not.
func TestAKeyIsRevokedWithItsMaker(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	create := func(by string) string {
		_, body := n.call("POST", "/api/v1/keys", by, `{"name":"x","permissions":["admin"],"all_tenants":true}`)
		id := read[api.ApiKey](t, body).Id
		n.auth.add(id, auth.Principal{ID: "key:" + id, Permissions: []auth.Permission{auth.Admin}})
		return id
	}
	first := create(admin)
	second := create(first)
	third := create(second)
	active := func(id string) bool {
		_, body := n.call("GET", "/api/v1/keys/"+id, admin, "")
		return read[api.ApiKey](t, body).Active
	}
	if resp, body := n.call("DELETE", "/api/v1/keys/"+second+"?keep_children=true", admin, ""); resp.StatusCode != 200 || active(second) || !active(third) {
		t.Errorf("a key whose children stay: %d %s", resp.StatusCode, body)
	}
	if resp, body := n.call("DELETE", "/api/v1/keys/"+first, admin, ""); resp.StatusCode != 200 || active(first) || active(third) {
		t.Errorf("a key with its children: %d %s", resp.StatusCode, body)
	}
}
