package server_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

// TestAnswersOfAnotherTenantAreNotPushedOut floods the memory of answers from one
// tenant: it stays within its bytes, and another tenant's answer is there.
func TestAnswersOfAnotherTenantAreNotPushedOut(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{MaxRemembered: 100 << 10})
	path, body := "/api/v1/sessions", `{"id":"mine"}`
	if resp, b := n.call("POST", path, tenant, body, "Idempotency-Key", "mine"); resp.StatusCode != 201 {
		t.Fatalf("%d %s", resp.StatusCode, b)
	}
	for i := range 500 {
		n.call("POST", "/api/v1/gateways/gw-1/drain", admin, "", "Idempotency-Key", fmt.Sprint("flood-", i))
	}
	resp, _ := n.call("POST", path, tenant, body, "Idempotency-Key", "mine")
	if resp.StatusCode != 201 || resp.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the other tenant's answer: %d, replayed %q", resp.StatusCode, resp.Header.Get("Idempotent-Replayed"))
	}
	_, metrics := n.call("GET", "/metrics", admin, "")
	held, lost := metric(t, metrics, "dash_http_remembered_bytes"), metric(t, metrics, "dash_http_remembered_lost_total")
	if held > 100<<10 || held < 50<<10 || lost == 0 {
		t.Errorf("%.0f bytes are held, %.0f answers were forgotten", held, lost)
	}
}

func metric(t testing.TB, text, name string) (v float64) {
	t.Helper()
	_, line, ok := strings.Cut(text, "\n"+name+" ")
	if _, err := fmt.Sscan(line, &v); !ok || err != nil {
		t.Fatalf("no metric %s: %v", name, err)
	}
	return v
}

// TestARepeatedWishMakesOneKey, also when its answer was pushed out: it then tells
// the key without its text.
func TestARepeatedWishMakesOneKey(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{MaxRemembered: 1}) // forgets at once
	made := map[string]bool{}
	for i := range 3 {
		for path, body := range map[string]string{"/api/v1/keys": `{"name":"ci","permissions":["tasks:read"]}`, "/api/v1/sessions": `{}`} {
			resp, b := n.call("POST", path, admin, body, "Idempotency-Key", "once")
			var v struct{ ID, Key string }
			if err := json.Unmarshal([]byte(b), &v); err != nil || resp.StatusCode != 201 {
				t.Fatalf("%s: %d %s", path, resp.StatusCode, b)
			}
			if again := resp.Header.Get("Idempotent-Replayed") == "true"; again != (i > 0) || (v.Key != "") != (i == 0 && path == "/api/v1/keys") {
				t.Errorf("%s, time %d: replayed %t, key %q", path, i, again, v.Key)
			}
			made[path+v.ID] = true
			if resp, b := n.call("POST", path, tenant, body, "Idempotency-Key", "once"); resp.StatusCode == 201 && strings.Contains(b, v.ID) {
				t.Errorf("%s: another tenant got the same", path)
			}
		}
	}
	if len(made) != 2 {
		t.Errorf("made %v", made)
	}
	told := map[string]int{}
	for _, r := range n.Audit() {
		if r.Actor == "key:admin" {
			told[r.Action]++
		}
	}
	if told["createKey"] != 1 || told["createSession"] != 1 {
		t.Errorf("rows of the audit log: %v, want one for each that was made", told)
	}
}

// TestAnotherWishUnderOneKeyIsRefused, also when the answer to the first was
// forgotten.
func TestAnotherWishUnderOneKeyIsRefused(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{MaxRemembered: 1}) // forgets at once
	for i, body := range []string{`{"labels":{"of":"a"}}`, `{"labels":{"of":"b"}}`, `{"pool":"batch"}`, `{}`} {
		want := 422
		if i == 0 {
			want = 201
		}
		if resp, b := n.call("POST", "/api/v1/sessions", admin, body, "Idempotency-Key", "once"); resp.StatusCode != want || resp.Header.Get("Idempotent-Replayed") != "" {
			t.Errorf("%s: %d %s %v, want %d", body, resp.StatusCode, b, resp.Header, want)
		}
	}
}

// TestARepeatedReplayPutsNothingBackTwice, although its answer was forgotten and
// its tasks became dead letters again.
func TestARepeatedReplayPutsNothingBackTwice(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{MaxRemembered: 1}) // forgets at once
	for path, body := range map[string]string{"/api/v1/tasks/" + deadTask + "/replay": "", "/api/v1/dead-letters/replay": `{"filter":{}}`} {
		for range 3 {
			if resp, b := n.call("POST", path, admin, body, "Idempotency-Key", "once"); resp.StatusCode >= 300 {
				t.Errorf("%s: %d %s", path, resp.StatusCode, b)
			}
			n.Change(deadTask, messages.DeadLetter, nil)
		}
	}
	_, b := n.call("GET", "/api/v1/tasks/"+deadTask, admin, "")
	if !strings.Contains(b, `"replays":2`) {
		t.Errorf("after two requests, each of them three times: %s", b)
	}
}

// TestALongAnswerIsReadAgain: of an answer that is not kept whole the repetition
// shows the same thing, with the status of then, and changes nothing.
func TestALongAnswerIsReadAgain(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	labels := map[string]string{}
	for i := range 60 {
		labels[fmt.Sprint("l", i)] = strings.Repeat("v", 200)
	}
	b, err := json.Marshal(api.CreateSession{Labels: &labels})
	if err != nil {
		t.Fatal(err)
	}
	created, first := n.call("POST", "/api/v1/sessions", admin, string(b), "Idempotency-Key", "s")
	again, second := n.call("POST", "/api/v1/sessions", admin, string(b), "Idempotency-Key", "s")
	if created.StatusCode != 201 || again.StatusCode != 201 || second != first || len(first) < 12_000 ||
		again.Header.Get("Location") != created.Header.Get("Location") || again.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%d, then %d %v with %d and %d bytes", created.StatusCode, again.StatusCode, again.Header, len(first), len(second))
	}
	_, metrics := n.call("GET", "/metrics", admin, "")
	if held := metric(t, metrics, "dash_http_remembered_bytes"); held > 2<<10 {
		t.Errorf("%.0f bytes are held of it", held)
	}
	n.PutTask(longTask("long"))
	if resp, _ := n.call("POST", "/api/v1/tasks/"+deadTask+"/replay", admin, "", "Idempotency-Key", "r"); resp.StatusCode != 202 {
		t.Errorf("replay: %d", resp.StatusCode)
	}
	if resp, b := n.call("POST", "/api/v1/tasks/"+deadTask+"/replay", admin, "", "Idempotency-Key", "r"); resp.StatusCode != 202 || !strings.Contains(b, deadTask) {
		t.Errorf("replay again: %d %s", resp.StatusCode, b)
	}
}
