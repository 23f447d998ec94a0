package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

// longTask has texts of the largest size, of characters that are long in JSON.
func longTask(id string) messages.Task { return taskOf(id, server.MaxMessage, 4<<20) }

// someTask has texts of several pieces, of the same characters: what they hold is
// looked at, which takes its time.
func someTask(id string) messages.Task { return taskOf(id, 100<<10, 400<<10) }

func taskOf(id string, message, text int) messages.Task {
	return messages.Task{
		ID: id, Tenant: "default", Pool: "default", Class: messages.Low, Session: "s-1", State: messages.Succeeded, CreatedAt: messages.Now(), FinishedAt: messages.Now(),
		Spec:   &messages.TaskSpec{Message: strings.Repeat("\x01", message), TimeoutSeconds: 1, MaxAttempts: 1, OnUnknown: "requeue"},
		Result: &messages.TaskResult{Text: strings.Repeat("\x02ä", text)[:text]},
	}
}

// TestListsLeaveTextsOut: the texts of tasks come only to whom asks for them, with
// their lengths all the same.
func TestListsLeaveTextsOut(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	n.PutTask(someTask("long"))
	var page api.TaskPage
	_, body := n.call("GET", "/api/v1/tasks", admin, "")
	if err := json.Unmarshal([]byte(body), &page); err != nil || len(page.Items) == 0 || page.Items[0].Id != "long" {
		t.Fatalf("%v in %.200s", err, body)
	}
	if strings.Contains(body, `"message":"Say`) || strings.Contains(body, `"text"`) || len(body) > 20<<10 {
		t.Errorf("a list of %d bytes holds texts: %.300s", len(body), body)
	}
	if r := page.Items[0].Result; r == nil || r.Length != 400<<10 || r.Truncated {
		t.Errorf("its result is %+v", r)
	}
	page = api.TaskPage{}
	_, body = n.call("GET", "/api/v1/tasks?include=bodies", admin, "")
	if err := json.Unmarshal([]byte(body), &page); err != nil {
		t.Fatal(err)
	}
	want := someTask("long")
	if got := page.Items[0]; got.Input.Message != want.Spec.Message || got.Result.Text != want.Result.Text {
		t.Errorf("asked for, the texts have %d and %d bytes", len(got.Input.Message), len(got.Result.Text))
	}
	var task api.Task
	_, body = n.call("GET", "/api/v1/tasks/long", admin, "")
	if err := json.Unmarshal([]byte(body), &task); err != nil || task.Result.Text != want.Result.Text {
		t.Errorf("the task: %v", err)
	}
	if resp, body := n.call("GET", "/api/v1/tasks?include=all", admin, ""); resp.StatusCode != 400 {
		t.Errorf("another include: %d %s", resp.StatusCode, body)
	}
}

// TestStreamHoldsLongTexts: the stream of a task that has ended tells its texts twice.
func TestStreamHoldsLongTexts(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	n.PutTask(someTask("long"))
	_, body := n.call("GET", "/api/v1/tasks/long/events", admin, "")
	want := someTask("long")
	for _, typ := range []string{"snapshot", "final"} {
		_, data, _ := strings.Cut(body, "event: "+typ+"\ndata: ")
		data, _, _ = strings.Cut(data, "\n")
		var m struct{ Data struct{ Task api.Task } }
		if err := json.Unmarshal([]byte(data), &m); err != nil || m.Data.Task.Result.Text != want.Result.Text || m.Data.Task.Input.Message != want.Spec.Message {
			t.Errorf("%s of %d bytes: %v", typ, len(data), err)
		}
	}
}

// TestEveryListEndsInBytes fills the lists that are kept in memory with rows as
// long as they get; cursors go on right behind the last row sent.
func TestEveryListEndsInBytes(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	labels := map[string]string{}
	for i := range 60 {
		labels[fmt.Sprintf("label-%d", i)] = strings.Repeat("ä", 256)
	}
	const count = 200
	for i := range count {
		n.PutGateway(server.Gateway{Config: messages.Gateway{ID: fmt.Sprintf("big-%03d", i), Tenant: "default", Pool: "default", URL: "ws://127.0.0.1:1", Labels: labels, CreatedAt: messages.Now(), Version: 1}})
	}
	seen := map[string]int{}
	pages := 0
	for cursor := ""; ; pages++ {
		_, body := n.call("GET", "/api/v1/gateways?limit=1000"+cursor, admin, "")
		if len(body) > 4<<20+100<<10 {
			t.Fatalf("a page of %d bytes", len(body))
		}
		var page api.GatewayPage
		if err := json.Unmarshal([]byte(body), &page); err != nil {
			t.Fatal(err)
		}
		for _, g := range page.Items {
			seen[g.Id]++
		}
		if page.NextCursor == nil {
			break
		}
		cursor = "&cursor=" + *page.NextCursor
	}
	if pages == 0 {
		t.Error("everything came on one page")
	}
	for i := range count {
		if id := fmt.Sprintf("big-%03d", i); seen[id] != 1 {
			t.Errorf("%s came %d times", id, seen[id])
		}
	}
}

// TestTheQueueEndsInBytes: also the queue of many pools, and it goes on right behind
// the last class that was sent, in whatever pool that is.
func TestTheQueueEndsInBytes(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	const count = 5000
	for i := range count {
		n.PutPool(messages.Pool{ID: fmt.Sprintf("pool-%04d-%s", i, strings.Repeat("x", 50)), Tenant: "default"})
	}
	pages, got := 0, []string(nil)
	for cursor := ""; ; {
		resp, body := n.call("GET", "/api/v1/queue?"+cursor, admin, "")
		pages++
		if resp.StatusCode != 200 || len(body) > 4<<20+100<<10 {
			t.Fatalf("%d, a page of %d bytes", resp.StatusCode, len(body))
		}
		page := read[api.Queue](t, body)
		for _, q := range page.Items {
			if strings.HasPrefix(q.Pool, "pool-") {
				got = append(got, q.Pool[:9]+string(q.Class))
			}
		}
		if page.NextCursor == nil {
			break
		}
		cursor = "cursor=" + *page.NextCursor
	}
	for i := range count {
		for k, class := range messages.Classes {
			if at, want := 4*i+k, fmt.Sprintf("pool-%04d%s", i, class); at >= len(got) || got[at] != want {
				t.Fatalf("%d classes on %d pages; number %d is not %s", len(got), pages, at, want)
			}
		}
	}
	if len(got) != 4*count || pages != 2 {
		t.Errorf("%d classes on %d pages, want %d on 2", len(got), pages, 4*count)
	}
	_, body := n.call("GET", "/api/v1/queue?limit=3", admin, "")
	first := read[api.Queue](t, body)
	if len(first.Items) != 3 || first.NextCursor == nil {
		t.Fatal(body)
	}
	_, body = n.call("GET", "/api/v1/queue?limit=3&cursor="+*first.NextCursor, admin, "")
	if q := read[api.Queue](t, body); len(q.Items) != 3 || q.Items[0].Class != api.PriorityLow || q.Items[0].Pool != "batch" || q.Items[1].Pool != "default" {
		t.Error(body)
	}
}

// TestPagesAreWeighed: what slow readers hold in memory is bounded for each key
// and in all; who finds no room is told when to come back, others are served.
func TestPagesAreWeighed(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{MaxPageBytes: 40 << 20, QueueTimeout: 100 * time.Millisecond})
	n.PutTask(longTask("long"))
	get := func(token string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", n.base+"/api/v1/tasks/long", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := (&http.Client{Transport: n.plain}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	var slow []*http.Response // 25 MB of JSON each: more than the kernel takes
	for range 2 {
		slow = append(slow, get(admin))
	}
	refused := get(admin)
	if refused.StatusCode != 503 || refused.Header.Get("Retry-After") == "" {
		t.Errorf("a third long answer of one key: %d, Retry-After %q", refused.StatusCode, refused.Header.Get("Retry-After"))
	}
	other := get(reader)
	if b, err := io.ReadAll(other.Body); other.StatusCode != 200 || err != nil || !bytes.HasSuffix(b, []byte("}\n")) {
		t.Errorf("another key's: %d, %d bytes, %v", other.StatusCode, len(b), err)
	}
	for _, r := range slow {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
	}
	if again := get(admin); again.StatusCode != 200 {
		t.Errorf("with room again: %d", again.StatusCode)
	}
	_, metrics := n.call("GET", "/metrics", admin, "")
	if !strings.Contains(metrics, "dash_http_pages_refused_total 1") {
		t.Error("the refusal is not counted")
	}
}

// TestTranscriptPages goes backwards: each page holds the newest turns before
// those of the last one, the oldest of them first.
func TestTranscriptPages(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	for i := range 5 {
		a := longTask(fmt.Sprintf("turn-%d", i))
		a.Spec.Message, a.Result.Text = "m", fmt.Sprint(i)
		n.PutTask(a)
	}
	said := ""
	for cursor := ""; ; {
		var page api.Transcript
		_, body := n.call("GET", "/api/v1/sessions/s-1/transcript?limit=2"+cursor, admin, "")
		if err := json.Unmarshal([]byte(body), &page); err != nil || page.Session != "s-1" {
			t.Fatal(err, body)
		}
		part := ""
		for _, turn := range page.Items {
			part += turn.Text
		}
		if said = part + said; page.NextCursor == nil {
			break
		}
		cursor = "&cursor=" + *page.NextCursor
		if resp, _ := n.call("GET", "/api/v1/sessions/s-1/transcript?limit=2&tenant=default"+cursor, admin, ""); resp.StatusCode != 400 {
			t.Errorf("the cursor of another query: %d", resp.StatusCode)
		}
	}
	if said != "hello01234" {
		t.Errorf("said %q", said)
	}
}
