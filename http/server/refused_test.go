package server_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

// TestRefusalsAreRecorded: who was not let in and which change was refused is in
// the audit log, a repeated one as one row with a count; a refused read is not.
func TestRefusalsAreRecorded(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	for range 5 {
		n.call("GET", "/api/v1/tasks", "wrong-key", "")
	}
	n.call("PATCH", "/api/v1/gateways/gw-1", reader, `{"weight":9,"token":"hush-hush"}`)
	n.call("DELETE", "/api/v1/gateways/none", admin, "")
	n.call("GET", "/api/v1/tasks/none", admin, "")
	if err := n.srv.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	type detail struct {
		Refused int    `json:"refused"`
		Code    string `json:"code"`
		Address string `json:"address"`
		Times   int    `json:"times"`
	}
	got := map[string]detail{}
	for _, r := range n.Audit() {
		var d detail
		if err := json.Unmarshal([]byte(r.Detail), &d); err != nil {
			t.Fatal(err)
		}
		key := r.Actor + " " + r.Action
		d.Times += got[key].Times // the first may have its own row
		got[key] = d
		if strings.Contains(r.Detail, "hush") {
			t.Errorf("a secret is on record: %s", r.Detail)
		}
	}
	want := map[string]detail{
		"anonymous listTasks":      {401, "unauthorized", "127.0.0.1", 5},
		"key:reader updateGateway": {403, "forbidden", "127.0.0.1", 1},
		"key:admin deleteGateway":  {404, "not_found", "127.0.0.1", 1},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("recorded %v, want %v", got, want)
	}
}

// TestFloodOfRefusalsIsBounded: an attacker with many addresses and keys leaves
// some rows and a count of the rest.
func TestFloodOfRefusalsIsBounded(t *testing.T) {
	t.Parallel()
	var l server.RefusedLog
	now := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	rows, times := 0, 0
	take := func(list []server.AuditRow) {
		for _, r := range list {
			var d struct{ Times int }
			if err := json.Unmarshal([]byte(r.Detail), &d); err != nil {
				t.Fatal(err)
			}
			rows, times = rows+1, times+d.Times
		}
	}
	const hours, perSecond = 4, 20
	for range hours * 3600 {
		now = now.Add(time.Second)
		for i := range perSecond {
			l.Note(fmt.Sprint("10.0.", now.Unix()%200, ".", i), 401, messages.CodeUnauthorized, now)
		}
		take(l.Due(now, false))
	}
	take(l.Due(now, true))
	if most := 60 + hours*3600/10 + hours*60 + 1; rows > most {
		t.Errorf("%d rows in %d hours, want at most %d", rows, hours, most)
	}
	if times != hours*3600*perSecond {
		t.Errorf("%d refusals are counted, want %d", times, hours*3600*perSecond)
	}
}
