package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

func TestPermissionsOfTheDocument(t *testing.T) {
	t.Parallel()
	var documented []string
	for _, v := range testDoc.Components.Schemas["Permission"].Value.Enum {
		documented = append(documented, v.(string))
	}
	known := constants(t, "../auth/auth.go", "Permission")
	slices.Sort(documented)
	slices.Sort(known)
	if !slices.Equal(documented, known) {
		t.Errorf("the document knows %v, the code %v", documented, known)
	}
}

func TestKeyIsShownOnce(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	const body = `{"name":"n","permissions":["submit"]}`
	resp, first := n.call("POST", "/api/v1/keys", admin, body, "Idempotency-Key", "k1")
	var k api.ApiKey
	if err := json.Unmarshal([]byte(first), &k); err != nil || resp.StatusCode != http.StatusCreated || k.Key == nil || !strings.HasPrefix(*k.Key, "dash_") {
		t.Fatalf("%d %s %v", resp.StatusCode, first, err)
	}
	if at := resp.Header.Get("Location"); at != "/api/v1/keys/"+k.Id || *k.Tenant != "default" || k.RateLimit != 100 {
		t.Errorf("%s %s", at, first)
	}
	resp, again := n.call("POST", "/api/v1/keys", admin, body, "Idempotency-Key", "k1")
	if resp.Header.Get("Idempotent-Replayed") != "true" || strings.Contains(again, `"key"`) || !strings.Contains(again, k.Id) {
		t.Errorf("repeated: %s", again)
	}
	for _, path := range []string{"/keys", "/keys/" + k.Id, "/audit"} {
		if _, answer := n.call("GET", "/api/v1"+path, admin, ""); strings.Contains(answer, *k.Key) {
			t.Errorf("%s tells the key", path)
		}
	}
}

// Nobody gives away more than he has.
func TestAccountsStayInTheirTenant(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	n.PutKey(messages.Key{ID: "other", Tenant: "default"})
	n.PutUser(messages.User{ID: "other", Tenant: "default", Version: 1})
	n.PutUser(messages.User{ID: "own", Tenant: "t1", Version: 1, Role: "user"})
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/keys", `{"name":"n","permissions":["admin"],"all_tenants":true}`, 403},
		{"POST", "/keys", `{"name":"n","permissions":["admin"],"tenant":"default"}`, 403},
		{"POST", "/users", `{"email":"a@b","password":"correct horse","all_tenants":true}`, 403},
		{"PATCH", "/users/own", `{"all_tenants":true}`, 403},
		{"PATCH", "/users/own", `{"tenant":"default"}`, 403},
		{"PATCH", "/users/own", `{"role":"admin"}`, 200},
		{"PATCH", "/users/other", `{"role":"admin"}`, 404},
		{"DELETE", "/users/other", "", 404},
		{"DELETE", "/keys/other", "", 404},
		{"GET", "/keys/other", "", 404},
		{"POST", "/tenants", `{"id":"t2"}`, 403},
		{"GET", "/audit/verification", "", 403},
	} {
		if resp, answer := n.call(c.method, "/api/v1"+c.path, tenant, c.body); resp.StatusCode != c.want {
			t.Errorf("%s %s %s: %d %s, want %d", c.method, c.path, c.body, resp.StatusCode, answer, c.want)
		}
	}
	for path, foreign := range map[string]string{"/keys": "other", "/users": "other", "/tenants": "default"} {
		if _, answer := n.call("GET", "/api/v1"+path, tenant, ""); strings.Contains(answer, `"`+foreign+`"`) {
			t.Errorf("%s shows another tenant: %s", path, answer)
		}
	}
	for _, path := range []string{"/keys", "/users", "/tenants", "/audit", "/audit/verification"} {
		if resp, _ := n.call("GET", "/api/v1"+path, reader, ""); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s is open to everybody: %d", path, resp.StatusCode)
		}
	}
}

func TestAccountsRefuse(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	for _, c := range []struct{ method, path, body, want string }{
		{"POST", "/keys", `{"name":"n","permissions":["fly"]}`, "/permissions/0"},
		{"POST", "/keys", `{"name":"n","permissions":[]}`, "/permissions"},
		{"POST", "/keys", `{"name":"n","permissions":["read"],"expires_at":"2001-01-01T00:00:00Z"}`, "is over already"},
		{"POST", "/keys", `{"name":"n","permissions":["read"],"tenant":"default","all_tenants":true}`, "/all_tenants"},
		{"POST", "/keys", `{"name":"n","permissions":["read"],"tenant":"nobody"}`, "nobody"},
		{"POST", "/users", `{"email":"no address","password":"correct horse"}`, "/email"},
		{"POST", "/users", `{"email":"BOB@example.com","password":"correct horse"}`, "taken"},
		{"POST", "/users", `{"email":"a@example.com","password":"short"}`, "/password"},
		{"POST", "/users", `{"email":"a@example.com","password":"correct horse","role":"king"}`, "/role"},
		{"PATCH", "/users/01990000-0000-7000-8000-0000000000a1", `{}`, "at least 1"},
		{"GET", "/audit?cursor=x", "", "query:cursor"},
	} {
		if resp, answer := n.call(c.method, "/api/v1"+c.path, admin, c.body); resp.StatusCode < 400 || resp.StatusCode >= 500 || !strings.Contains(answer, c.want) {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, resp.StatusCode, answer)
		}
	}
	if rows := slices.DeleteFunc(n.Audit(), func(r server.AuditRow) bool { return strings.Contains(r.Detail, `"refused"`) }); len(rows) != 0 {
		t.Errorf("what was refused is on record as done: %v", rows)
	}
	const bob = "/api/v1/users/01990000-0000-7000-8000-0000000000a1"
	if resp, _ := n.call("PATCH", bob, admin, `{"role":"viewer"}`, "If-Match", `"3"`); resp.StatusCode != http.StatusPreconditionFailed {
		t.Errorf("another version: %d", resp.StatusCode)
	}
	if resp, _ := n.call("PATCH", bob, admin, `{"role":"viewer"}`, "If-Match", `"4"`); resp.StatusCode != http.StatusOK || resp.Header.Get("ETag") != `"5"` {
		t.Errorf("the right version: %d, ETag %s", resp.StatusCode, resp.Header.Get("ETag"))
	}
}

// Every write of the document is recorded once when it succeeds, also under the
// alias, and no secret with it.
func TestEveryChangeIsRecorded(t *testing.T) {
	t.Parallel()
	for path, item := range testDoc.Paths.Map() {
		for method, op := range item.Operations() {
			if method == http.MethodGet {
				continue
			}
			for name, body := range bodies(t, op) {
				t.Run(op.OperationID+"/"+name, func(t *testing.T) {
					t.Parallel()
					want := 1
					if op.Extensions["x-audit"] == "none" {
						want = 0
					}
					var rows []server.AuditRow
					exampleOn(t, method, "/api/v1", path, item, op, body, func(n *node) { rows = n.Audit() })
					if len(rows) != want {
						t.Fatalf("%d rows, want %d", len(rows), want)
					}
					for _, r := range rows {
						if r.Action != op.OperationID || r.Actor != "key:admin" || r.RequestID == "" || r.Time.IsZero() {
							t.Errorf("%+v", r)
						}
						if r.Target == "" && op.OperationID != "replayDeadLetters" {
							t.Errorf("%s: no target: %+v", op.OperationID, r)
						}
						for _, secret := range []string{"change-me", "correct horse"} {
							if strings.Contains(r.Detail, secret) {
								t.Errorf("a secret is on record: %s", r.Detail)
							}
						}
					}
				})
			}
		}
	}
}

func TestAuditRow(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	n.call("PATCH", "/api/v1/gateways/gw-1", admin, `{"token":"hush-hush","max_concurrency":9}`, "X-Request-Id", "req-7", "Idempotency-Key", "once")
	n.call("PATCH", "/api/v1/gateways/gw-1", admin, `{"token":"hush-hush","max_concurrency":9}`, "Idempotency-Key", "once") // the same answer, no second change
	n.call("DELETE", "/api/v1/gateways/gw-2?force=true", admin, "")
	_, answer := n.call("GET", "/api/v1/audit?limit=1", admin, "")
	var page api.AuditPage
	if err := json.Unmarshal([]byte(answer), &page); err != nil {
		t.Fatal(err)
	}
	if len(page.Items) != 1 || page.Items[0].Action != "deleteGateway" || page.Items[0].Detail["force"] != "true" || page.NextCursor == nil {
		t.Fatalf("%s", answer)
	}
	_, answer = n.call("GET", "/api/v1/audit?limit=5&cursor="+*page.NextCursor, admin, "")
	page = api.AuditPage{}
	if err := json.Unmarshal([]byte(answer), &page); err != nil {
		t.Fatal(err)
	}
	if len(page.Items) != 1 || page.NextCursor != nil {
		t.Fatalf("%s", answer)
	}
	r := page.Items[0]
	token, there := r.Detail["token"]
	if r.Action != "updateGateway" || r.Target != "gw-1" || r.RequestId != "req-7" || r.Detail["max_concurrency"] != 9.0 || !there || token != nil {
		t.Errorf("%+v", r)
	}
}

// A log that does not answer neither undoes a change nor loses it.
func TestAuditWaitsForItsLog(t *testing.T) {
	t.Parallel()
	var logs bytes.Buffer
	log := &brokenLog{broken: true}
	a := server.NewTestAuditor(log, &logs)
	for i := range 3 {
		a.Record(t.Context(), server.AuditRow{Action: fmt.Sprint("a", i)})
	}
	if a.Waiting() != 3 || len(log.rows) != 0 {
		t.Fatalf("%v wait, %v written", a.Waiting(), log.rows)
	}
	log.broken = false
	a.Retry(t.Context())
	a.Record(t.Context(), server.AuditRow{Action: "a3"})
	if a.Waiting() != 0 || !slices.Equal(log.rows, []string{"a0", "a1", "a2", "a3"}) {
		t.Fatalf("%v wait, %v written", a.Waiting(), log.rows)
	}
	log.broken = true
	for i := range server.MaxAuditPending + 1 {
		a.Record(t.Context(), server.AuditRow{Action: fmt.Sprint("b", i)})
	}
	if got := strings.Count(logs.String(), "a change is missing"); got != 1 || a.Waiting() != server.MaxAuditPending {
		t.Errorf("%v wait, %d told", a.Waiting(), got)
	}
}

// TestAuditAtTheEnd: what is left at the stop, or comes after it from a request
// that was cut, is told; what can still be written is, though the time is over.
func TestAuditAtTheEnd(t *testing.T) {
	t.Parallel()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, broken := range []bool{true, false} {
		var logs bytes.Buffer
		log := &brokenLog{broken: true}
		a := server.NewTestAuditor(log, &logs)
		a.Record(t.Context(), server.AuditRow{Action: "before"})
		log.broken = broken
		a.Stop(over)
		log.broken = true
		a.Record(t.Context(), server.AuditRow{Action: "after"})
		told := map[bool]int{true: 2, false: 1}[broken]
		if got := strings.Count(logs.String(), "a change is missing"); got != told || len(log.rows) != 2-told || a.Waiting() != 0 {
			t.Errorf("broken %v: %d told, want %d; %v written, %d wait", broken, got, told, log.rows, a.Waiting())
		}
	}
}

type brokenLog struct {
	server.Audit
	broken bool
	rows   []string
}

func (l *brokenLog) Record(_ context.Context, r server.AuditRow) error {
	if l.broken {
		return errors.New("disk full")
	}
	l.rows = append(l.rows, r.Action)
	return nil
}

func TestAuditIsWrittenBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	n.SetFail(func(_ context.Context, command string) error {
		if command == "RecordAudit" {
			return &messages.Error{Code: messages.CodeUnavailable, Message: "down"}
		}
		return nil
	})
	if resp, answer := n.call("POST", "/api/v1/gateways/gw-1/drain", admin, ""); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("%d %s", resp.StatusCode, answer)
	}
	n.SetFail(nil)
	if len(n.Audit()) != 0 {
		t.Fatal("recorded by a log that is down")
	}
	if err := n.srv.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rows := n.Audit(); len(rows) != 1 || rows[0].Target != "gw-1" {
		t.Errorf("the stop left behind what waited: %v", rows)
	}
}

// TestOneHashAtATime: and who floods the line stands behind the others.
func TestOneHashAtATime(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	n.call("POST", "/api/v1/tenants", admin, `{"id":"t1","name":"t1"}`)
	var inside, most atomic.Int32
	began, next := make(chan struct{}, 8), make(chan struct{})
	n.Fail = func(_ context.Context, command string) error {
		if command == "CreateUser" {
			most.Store(max(most.Load(), inside.Add(1)))
			began <- struct{}{}
			<-next
			inside.Add(-1)
		}
		return nil
	}
	done := make(chan string, 8)
	create := func(key, mail string) {
		resp, body := n.call("POST", "/api/v1/users", key, `{"email":"`+mail+`","password":"correct horse battery","role":"user"}`)
		if resp.StatusCode != 201 {
			t.Errorf("%s: %d %s", mail, resp.StatusCode, body)
		}
		done <- mail
	}
	go create(tenant, "a0@example.com")
	<-began
	for _, mail := range []string{"a1@example.com", "a2@example.com", "a3@example.com", "a4@example.com"} {
		go create(tenant, mail)
	}
	n.awaitHashes(5)
	go create(admin, "b@example.com")
	n.awaitHashes(6)
	if resp, _ := n.call("GET", "/api/v1/tasks", tenant, ""); resp.StatusCode != 200 {
		t.Errorf("a list waits behind hashes: %d", resp.StatusCode)
	}
	at := -1
	for i := range 6 {
		next <- struct{}{}
		if <-done == "b@example.com" {
			at = i
		}
	}
	if at < 0 || at > 2 || most.Load() != 1 {
		t.Errorf("%d hashes at once; another tenant's was made as number %d, behind those of who came first", most.Load(), at)
	}
}

// awaitHashes waits until so many requests make a hash or stand in line for it.
func (n *node) awaitHashes(many int) {
	n.t.Helper()
	for late := time.Now().Add(10 * time.Second); n.srv.InLineForHashes() != many; time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			n.t.Fatalf("%d are in line, want %d", n.srv.InLineForHashes(), many)
		}
	}
}
