package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dash-fleet/dash/http/api"
)

// runs scripts the event stream of one task: each call of the endpoint plays
// the next part.
func (f *fake) runs(id string, parts ...func(w http.ResponseWriter, r *http.Request)) {
	var n atomic.Int32
	f.mux.HandleFunc("GET /api/v1/tasks/"+id+"/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if i := int(n.Add(1)) - 1; i < len(parts) {
			parts[i](w, r)
		}
	})
}

func changed(id string, state api.TaskState, gateway string) api.TaskChanged {
	return api.TaskChanged{Id: id, State: state, Gateway: opt(gateway)}
}

func succeeded(id, text string) api.RunFinal {
	task := fakeTask(id, api.TaskStateSucceeded)
	task.Result = &api.TaskResult{Text: text}
	return api.RunFinal{Task: task}
}

// TestACutAnswerIsSaid beside the text, whose bytes stay as they are.
func TestACutAnswerIsSaid(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	id := longID + "1"
	f.answer("POST /api/v1/tasks", 202, fakeTask(id, api.TaskStateQueued))
	final := succeeded(id, "hello")
	final.Task.Result.Truncated, final.Task.Result.Length = true, 5_000_000
	f.runs(id, func(w http.ResponseWriter, _ *http.Request) { event(w, 1, "final", final) })
	got := f.dash(t.Context(), "", "task", "submit", "--message", "hi", "--wait")
	wantResult(t, got, 0, "hello", "the answer was cut: 5 of its 5000000 bytes are kept")
}

// TestMissingSubAgentsAreSaid beside an answer that had to do without them.
func TestMissingSubAgentsAreSaid(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	id := longID + "1"
	f.answer("POST /api/v1/tasks", 202, fakeTask(id, api.TaskStateQueued))
	final := succeeded(id, "hello")
	final.Task.Result.UnfinishedSubAgents = 2
	f.runs(id, func(w http.ResponseWriter, _ *http.Request) { event(w, 1, "final", final) })
	got := f.dash(t.Context(), "", "task", "submit", "--message", "hi", "--wait")
	wantResult(t, got, 0, "hello", "the answer lacks what 2 of its sub-agents would have found")
}

func TestWaitStreamsAndReconnects(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	id, run := longID+"1", longID+"1.1"
	f.answer("POST /api/v1/tasks", 202, fakeTask(id, api.TaskStateQueued))
	var resumed atomic.Value
	f.runs(id, func(w http.ResponseWriter, _ *http.Request) {
		event(w, 0, "snapshot", api.RunSnapshot{Task: fakeTask(id, api.TaskStateQueued)})
		event(w, 7, "task.state", changed(id, api.TaskStateRunning, "gw-1"))
		event(w, 0, "delta", api.RunDelta{RunId: run, Offset: 0, Text: "Hel"})
	}, func(w http.ResponseWriter, r *http.Request) {
		resumed.Store(r.Header.Get("Last-Event-ID"))
		event(w, 0, "snapshot", api.RunSnapshot{Task: fakeTask(id, api.TaskStateRunning), RunId: &run, Text: "Hello,"})
		event(w, 0, "delta", api.RunDelta{RunId: run, Offset: 6, Text: " world"})
		event(w, 9, "task.state", changed(id, api.TaskStateSucceeded, "gw-1"))
		event(w, 0, "final", succeeded(id, "Hello, world"))
	})
	got := f.dash(t.Context(), "", "task", "submit", "--message", "x", "--wait")
	wantResult(t, got, 0, "Hello, world", "queued", "running on gw-1", "Hello, world", "succeeded")
	if resumed.Load() != "7" {
		t.Errorf("resumed after event %v, want 7", resumed.Load())
	}
	if strings.Count(got.err, "Hel") != 1 || strings.Count(got.err, "running on") != 1 {
		t.Errorf("text or states were shown twice: %q", got.err)
	}
}

func TestWaitResets(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	id := longID + "1"
	f.runs(id, func(w http.ResponseWriter, _ *http.Request) {
		event(w, 0, "delta", api.RunDelta{RunId: id + ".1", Text: "first try"})
		event(w, 0, "delta", api.RunDelta{RunId: id + ".1", Reset: true, Text: "second"})
		event(w, 0, "delta", api.RunDelta{RunId: id + ".2", Text: "third"})
		event(w, 0, "gap", struct{}{})
		event(w, 0, "final", succeeded(id, "third"))
	})
	got := f.dash(t.Context(), "", "task", "logs", id)
	wantResult(t, got, 0, "third", "first try\nsecond\nthird\n", "no longer kept")
}

func TestWaitFails(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	id := longID + "1"
	task := fakeTask(id, api.TaskStateDeadLetter)
	task.Error = &api.TaskError{Code: "provider_unavailable", Message: "it is\x1b[31m down"}
	f.runs(id, func(w http.ResponseWriter, _ *http.Request) { event(w, 0, "final", api.RunFinal{Task: task}) })
	got := f.dash(t.Context(), "", "task", "logs", id)
	wantResult(t, got, exitFailed, "", "dead_letter: provider_unavailable", "dash task replay "+id)
	if strings.Contains(got.err, "\x1b") {
		t.Errorf("an escape sequence of a gateway reached the terminal: %q", got.err)
	}
	wantResult(t, f.dash(t.Context(), "", "task", "logs", longID+"2"), exitNotFound, "")
}

func TestWaitGivesUp(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	id := longID + "1"
	f.runs(id, func(http.ResponseWriter, *http.Request) { /* ends at once */ })
	c, err := newClient(&terminal{err: io.Discard, patience: 20 * time.Millisecond, environ: []string{"DASH_URL=" + f.URL, "DASH_API_KEY=k"}})
	if err != nil {
		t.Fatal(err)
	}
	c.pause = time.Microsecond
	calls := 0
	err = c.stream(t.Context(), id, func(api.EventMessage) error { calls++; return nil })
	if exitCode(err) != exitUnavailable || calls != 0 {
		t.Errorf("error %v after %d events, want one that says unavailable", err, calls)
	}
}

func TestInterruptDetaches(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	id := longID + "1"
	ctx, cancel := context.WithCancel(t.Context())
	f.answer("POST /api/v1/tasks", 202, fakeTask(id, api.TaskStateQueued))
	f.runs(id, func(w http.ResponseWriter, r *http.Request) {
		event(w, 0, "snapshot", api.RunSnapshot{Task: fakeTask(id, api.TaskStateQueued)})
		cancel()
		<-r.Context().Done()
	})
	wantResult(t, f.dash(ctx, "", "task", "submit", "--message", "x", "--wait"), exitInterrupted, "",
		"detached; the task continues", "dash task logs "+id, "dash task cancel "+id)
	for _, r := range f.requests() {
		if strings.Contains(r, "/cancel") {
			t.Errorf("an interrupt cancelled the task: %s", r)
		}
	}
}

// A node that is away for a while ends no wait; one that stays away does, with
// the task's id, the truth, and how to attach again.
func TestWaitOutlivesAnOutage(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.patience = 150 * time.Millisecond
	id := longID + "1"
	task := fakeTask(id, api.TaskStateSucceeded)
	text := "bytes\x01 as they are\n\n"
	task.Result = &api.TaskResult{Text: text}
	var n atomic.Int32
	f.mux.HandleFunc("GET /api/v1/tasks/"+id+"/events", func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) <= 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			_ = json.NewEncoder(w).Encode(problem(503, "unavailable", "the store is away", "wait"))
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		event(w, 0, "final", api.RunFinal{Task: task})
	})
	got := f.dash(t.Context(), "", "task", "logs", id)
	wantResult(t, got, 0, text, "no node answers at the moment; task "+id+" continues")
	if got.out != text {
		t.Errorf("a file got %q, want the bytes %q", got.out, text)
	}
	n.Store(-1000)
	wantResult(t, f.dash(t.Context(), "", "task", "logs", id), exitUnavailable, "", "task "+id+" continues", "`dash task logs "+id+"` attaches again")
}

// beat gives the wait n of its seconds; one that has ended takes no more.
func (f *fake) beat(r *http.Request, n int) {
	for range n {
		select {
		case f.beats <- time.Time{}:
		case <-r.Context().Done():
			return
		}
	}
}

// looks counts how often it was asked what keeps the task.
func (f *fake) looks(id string) (n int) {
	for _, r := range f.requests() {
		if r == "GET /api/v1/tasks/"+id {
			n++
		}
	}
	return n
}

// firstLook gives the wait its seconds until it has looked once. The wait takes
// the next one only after that.
func (f *fake) firstLook(r *http.Request, id string) {
	for f.looks(id) == 0 && r.Context().Err() == nil {
		f.beat(r, 1)
	}
}

// Events tell no reasons; the wait asks for them.
func TestWaitSaysWhyTheTaskWaits(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	id := longID + "1"
	why := "no gateway of pool default takes work"
	queued := fakeTask(id, api.TaskStateQueued)
	queued.WaitingReason = &why
	code := api.TaskWaitingCodeNoGateway
	queued.WaitingCode = &code
	f.answer("GET /api/v1/tasks/"+id, 200, queued)
	f.runs(id, func(w http.ResponseWriter, r *http.Request) {
		event(w, 0, "snapshot", api.RunSnapshot{Task: queued})
		f.firstLook(r, id)
		f.beat(r, 1)
		event(w, 0, "final", api.RunFinal{Task: fakeTask(id, api.TaskStateSucceeded)})
	})
	wantResult(t, f.dash(t.Context(), "", "task", "logs", id), 0, "", "waits: "+why)
	wantResult(t, f.dash(t.Context(), "", "task", "show", id), 0, why)

	// The list says it by itself: nothing is asked per row.
	f = newFake(t)
	f.answer("GET /api/v1/tasks", 200, page[api.Task]{Items: []api.Task{queued}})
	wantResult(t, f.dash(t.Context(), "", "task", "list", "-o", "wide"), 0, why)
	wantResult(t, f.dash(t.Context(), "", "task", "list", "--columns", "id,waits-for"), 0, why)
	wantResult(t, f.dash(t.Context(), "", "task", "list", "-o", "json"), 0, `"waiting_code": "no_gateway"`)
	got := f.dash(t.Context(), "", "task", "list")
	wantResult(t, got, 0, "no_gateway")
	if strings.Contains(got.out, why) {
		t.Errorf("a table has no room for %q", got.out)
	}
	if r := f.requests(); len(r) != 4 {
		t.Errorf("requests %v", r)
	}
}

// A run may be kept, too: by its sub-agents, by its provider, by a gateway that
// is out of reach.
func TestWaitSaysWhatKeepsARun(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	id := longID + "1"
	running := fakeTask(id, api.TaskStateRunning)
	kept := running
	why := "it has answered, and one of its sub-agents is at work"
	kept.WaitingReason = &why
	f.answer("GET /api/v1/tasks/"+id, 200, kept)
	f.runs(id, func(w http.ResponseWriter, r *http.Request) {
		event(w, 0, "snapshot", api.RunSnapshot{Task: running})
		f.firstLook(r, id)
		f.beat(r, 1)
		event(w, 0, "final", api.RunFinal{Task: fakeTask(id, api.TaskStateSucceeded)})
	})
	wantResult(t, f.dash(t.Context(), "", "task", "logs", id), 0, "", "waits: "+why)
	if n := len(f.requests()); n != 2 {
		t.Errorf("%d requests, want the stream and one look: %v", n, f.requests())
	}
}

// A wait asks for reasons less and less often: several of them must leave
// something of a key's 100 requests a minute.
func TestWaitsLeaveTheKeyItsRate(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	id := longID + "1"
	queued := fakeTask(id, api.TaskStateQueued)
	f.answer("GET /api/v1/tasks/"+id, 200, queued)
	f.runs(id, func(w http.ResponseWriter, r *http.Request) {
		event(w, 0, "snapshot", api.RunSnapshot{Task: queued})
		f.firstLook(r, id) // looks are due after 1, 3 and 7 seconds; one may have gone by with the first
		f.beat(r, 4)
		event(w, 0, "final", api.RunFinal{Task: fakeTask(id, api.TaskStateSucceeded)})
	})
	wantResult(t, f.dash(t.Context(), "", "task", "logs", id), 0, "")
	if n := f.looks(id); n != 2 {
		t.Errorf("%d looks at a reason that does not change in 5 or 6 s, want 2", n)
	}
}
