package events_test

import (
	"bufio"
	"context"
	"encoding/json"
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

	"go.uber.org/goleak"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/http/events"
	"github.com/dash-fleet/dash/http/server/servertest"
	"github.com/dash-fleet/dash/messages"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gate accepts the token "good" until it is shut, or cannot confirm it.
type gate struct {
	shut, cut atomic.Bool
	changed   auth.Signal
}

func (g *gate) Changed() <-chan struct{} { return g.changed.Next() }

// revoke shuts the gate and says so.
func (g *gate) revoke() {
	g.shut.Store(true)
	g.changed.Ring()
}

func (g *gate) Authenticate(_ context.Context, token string) (*auth.Principal, error) {
	switch {
	case token == "t1":
		return &auth.Principal{Tenant: "t1", Permissions: []auth.Permission{auth.EventsRead}}, nil
	case token == "weak":
		return &auth.Principal{Permissions: []auth.Permission{auth.TasksRead}}, nil
	case token != "good" || g.shut.Load():
		return nil, &messages.Error{Code: messages.CodeUnauthorized}
	}
	p := &auth.Principal{Permissions: []auth.Permission{auth.Admin}}
	if g.cut.Load() {
		p.Stale = time.Now()
	}
	return p, nil
}

// rig serves streams over a fake log.
type rig struct {
	*servertest.Fake
	t    *testing.T
	gate *gate
	url  string
	http *http.Client
}

func setup(t *testing.T, cfg events.Config) *rig {
	t.Helper()
	return setupLog(t, cfg, func(l events.Log) events.Log { return l })
}

func setupLog(t *testing.T, cfg events.Config, wrap func(events.Log) events.Log) *rig {
	t.Helper()
	r := &rig{Fake: servertest.New(), t: t, gate: &gate{}, http: &http.Client{Transport: &http.Transport{}}}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = time.Minute
	}
	cmd := r.Commands()
	s, err := events.NewServer(cfg, wrap(cmd.Events), cmd.Runs, r.gate, slog.New(slog.NewTextHandler(io.Discard, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	viewer := func(req *http.Request) events.Viewer {
		v := events.Viewer{Need: auth.EventsRead}
		if token, _ := auth.Token(req.Header); token != "" {
			v.Token = token
			v.Principal, _ = r.gate.Authenticate(req.Context(), token)
		}
		return v
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/log", func(w http.ResponseWriter, req *http.Request) {
		var topics []string
		if v := req.URL.Query().Get("topics"); v != "" {
			topics = strings.Split(v, ",")
		}
		if err := s.ServeLog(req.Context(), w, viewer(req), events.ParseTopics(topics), since(req)); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/run/{id}", func(w http.ResponseWriter, req *http.Request) {
		load := func(ctx context.Context) (events.RunState, error) {
			v, err := cmd.Tasks.Task(ctx, "", req.PathValue("id"), true)
			if err != nil {
				return events.RunState{}, err
			}
			return events.RunState{Task: api.Task{Id: v.ID, State: api.TaskState(v.State.String())}, Claim: v.Claim, Terminal: v.State.Terminal()}, nil
		}
		if err := s.ServeRun(req.Context(), w, viewer(req), req.PathValue("id"), load, since(req)); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
		}
	})
	var sockets sync.WaitGroup // the test server does not wait for them
	mux.HandleFunc("/ws", func(w http.ResponseWriter, req *http.Request) {
		sockets.Add(1)
		defer sockets.Done()
		s.ServeSocket(req.Context(), w, req, viewer(req), events.ParseTopics(nil), since(req))
	})
	h := httptest.NewServer(mux)
	r.url = h.URL
	t.Cleanup(func() {
		r.http.CloseIdleConnections()
		h.CloseClientConnections()
		h.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
		sockets.Wait()
	})
	return r
}

func since(r *http.Request) *int64 {
	var n int64
	if _, err := fmt.Sscan(r.URL.Query().Get("since"), &n); err != nil {
		return nil
	}
	return &n
}

// publish adds n events of a task of a tenant.
func (r *rig) publish(n int, task, tenant string) {
	for range n {
		r.Publish(&messages.Event{TimeMicros: 1, Tenant: tenant, Type: "task.state", Subject: task, Data: &messages.Event_Task{
			Task: &messages.TaskChanged{Pool: "default", Class: "high", State: "queued"},
		}})
	}
}

// stream opens a stream of server-sent events.
func (r *rig) stream(path string) (next func() api.EventMessage, stop func()) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer good")
	resp, err := r.http.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		r.t.Fatalf("%s: %d", path, resp.StatusCode)
	}
	lines := bufio.NewScanner(resp.Body)
	next = func() (m api.EventMessage) {
		r.t.Helper()
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if !ok {
				continue
			}
			if err := json.Unmarshal([]byte(data), &m); err != nil {
				r.t.Fatal(err)
			}
			return m
		}
		return api.EventMessage{Type: "end"}
	}
	return next, func() { cancel(); resp.Body.Close() }
}

func TestLogHasNoHoleAndNoDouble(t *testing.T) {
	t.Parallel()
	r := setup(t, events.Config{})
	r.publish(1200, "a", "default")
	next, stop := r.stream("/log?since=10")
	defer stop()
	go r.publish(800, "a", "default")
	for want := int64(11); want <= 2000; want++ {
		if m := next(); m.Seq == nil || *m.Seq != want {
			t.Fatalf("got %+v, want seq %d", m, want)
		}
	}
}

func TestLogTellsOfAGap(t *testing.T) {
	t.Parallel()
	r := setup(t, events.Config{})
	r.publish(20, "a", "default")
	r.Trim(15)
	next, stop := r.stream("/log?since=3")
	defer stop()
	if m := next(); m.Type != "gap" || *m.From != 4 || *m.To != 15 {
		t.Fatalf("%+v", m)
	}
	if m := next(); *m.Seq != 16 {
		t.Fatalf("%+v", m)
	}
}

// A position behind the end was given by another log, perhaps one that was
// restored since: a watcher that kept it would hear nothing for a long time.
func TestLogTellsOfAPositionThatItNeverGave(t *testing.T) {
	t.Parallel()
	r := setup(t, events.Config{SubscribeIn: time.Millisecond})
	r.publish(3, "a", "default")
	next, stop := r.stream("/log?since=500")
	defer stop()
	if m := next(); m.Type != "gap" || *m.From != 4 || *m.To != 500 {
		t.Fatalf("%+v", m)
	}
	_, read, send := r.dial("good")
	read()
	send(`{"type":"subscribe","since":500}`)
	read()
	if m := read(); m.Type != "gap" || *m.From != 4 || *m.To != 500 {
		t.Fatalf("%+v", m)
	}
	r.publish(1, "a", "default")
	if m := next(); m.Seq == nil || *m.Seq != 4 {
		t.Fatalf("server-sent: %+v", m)
	}
	if m := read(); m.Seq == nil || *m.Seq != 4 {
		t.Fatalf("WebSocket: %+v", m)
	}
}

func TestLogFiltersTopics(t *testing.T) {
	t.Parallel()
	r := setup(t, events.Config{})
	next, stop := r.stream("/log?since=0&topics=task.b.*,gateway.*")
	defer stop()
	r.publish(3, "a", "default")
	r.publish(1, "b", "default")
	if m := next(); *m.Seq != 4 {
		t.Fatalf("%+v", m)
	}
}

func TestSlowWatcherOfTheLogIsCut(t *testing.T) {
	t.Parallel()
	r := setup(t, events.Config{})
	next, stop := r.stream("/log?since=0")
	defer stop()
	r.publish(1, "a", "default")
	next()
	r.waitWatchers(2) // the stream and the router
	r.Cut()
	if m := next(); m.Type != "end" {
		t.Fatalf("%+v", m)
	}
}

// waitWatchers waits until so many watch live.
func (r *rig) waitWatchers(n int) {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); r.Watchers() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%d watchers, want %d", r.Watchers(), n)
		}
	}
}

func TestLogStreamEndsWithItsCredential(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/log", "/run/t"} {
		r := setup(t, events.Config{})
		r.PutTask(task("t", messages.Queued))
		next, stop := r.stream(path)
		defer stop()
		if path == "/run/t" {
			next() // the snapshot
		}
		r.gate.revoke()
		if m := next(); m.Type != "end" {
			t.Fatalf("%s: %+v", path, m)
		}
	}
}

// endless is a log with a long past; a watcher may be behind for as long as it likes.
type endless struct{ events.Log }

func (l endless) Events(ctx context.Context, since int64, limit int) ([]*messages.Event, int64, error) {
	page := make([]*messages.Event, limit)
	for i := range page {
		page[i] = &messages.Event{Seq: since + 1 + int64(i), Type: "task.state", Subject: "t", Tenant: "default"}
	}
	return page, 1, ctx.Err()
}

func (endless) LastSeq(context.Context) (int64, error) { return 1 << 40, nil }

// TestAWatcherOfThePastEndsWithItsCredential: reading what happened long ago
// keeps no credential alive.
func TestAWatcherOfThePastEndsWithItsCredential(t *testing.T) {
	t.Parallel()
	r := setupLog(t, events.Config{}, func(l events.Log) events.Log { return endless{l} })
	next, stop := r.stream("/log?since=0")
	defer stop()
	next()
	r.gate.revoke()
	// What was sent before lies in buffers, and takes this reader its time.
	for deadline := time.Now().Add(20 * time.Second); next().Type != "end"; {
		if time.Now().After(deadline) {
			t.Fatal("it reads on although its credential ended")
		}
	}
}

// TestAStreamIsSilentWhileNobodyConfirms: what happens while a node cannot tell
// whether a credential holds is delivered when it can, and not at all if it ended.
func TestAStreamIsSilentWhileNobodyConfirms(t *testing.T) {
	t.Parallel()
	for _, revoked := range []bool{false, true} {
		r := setup(t, events.Config{})
		next, stop := r.stream("/log")
		defer stop()
		r.waitWatchers(2)
		r.gate.cut.Store(true)
		time.Sleep(150 * time.Millisecond) // longer than a look at the credential serves
		r.publish(1, "a", "default")
		got := make(chan api.EventMessage)
		go func() { got <- next() }()
		select {
		case m := <-got:
			t.Fatalf("%+v although nobody confirms the credential", m)
		case <-time.After(300 * time.Millisecond):
		}
		r.gate.cut.Store(false)
		if revoked {
			r.gate.revoke()
		} else {
			r.gate.changed.Ring()
		}
		if m := <-got; (m.Type == "end") != revoked {
			t.Errorf("revoked %v: %+v", revoked, m)
		}
	}
}

func task(id string, s messages.TaskState) messages.Task {
	return messages.Task{ID: id, Tenant: "default", Pool: "default", Class: messages.High, State: s, Claim: 1, CreatedAt: messages.Now(), Spec: &messages.TaskSpec{Message: "x"}}
}

func data[T any](t *testing.T, m api.EventMessage) (v T) {
	t.Helper()
	if m.Data == nil {
		t.Fatalf("no data: %+v", m)
	}
	if err := json.Unmarshal(*m.Data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestRunStream(t *testing.T) {
	t.Parallel()
	r := setup(t, events.Config{})
	r.PutTask(task("a", messages.Running))
	r.Text("a", 1, "hel")
	next, stop := r.stream("/run/a")
	defer stop()
	if s := data[api.RunSnapshot](t, next()); s.Task.Id != "a" || s.Text != "hel" {
		t.Fatalf("snapshot %+v", s)
	}
	r.Text("a", 1, "hello\xc3") // cut inside a character
	if d := data[api.RunDelta](t, next()); d.Text != "lo" || d.Offset != 3 || d.Reset || d.RunId != "a.1" {
		t.Fatalf("delta %+v", d)
	}
	r.Text("a", 1, "helloé")
	if d := data[api.RunDelta](t, next()); d.Text != "é" || d.Offset != 5 {
		t.Fatalf("delta %+v", d)
	}
	r.Text("a", 2, "again")
	if d := data[api.RunDelta](t, next()); d.Text != "again" || d.Offset != 0 || !d.Reset || d.RunId != "a.2" {
		t.Fatalf("delta of a new claim %+v", d)
	}
	r.publish(5, "b", "default")
	r.Change("a", messages.Succeeded, nil)
	if m := next(); m.Type != "task.state" || data[api.TaskChanged](t, m).State != "succeeded" || *m.Seq != 6 {
		t.Fatalf("%+v", m)
	}
	if m := next(); m.Type != "final" || data[api.RunFinal](t, m).Task.State != "succeeded" {
		t.Fatalf("%+v", m)
	}
	if m := next(); m.Type != "end" {
		t.Fatalf("%+v", m)
	}
}

func TestRunStreamResumes(t *testing.T) {
	t.Parallel()
	r := setup(t, events.Config{})
	r.PutTask(task("a", messages.Queued))
	r.publish(3, "b", "default")
	r.Change("a", messages.Claimed, nil) // 4
	r.Change("a", messages.Running, nil) // 5
	next, stop := r.stream("/run/a?since=4")
	defer stop()
	if m := next(); m.Seq == nil || *m.Seq != 5 {
		t.Fatalf("%+v", m)
	}
	if m := next(); m.Type != "snapshot" {
		t.Fatalf("%+v", m)
	}
	// Live events that were missed come from the log.
	r.waitWatchers(1)
	r.Cut()
	r.Change("a", messages.RetryWait, nil) // 6
	if m := next(); m.Seq == nil || *m.Seq != 6 {
		t.Fatalf("%+v", m)
	}
	r.Change("a", messages.DeadLetter, nil) // 7
	if m := next(); m.Seq == nil || *m.Seq != 7 {
		t.Fatalf("%+v", m)
	}
	if m := next(); m.Type != "final" {
		t.Fatalf("%+v", m)
	}
}

// TestRunStreamTellsOnlyOfAGapInItsTask: history that is gone is told, unless the
// task began after it.
func TestRunStreamTellsOnlyOfAGapInItsTask(t *testing.T) {
	t.Parallel()
	r := setup(t, events.Config{})
	publish := func(task, from string) {
		r.Publish(&messages.Event{TimeMicros: 1, Tenant: "default", Type: "task.state", Subject: task, Data: &messages.Event_Task{
			Task: &messages.TaskChanged{Pool: "default", Class: "high", State: "queued", From: from},
		}})
	}
	r.PutTask(task("old", messages.Queued))
	for range 5 {
		publish("old", "retry_wait")
	}
	r.Trim(3)
	r.PutTask(task("new", messages.Queued))
	publish("new", "")           // 6
	publish("old", "retry_wait") // 7
	next, stop := r.stream("/run/new?since=0")
	defer stop()
	if m := next(); m.Seq == nil || *m.Seq != 6 {
		t.Fatalf("a task that is whole in the log: %+v", m)
	}
	stop()
	next, stop = r.stream("/run/old?since=1")
	defer stop()
	if m := next(); m.Type != "gap" || *m.From != 2 || *m.To != 3 {
		t.Fatalf("%+v", m)
	}
	for _, want := range []int64{4, 5, 7} {
		if m := next(); m.Seq == nil || *m.Seq != want {
			t.Fatalf("want %d: %+v", want, m)
		}
	}
	stop()
	const many = 5_010 // 10 more than are told of one task's past
	r.PutTask(task("busy", messages.Queued))
	for range many {
		publish("busy", "retry_wait") // 8 to 5,017
	}
	next, stop = r.stream("/run/busy?since=7")
	defer stop()
	if m := next(); m.Type != "gap" || *m.From != 8 || *m.To != 17 {
		t.Fatalf("a past that is too long: %+v", m)
	}
	for want := int64(18); want <= many+7; want++ {
		if m := next(); m.Seq == nil || *m.Seq != want {
			t.Fatalf("want %d: %+v", want, m)
		}
	}
}

func TestRunStreamOfNoTask(t *testing.T) {
	t.Parallel()
	r := setup(t, events.Config{})
	resp, err := r.http.Get(r.url + "/run/none")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("%d", resp.StatusCode)
	}
}

func TestTopics(t *testing.T) {
	t.Parallel()
	e := &messages.Event{Type: "task.state", Subject: "a.b"}
	for pattern, want := range map[string]bool{
		"*": true, "task.*": true, "gateway.*": false, "task.a.b.*": true, "task.a.*": false, "task.*.state": true, "task.a.b.state": true, "task.*.other": false,
	} {
		if !events.ValidTopic(pattern) {
			t.Errorf("%s is not valid", pattern)
		}
		if got := events.ParseTopics([]string{pattern}).Match(e); got != want {
			t.Errorf("%s: %v", pattern, got)
		}
	}
	for _, bad := range []string{"", "task", "task.", "task.state", "pool.*", "**", "task.a b.*", "task.a.STATE", "*.*"} {
		if events.ValidTopic(bad) {
			t.Errorf("%q is valid", bad)
		}
	}
	if !events.ParseTopics(nil).Match(e) {
		t.Error("no topics do not mean everything")
	}
}
