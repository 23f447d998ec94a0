package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dash-fleet/dash/http/api"
)

func TestExitCodesOfAnswers(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]int{
		400: exitUsage, 401: exitAuth, 403: exitAuth, 404: exitNotFound, 409: exitConflict, 412: exitConflict, 413: exitUsage,
		422: exitUsage, 428: exitConflict, 429: exitUnavailable, 500: exitFailed, 503: exitUnavailable, 504: exitUnavailable,
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.answer("GET /api/v1/tasks/{id}", status, problem(status, "some_code", "what happened", "what to do"))
			wantResult(t, f.dash(t.Context(), "", "task", "show", longID+"1"), want, "", "dash: what happened", "next: what to do", "request id: req-1")
		})
	}
}

func TestFieldsAndQueueAreShown(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	p := problem(429, "queue_full", "the queue is full", "try again later")
	p.Queue = &api.QueuePosition{Position: 7, Limit: 5}
	p.Errors = &[]api.FieldError{{Pointer: "/input/message", Detail: "too long"}}
	f.answer("POST /api/v1/tasks", 429, p, "Retry-After", "3")
	wantResult(t, f.dash(t.Context(), "", "task", "submit", "--message", "x"), exitUnavailable, "",
		"the queue is full (7 of 5 places taken); it may succeed in 3.0s", "--message: too long")
}

func TestWhatTheStateAloneDoesNotSay(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.answer("POST /api/v1/tasks/{id}/cancel", 202, fakeTask(longID+"1", api.TaskStateRunning))
	wantResult(t, f.dash(t.Context(), "", "task", "cancel", longID+"1"), 0, "running", "was asked to stop")
	f.answer("GET /api/v1/tasks/{id}", 200, fakeTask(longID+"1", api.TaskStateHeld))
	wantResult(t, f.dash(t.Context(), "", "task", "show", longID+"1"), 0, "held", "dash task release "+longID+"1")
}

// A restart of a gateway that is ready is over when it is ready anew, not when
// the node still says what was before.
func TestRestartWaitsForTheNewStart(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	before := time.Now().Add(-time.Second)
	after := before.Add(time.Second)
	looks := 0
	f.mux.HandleFunc("GET /api/v1/gateways/gw-1", func(w http.ResponseWriter, _ *http.Request) {
		g := api.Gateway{Id: "gw-1", State: api.GatewayStateReady, Since: &before}
		if looks++; looks > 2 { // before the restart, and once after it
			g.Since = &after
		}
		_ = json.NewEncoder(w).Encode(g)
	})
	f.answer("GET /api/v1/gateways", 200, page[api.Gateway]{Items: []api.Gateway{{Id: "gw-1"}}})
	f.answer("POST /api/v1/gateways/gw-1/restart", 202, api.Gateway{Id: "gw-1", State: api.GatewayStateReady, Since: &before})
	wantResult(t, f.dash(t.Context(), "", "gateway", "restart", "gw-1"), 0, "gw-1")
	if looks != 3 {
		t.Errorf("looked %d times, want 3", looks)
	}
}

func TestAnswersThatAreNotDash(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.mux.HandleFunc("GET /api/v1/tasks", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") })
	f.mux.HandleFunc("GET /api/v1/pools", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://198.51.100.1/", http.StatusFound)
	})
	wantResult(t, f.dash(t.Context(), "", "task", "list"), exitFailed, "", "not what this version of dash expects", "next:")
	wantResult(t, f.dash(t.Context(), "", "pool", "list"), exitFailed, "", "302 Found", "DASH_URL")
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.Close()
	wantResult(t, f.dash(t.Context(), "", "gateway", "list"), exitUnavailable, "", "no Dash node answers", "dash serve --dev")
	wantResult(t, f.dash(t.Context(), "", "doctor", "-o", "json"), exitUnavailable, `"result": "fail"`)
}

func TestDoctorSaysWhyAKeyCannotBeLookedUp(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	detail := "dial tcp 127.0.0.1:6379: connection refused"
	f.answer("GET /health/live", 200, api.Health{Status: api.HealthStatusOk, Version: version})
	f.answer("GET /api/v1/nodes", 503, problem(503, "unavailable", "the store is not available", "try again"))
	f.answer("GET /health/ready", 503, api.Health{Status: api.HealthStatusUnavailable, Checks: &[]api.HealthCheck{{Name: "store", Detail: &detail}}})
	wantResult(t, f.dash(t.Context(), "", "doctor"), exitUnavailable, "connection refused", "api key: the store is not available", "next: look at the store's server")
}

func TestBadURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"127.0.0.1:7373", "ftp://x", "http://", "http://u:p@host", "http://x?y=1", "://"} {
		var out strings.Builder
		term := &terminal{in: strings.NewReader(""), out: &out, err: &out, environ: []string{"DASH_URL=" + url}}
		if code := run(t.Context(), []string{"task", "list"}, term); code != exitUsage {
			t.Errorf("DASH_URL=%s: exit code %d, want %d: %s", url, code, exitUsage, out.String())
		}
	}
}

func TestListFollowsCursors(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.mux.HandleFunc("GET /api/v1/tasks", func(w http.ResponseWriter, r *http.Request) {
		cursor := r.URL.Query().Get("cursor")
		p := page[api.Task]{Items: []api.Task{fakeTask("t"+cursor+"-1", api.TaskStateQueued), fakeTask("t"+cursor+"-2", api.TaskStateQueued)}}
		if next := cursor + "n"; cursor != "nn" {
			p.NextCursor = &next
		}
		_ = json.NewEncoder(w).Encode(p)
	})
	wantResult(t, f.dash(t.Context(), "", "task", "list", "--limit", "0", "-o", "name"), 0, "t-1\nt-2\ntn-1\ntn-2\ntnn-1\ntnn-2\n")
	got := f.dash(t.Context(), "", "task", "list", "--limit", "2", "-o", "name")
	wantResult(t, got, 0, "t-1\nt-2\n", "--limit 0 shows all")
	if strings.Contains(got.out, "tn") {
		t.Errorf("more than the limit was printed: %q", got.out)
	}
}

func TestShortIDs(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	one, two := fakeTask(longID+"1", api.TaskStateQueued), fakeTask("0199ffff-0000-7000-8000-00000000abcd", api.TaskStateQueued)
	f.mux.HandleFunc("GET /api/v1/tasks", func(w http.ResponseWriter, r *http.Request) {
		p := page[api.Task]{Items: []api.Task{}}
		begin, end := r.URL.Query().Get("id_begin"), r.URL.Query().Get("id_end")
		for _, v := range []api.Task{one, two} {
			if (begin != "" || end != "") && strings.HasPrefix(v.Id, begin) && strings.HasSuffix(v.Id, end) {
				p.Items = append(p.Items, v)
			}
		}
		_ = json.NewEncoder(w).Encode(p)
	})
	f.answer("GET /api/v1/tasks/"+two.Id, 200, two)
	wantResult(t, f.dash(t.Context(), "", "task", "show", "abcd", "-o", "name"), 0, two.Id)
	wantResult(t, f.dash(t.Context(), "", "task", "show", "0199f", "-o", "name"), 0, two.Id)
	wantResult(t, f.dash(t.Context(), "", "task", "show", "0199"), exitConflict, "", `"0199" fits 2 tasks`)
	wantResult(t, f.dash(t.Context(), "", "task", "show", "nothing"), exitNotFound, "", "there is no task whose id begins or ends with \"nothing\"")
	wantResult(t, f.dash(t.Context(), "", "task", "show", "../x"), exitUsage, "", "is not an id")
}

func TestPartial(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.answer("POST /api/v1/tasks/"+longID+"1/cancel", 202, fakeTask(longID+"1", api.TaskStateCancelled))
	f.answer("POST /api/v1/tasks/"+longID+"2/cancel", 409, problem(409, "wrong_state", "it has ended", "nothing"))
	wantResult(t, f.dash(t.Context(), "", "task", "cancel", longID+"1", longID+"2", "-o", "name"), exitPartial, longID+"1\n", "it has ended", "1 of 2 failed")
	wantResult(t, f.dash(t.Context(), "", "task", "cancel", longID+"2", longID+"2"), exitConflict, "", "it has ended")
}

func TestBulkReplay(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.mux.HandleFunc("POST /api/v1/dead-letters/replay", func(w http.ResponseWriter, r *http.Request) {
		var in api.ReplayDeadLetters
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		out := api.ReplayedDeadLetters{Matched: 12}
		if !deref(in.DryRun) {
			out.Replayed = 5
		}
		_ = json.NewEncoder(w).Encode(out)
	})
	wantResult(t, f.dash(t.Context(), "", "task", "replay"), exitUsage, "", "which dead letters")
	wantResult(t, f.dash(t.Context(), "", "task", "replay", "--code", "x", "--dry-run"), 0, "12 dead letters match")
	wantResult(t, f.dash(t.Context(), "", "task", "replay", "--all"), exitUsage, "", "--yes")
	for _, r := range f.requests() {
		if !strings.Contains(r, `"dry_run":true`) {
			t.Errorf("something was replayed without consent: %s", r)
		}
	}
	wantResult(t, f.dash(t.Context(), "", "task", "replay", "--all", "--yes"), exitPartial, "5 of 12", "the queue is full")
}

func TestConfirmation(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.answer("GET /api/v1/gateways", 200, page[api.Gateway]{Items: []api.Gateway{{Id: "gw-1"}}})
	f.answer("GET /api/v1/gateways/gw-1", 200, api.Gateway{Id: "gw-1", State: api.GatewayStateReady})
	f.answer("DELETE /api/v1/gateways/gw-1", 204, nil)
	removed := func() bool { return strings.Contains(strings.Join(f.requests(), "\n"), "DELETE") }
	ask := func(answer string) int {
		var out strings.Builder
		return run(t.Context(), []string{"gateway", "remove", "gw-1"}, &terminal{in: strings.NewReader(answer), out: &out, err: &out, asks: true,
			environ: []string{"DASH_URL=" + f.URL, "DASH_API_KEY=k"}})
	}
	wantResult(t, f.dash(t.Context(), "", "gateway", "remove", "gw-1"), exitUsage, "", "--yes")
	wantResult(t, f.dash(t.Context(), "", "gateway", "remove", "gw-1", "--dry-run"), 0, "will be removed")
	if code := ask("yes\n"); code != exitFailed || removed() {
		t.Errorf("a wrong answer gave code %d, removed %v", code, removed())
	}
	if code := ask("gw-1\n"); code != 0 || !removed() {
		t.Errorf("the right answer gave code %d, removed %v", code, removed())
	}
}

func TestKeyOfLocalNode(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.mux.HandleFunc("GET /api/v1/pools", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer local-key" {
			w.WriteHeader(http.StatusUnauthorized)
			_ = json.NewEncoder(w).Encode(problem(401, "unauthorized", "no", "no"))
			return
		}
		_ = json.NewEncoder(w).Encode(page[api.Pool]{})
	})
	home := t.TempDir()
	var out strings.Builder
	term := &terminal{in: strings.NewReader(""), out: &out, err: &out, environ: []string{"DASH_URL=" + f.URL, "HOME=" + home}}
	if code := run(t.Context(), []string{"pool", "list"}, term); code != exitAuth || !strings.Contains(out.String(), "DASH_API_KEY is not set") {
		t.Errorf("without a key: code %d, %s", code, out.String())
	}
	keyFile := filepath.Join(home, "admin.key")
	if err := os.WriteFile(keyFile, []byte("local-key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	forget, err := announce(term, localNode{URL: f.URL, KeyFile: keyFile})
	if err != nil {
		t.Fatal(err)
	}
	if code := run(t.Context(), []string{"pool", "list"}, term); code != 0 {
		t.Errorf("with a local node: code %d, %s", code, out.String())
	}
	if err := forget(); err != nil {
		t.Error(err)
	}
	if code := run(t.Context(), []string{"pool", "list"}, term); code != exitAuth {
		t.Errorf("after the node: code %d, %s", code, out.String())
	}
}

type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) {
	return 0, &os.PathError{Op: "write", Err: syscall.EPIPE}
}

func TestBrokenPipe(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.answer("GET /api/v1/tasks", 200, page[api.Task]{Items: []api.Task{fakeTask("a", api.TaskStateQueued)}})
	var errs strings.Builder
	for _, args := range [][]string{{"task", "list"}, {"version"}, {"config"}} {
		term := &terminal{in: strings.NewReader(""), out: closedPipe{}, err: &errs, environ: []string{"DASH_URL=" + f.URL, "DASH_API_KEY=k", "HOME=/h"}}
		if code := run(t.Context(), args, term); code != 0 || errs.Len() > 0 {
			t.Errorf("%v: code %d, stderr %q", args, code, errs.String())
		}
	}
}

func TestInterrupt(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.mux.HandleFunc("GET /api/v1/tasks", func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	wantResult(t, f.dash(ctx, "", "task", "list"), exitInterrupted, "", "interrupted")
}

// TestANodeIsAnnouncedWhole: clients that look all the time, as scripts do that
// wait for a node, find no file or a whole one, and do not keep the node from it.
func TestANodeIsAnnouncedWhole(t *testing.T) {
	t.Parallel()
	term := &terminal{environ: []string{"HOME=" + t.TempDir()}}
	path := localPath(term, "7373")
	done, looked := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-done:
				looked <- nil
				return
			default:
			}
			if _, _, err := readLocal(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				looked <- err
				return
			}
		}
	}()
	for range 500 {
		forget, err := announce(term, localNode{URL: "http://127.0.0.1:7373", KeyFile: "/k"})
		if err != nil {
			t.Fatal(err)
		}
		if _, alive, err := readLocal(path); err != nil || !alive {
			t.Fatalf("alive %t, %v", alive, err)
		}
		if err := forget(); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	if err := <-looked; err != nil {
		t.Errorf("a client found %v", err)
	}
}
