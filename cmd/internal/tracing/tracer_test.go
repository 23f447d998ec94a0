package tracing

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/dash-fleet/dash/messages"
)

// receiver is a collector that keeps what it gets.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	spans map[string]string // by name and id: parent, links, state, error, seconds
	trace map[string]bool
}

func receive(t *testing.T) *receiver {
	r := &receiver{spans: map[string]string{}, trace: map[string]bool{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var got collector.ExportTraceServiceRequest
		raw, err := io.ReadAll(req.Body)
		if err != nil || proto.Unmarshal(raw, &got) != nil || req.URL.Path != "/v1/traces" {
			t.Errorf("%s %d bytes: %v", req.URL.Path, len(raw), err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, rs := range got.GetResourceSpans() {
			for _, ss := range rs.GetScopeSpans() {
				for _, s := range ss.GetSpans() {
					line := fmt.Sprintf("parent %x %s %.0f s", s.GetParentSpanId(), s.GetStatus().GetMessage(), float64(s.GetEndTimeUnixNano()-s.GetStartTimeUnixNano())/1e9)
					for _, l := range s.GetLinks() {
						line += fmt.Sprintf(" link %x-%x", l.GetTraceId(), l.GetSpanId())
					}
					for _, e := range s.GetEvents() {
						line += fmt.Sprintf(" %s after %.0f s", e.GetName(), float64(e.GetTimeUnixNano()-s.GetStartTimeUnixNano())/1e9)
					}
					name := s.GetName()
					if name != "submit" { // whose id is random
						name += fmt.Sprintf(" %x", s.GetSpanId())
					}
					r.spans[name], r.trace[fmt.Sprintf("%x", s.GetTraceId())] = line, true
				}
			}
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func begin(t *testing.T, endpoint string, log io.Writer) *Tracer {
	t.Helper()
	tr, err := Start(t.Context(), Config{Endpoint: endpoint, Node: "n", Version: "test", Logger: slog.New(slog.NewTextHandler(log, nil)), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Stop(context.Background()) })
	return tr
}

// TestSpans: a task that fails once and then succeeds, and one that this node
// knows from its end alone.
func TestSpans(t *testing.T) {
	t.Parallel()
	r := receive(t)
	tr := begin(t, r.URL+"/v1/traces", io.Discard)
	id := uuid.MustParse("0199aaaa-bbbb-7ccc-8ddd-eeeeffff0001")
	began := time.Unix(id.Time().UnixTime())
	task := &messages.Task{ID: id.String(), Tenant: "t", Pool: "p"}
	steps := []struct {
		at, claim int
		from, to  messages.TaskState
		code      string
	}{
		{0, 0, 0, messages.Queued, ""},
		{1, 1, messages.Queued, messages.Claimed, ""},
		{2, 1, messages.Claimed, messages.Running, ""},
		{5, 1, messages.Running, messages.RetryWait, "provider_unavailable"},
		{6, 1, messages.RetryWait, messages.Queued, ""},
		{7, 2, messages.Queued, messages.Claimed, ""},
		{8, 2, messages.Claimed, messages.Running, ""},
		{8, 2, messages.Running, messages.Running, ""},
		{10, 2, messages.Running, messages.Succeeded, ""},
	}
	for _, s := range steps {
		task.State, task.Claim, task.Error = s.to, int64(s.claim), nil
		if s.code != "" {
			task.Error = &messages.TaskError{Code: s.code}
		}
		tr.Note([]*messages.Event{task.Event(s.from, began.Add(time.Duration(s.at)*time.Second), "")})
	}
	tr.Submitted(task.ID, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", time.Now())
	other := &messages.Task{ID: "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0002", State: messages.DeadLetter, Claim: 7, Error: &messages.TaskError{Code: "gateway_crashed"}}
	tr.Note([]*messages.Event{other.Event(messages.Recovering, began.Add(3*time.Second), "")})
	if err := tr.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"task 8dddeeeeffff0001":    "parent   10 s",
		"attempt 0000000000000001": "parent 8dddeeeeffff0001 provider_unavailable 4 s started after 1 s",
		"attempt 0000000000000002": "parent 8dddeeeeffff0001  3 s started after 1 s",
		"submit":                   "parent 8dddeeeeffff0001  0 s link 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
		"attempt 0000000000000007": "parent 8dddeeeeffff0002 gateway_crashed 0 s",
		"task 8dddeeeeffff0002":    "parent  gateway_crashed 3 s",
	}
	if diff := cmp.Diff(want, r.spans); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	if !r.trace["0199aaaabbbb7ccc8dddeeeeffff0001"] || len(r.trace) != 2 {
		t.Errorf("traces %v, want the tasks' ids", r.trace)
	}
}

// TestACollectorThatIsAway is said once, nothing waits, and what is lost is counted.
func TestACollectorThatIsAway(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	t.Cleanup(func() { close(hang); s.Close() })
	var log strings.Builder
	tr := begin(t, s.URL+"/v1/traces", &log)
	const n = 3 * (maxQueued + maxSpans)
	for range n {
		tr.Submitted(uuid.NewString(), "", time.Now()) // would hang here
	}
	if err := tr.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := testutil.ToFloat64(tr.dropped); got != n {
		t.Errorf("%.0f counted, want %d", got, n)
	}
	if got := strings.Count(log.String(), "traces are lost"); got != 1 {
		t.Errorf("said %d times:\n%s", got, log.String())
	}
}

// TestEventsThatWaitAreBounded, and not the batches that they come in.
func TestEventsThatWaitAreBounded(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	t.Cleanup(func() { close(hang); s.Close() })
	tr := begin(t, s.URL+"/v1/traces", io.Discard)
	end := (&messages.Task{ID: uuid.NewString(), State: messages.Succeeded}).Event(messages.Queued, time.Now(), "")
	batch := make([]*messages.Event, 128)
	for i := range batch {
		batch[i] = end
	}
	const n = 4 * maxQueued
	for range n / len(batch) {
		tr.Note(batch)
	}
	if got := testutil.ToFloat64(tr.dropped); got < n-maxQueued-2*maxSpans {
		t.Errorf("%.0f of %d events were dropped: the others wait in memory", got, n)
	}
	if err := tr.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := testutil.ToFloat64(tr.dropped); got != n {
		t.Errorf("%.0f counted in the end, want %d", got, n)
	}
}

// TestAttemptsWithoutAnEndAreForgotten, so that those of today are remembered.
func TestAttemptsWithoutAnEndAreForgotten(t *testing.T) {
	t.Parallel()
	dropped := prometheus.NewCounter(prometheus.CounterOpts{})
	s := newSpans(nil, dropped)
	for i := range maxOpen + 3 {
		s.begin(fmt.Sprint(i), begun{claim: uint64(i)})
	}
	last := fmt.Sprint(maxOpen + 2)
	if b, known := s.open[last]; !known || b.claim != maxOpen+2 || len(s.open) > maxOpen || testutil.ToFloat64(dropped) != 3 {
		t.Errorf("%d are remembered, the last one: %v, %.0f forgotten", len(s.open), known, testutil.ToFloat64(dropped))
	}
}

// TestACollectorIsNotFollowed: spans and the collector's credential go to the
// endpoint alone, and what it says instead of taking them does not fill the log.
func TestACollectorIsNotFollowed(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer collectors")
	var elsewhere atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Store(true) }))
	t.Cleanup(other.Close)
	for name, answer := range map[string]http.HandlerFunc{
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		},
		"a long answer": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, strings.Repeat("no ", 1<<20), http.StatusBadRequest)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(answer)
			t.Cleanup(s.Close)
			var log strings.Builder
			tr := begin(t, s.URL+"/v1/traces", &log)
			tr.Submitted(uuid.NewString(), "", time.Now())
			if err := tr.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if elsewhere.Load() {
				t.Error("a server that nobody named got spans")
			}
			if got := testutil.ToFloat64(tr.dropped); got != 1 {
				t.Errorf("%.0f counted, want 1", got)
			}
			if n := log.Len(); n == 0 || n > 1000 {
				t.Errorf("the log has %d bytes: %.300s", n, log.String())
			}
		})
	}
}

// TestNoTracer: a node without a collector has none.
func TestNoTracer(t *testing.T) {
	t.Parallel()
	var tr *Tracer
	tr.Note([]*messages.Event{{}})
	tr.Submitted("x", "", time.Now())
	if err := tr.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
