package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dash-fleet/dash/http/api"
)

// fake is a scripted API for answers that a healthy node cannot be made to
// give; the scripts under testdata run against a real one.
type fake struct {
	*httptest.Server
	mux *http.ServeMux

	patience time.Duration // of the client; 0: the usual
	beats    chan time.Time

	mu   sync.Mutex
	seen []string // "METHOD path?query body"
}

func newFake(t testing.TB) *fake {
	t.Helper()
	f := &fake{mux: http.NewServeMux(), beats: make(chan time.Time)}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read a request: %v", err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		f.mu.Lock()
		f.seen = append(f.seen, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
		f.mu.Unlock()
		f.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

// answer makes a route answer with one JSON value.
func (f *fake) answer(pattern string, status int, v any, headers ...string) {
	f.mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		if v != nil {
			_ = json.NewEncoder(w).Encode(v)
		}
	})
}

func (f *fake) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.seen...)
}

func problem(status int, code, detail, next string) api.Problem {
	return api.Problem{Status: status, Code: code, Detail: detail, NextStep: &next, RequestId: "req-1", Title: code, Type: "/x"}
}

func fakeTask(id string, state api.TaskState) api.Task {
	return api.Task{
		Id: id, State: state, Priority: api.PriorityHigh, Tenant: "default", Pool: "default", MaxAttempts: 3, Attempt: 1,
		Input: api.TaskInput{Message: "Say hello."}, CreatedAt: time.Now().Add(-90 * time.Second), OnUnknown: api.OnUnknownRequeue,
	}
}

type result struct {
	code     int
	out, err string
}

// dash runs one command line against the fake.
func (f *fake) dash(ctx context.Context, stdin string, args ...string) result {
	var out, errs bytes.Buffer
	t := &terminal{patience: f.patience, beats: f.beats, in: strings.NewReader(stdin), out: &out, err: &errs, environ: []string{"DASH_URL=" + f.URL, "DASH_API_KEY=dash_k_0123456789abcdef"}}
	code := run(ctx, args, t)
	return result{code, out.String(), errs.String()}
}

func wantResult(t *testing.T, got result, code int, out string, errs ...string) {
	t.Helper()
	if got.code != code || !strings.Contains(got.out, out) || (out == "" && got.out != "") {
		t.Errorf("exit code %d, want %d; stdout %q, want %q; stderr %q", got.code, code, got.out, out, got.err)
	}
	for _, e := range errs {
		if !strings.Contains(got.err, e) {
			t.Errorf("stderr lacks %q: %q", e, got.err)
		}
	}
}

const longID = "01990000-0000-7000-8000-00000000000"

// event writes one server-sent event.
func event(w http.ResponseWriter, seq int64, kind string, data any) {
	raw, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	rm := json.RawMessage(raw)
	m := api.EventMessage{Type: kind, Data: &rm}
	if seq > 0 {
		m.Seq = &seq
		fmt.Fprintf(w, "id: %d\n", seq)
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(w, "event: %s\ndata: %s\n\n", kind, text)
	w.(http.Flusher).Flush()
}
