package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/http/api"
)

// longLine answers the list of tasks as a node with many of them does: pages
// of one place each, newest first, and an end of the search behind every page.
func (f *fake) longLine(t *testing.T, tasks ...api.Task) {
	f.mux.HandleFunc("GET /api/v1/tasks", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		var at int
		if c := q.Get("cursor"); c != "" {
			if _, err := fmt.Sscan(c, &at); err != nil {
				t.Error(err)
			}
		}
		p := api.TaskPage{Items: []api.Task{}}
		v := tasks[at]
		fits := strings.HasPrefix(v.Id, q.Get("id_begin")) && strings.HasSuffix(v.Id, q.Get("id_end"))
		if fits && (q.Get("state") == "" || strings.Contains(","+q.Get("state")+",", ","+string(v.State)+",")) {
			p.Items = append(p.Items, v)
		}
		if at+1 < len(tasks) {
			next, to := fmt.Sprint(at+1), time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
			p.NextCursor, p.SearchedTo = &next, &to
		}
		_ = json.NewEncoder(w).Encode(p)
	})
	f.mux.HandleFunc("POST /api/v1/tasks/{id}/cancel", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(fakeTask(r.PathValue("id"), api.TaskStateCancelled))
	})
	f.mux.HandleFunc("GET /api/v1/tasks/{id}", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(fakeTask(r.PathValue("id"), api.TaskStateQueued))
	})
}

// An id that is unique among the newest tasks only must not hit one of them.
func TestShortIDIsUniqueAmongAll(t *testing.T) {
	t.Parallel()
	newest, oldest, done := longID+"1", "01980000-0000-7000-8000-0000000000a1", "01970000-0000-7000-8000-0000000000b2"
	f := newFake(t)
	f.longLine(t, fakeTask(newest, api.TaskStateQueued), fakeTask(longID+"2", api.TaskStateQueued), fakeTask(done, api.TaskStateSucceeded),
		fakeTask("01980000-0000-7000-8000-000000000001", api.TaskStateQueued), fakeTask(oldest, api.TaskStateQueued))
	wantResult(t, f.dash(t.Context(), "", "task", "cancel", "0001"), exitConflict, "", `"0001" fits 2`, newest, "01980000-0000-7000-8000-000000000001", "give more characters")
	wantResult(t, f.dash(t.Context(), "", "task", "cancel", "00a1", "-o", "name"), 0, oldest+"\n")
	wantResult(t, f.dash(t.Context(), "", "task", "cancel", "00b2"), exitNotFound, "", "no open task", "dash task show 00b2")
	wantResult(t, f.dash(t.Context(), "", "task", "replay", "00b2"), exitNotFound, "", "no dead letter")
	wantResult(t, f.dash(t.Context(), "", "task", "release", "00b2", "--fail"), exitNotFound, "", "no held task")
	for _, r := range f.requests() {
		if strings.HasPrefix(r, "POST") && !strings.Contains(r, oldest) {
			t.Errorf("the wrong task was hit: %s", r)
		}
	}
}

// What only shows stops where the server stopped, and says so.
func TestShortIDOfOldTask(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.longLine(t, fakeTask(longID+"1", api.TaskStateQueued), fakeTask("01980000-0000-7000-8000-0000000000a1", api.TaskStateQueued))
	wantResult(t, f.dash(t.Context(), "", "task", "show", "0001", "-o", "name"), 0, longID+"1\n", "created since 2030-01-02T03:04:05Z")
	wantResult(t, f.dash(t.Context(), "", "task", "show", "00a1"), exitNotFound, "", "created since 2030-01-02T03:04:05Z", "give the whole id")
}
