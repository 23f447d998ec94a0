package server_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/http/server/servertest"
	"github.com/dash-fleet/dash/messages"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// loopback is where the tests come from.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// The tokens that the tests use.
const (
	admin  = "admin-token"
	reader = "reader-token" // tasks:read
	tenant = "tenant-token" // everything, of the tenant t1
	busy   = "busy-token"   // cannot be checked now
	twice  = "twice-token"  // everything, 2 requests a minute
	twin   = "twin-token"   // like tenant, 3 requests a minute
	paced  = "paced-token"  // events:read, 60 requests a minute
	keeper = "keeper-token" // gateways:write
)

type tokens struct {
	mu    sync.Mutex
	by    map[string]*auth.Principal
	ended sync.Map    // of those that were revoked
	cut   atomic.Bool // nothing confirms them
	// unconfirmed gets a value for each look at a token that nothing confirms;
	// nil: nobody counts.
	unconfirmed chan struct{}
	changed     auth.Signal
}

func (t *tokens) Changed() <-chan struct{} { return t.changed.Next() }

// add makes a token.
func (t *tokens) add(token string, p auth.Principal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.by[token] = &p
}

// revoke ends a token and says so.
func (t *tokens) revoke(token string) {
	t.ended.Store(token, true)
	t.changed.Ring()
}

func (t *tokens) Authenticate(_ context.Context, token string) (*auth.Principal, error) {
	if token == busy {
		return nil, &messages.Error{Code: messages.CodeUnavailable, Message: "busy", RetryAfter: time.Second}
	}
	t.mu.Lock()
	p, ok := t.by[token]
	t.mu.Unlock()
	if _, over := t.ended.Load(token); !ok || over {
		return nil, &messages.Error{Code: messages.CodeUnauthorized, Message: "wrong key"}
	}
	if t.cut.Load() {
		stale := *p
		stale.Stale = time.Now().Add(-3 * time.Second)
		if t.unconfirmed != nil {
			t.unconfirmed <- struct{}{}
		}
		return &stale, nil
	}
	return p, nil
}

// node is a running server over a fake.
type node struct {
	*servertest.Fake
	t     testing.TB
	srv   *server.Server
	base  string
	http  *http.Client
	plain *http.Transport // without checks of the answers
	logs  *logBuffer

	logger *slog.Logger
	auth   *tokens
}

// logBuffer keeps the log; the server writes to it while a test reads.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func start(t testing.TB, cfg server.Config) *node {
	t.Helper()
	n := &node{Fake: servertest.New(), t: t, logs: &logBuffer{}}
	seed(n.Fake)
	registry := prometheus.NewRegistry()
	cfg.Listen, cfg.Version = "127.0.0.1:0", "test"
	if cfg.EventHeartbeat == 0 {
		cfg.EventHeartbeat = time.Minute
	}
	n.logger = slog.New(slog.NewTextHandler(n.logs, nil))
	n.auth = &tokens{by: map[string]*auth.Principal{
		admin:  {ID: "key:admin", Permissions: []auth.Permission{auth.Admin}},
		keeper: {ID: "key:keeper", Permissions: []auth.Permission{auth.GatewaysWrite}},
		reader: {ID: "key:reader", Permissions: []auth.Permission{auth.TasksRead}},
		tenant: {ID: "key:tenant", Tenant: "t1", Permissions: []auth.Permission{auth.Admin}},
		twice:  {ID: "key:twice", Permissions: []auth.Permission{auth.Admin}, RateLimit: 2},
		twin:   {ID: "key:twin", Tenant: "t1", Permissions: []auth.Permission{auth.Admin}, RateLimit: 3},
		paced:  {ID: "key:paced", Permissions: []auth.Permission{auth.EventsRead}, RateLimit: 60},
	}}
	srv, err := server.New(cfg, server.Deps{
		Commands: n.Commands(), Auth: n.auth, Logger: n.logger, Registerer: registry, Gatherer: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	base := &http.Transport{MaxIdleConnsPerHost: 100, DisableCompression: true}
	n.srv, n.plain, n.base = srv, base, "http://"+srv.Addr().String()
	n.http = &http.Client{Transport: &conforming{t: t, next: base}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(func() {
		base.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := srv.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return n
}

// The ids of the document's examples.
const (
	openTask = "01990000-0000-7000-8000-000000000001"
	deadTask = "01990000-0000-7000-8000-000000000002"
	heldTask = "01990000-0000-7000-8000-000000000003"
	doneTask = "01990000-0000-7000-8000-000000000004"
)

func seed(f *servertest.Fake) {
	at := time.Date(2026, 11, 21, 9, 0, 0, 123456000, time.UTC)
	task := func(id string, s messages.TaskState) messages.Task {
		return messages.Task{
			ID: id, Tenant: "default", Pool: "default", Class: messages.High, Seq: 1, State: s, CreatedAt: at,
			Spec: &messages.TaskSpec{Message: "Say <hello>.", TimeoutSeconds: 600, MaxAttempts: 3, OnUnknown: "requeue"},
		}
	}
	f.PutTask(task(openTask, messages.Queued))
	dead := task(deadTask, messages.DeadLetter)
	dead.Error = &messages.TaskError{Code: "provider_unavailable", Message: "503", Retryable: true}
	dead.Claim, dead.Attempt, dead.Gateway, dead.FinishedAt = 3, 3, "gw-1", at
	f.PutTask(dead)
	f.PutTask(task(heldTask, messages.Held))
	done := task(doneTask, messages.Succeeded)
	done.Session, done.Claim, done.Attempt, done.Gateway = "s-1", 1, 1, "gw-1"
	done.Result, done.StartedAt, done.FinishedAt = &messages.TaskResult{Text: "hello", InputTokens: 3, OutputTokens: 1}, at, at
	f.PutTask(done)
	for _, id := range []string{"gw-1", "gw-2"} {
		f.PutGateway(server.Gateway{
			Config: messages.Gateway{ID: id, Tenant: "default", Pool: "default", URL: "ws://127.0.0.1:1", Token: "s3cret-token", MaxConcurrency: 4, Weight: 1, Version: 7, CreatedAt: at,
				Managed: &messages.Managed{Port: 1, Env: map[string]string{"OPENAI_API_KEY": "s3cret-env"}, Config: map[string]any{"k": "s3cret-config"}}},
			Status: messages.GatewayStatus{ID: id, State: messages.GatewayReady, Window: 4, Since: at},
		})
	}
	f.PutSession(messages.Session{Tenant: "default", ID: "s-1", Pool: "default", Gateway: "gw-1", State: messages.SessionParked, Reason: "failed 5 times", CreatedAt: at, UpdatedAt: at})
	f.PutKey(messages.Key{ID: "abcdefgh2345", Name: "nightly", Tenant: "default", Permissions: []string{"submit"}, RateLimit: 100, Active: true, CreatedAt: at, Version: 1})
	f.PutUser(messages.User{ID: "01990000-0000-7000-8000-0000000000a1", Email: "bob@example.com", Role: "user", Tenant: "default", CreatedAt: at, Version: 4})
	f.PutPool(messages.Pool{ID: "batch", Tenant: "default", Version: 3, CreatedAt: at, Reserved: map[messages.Class]int{messages.Critical: 1}})
}

// call makes a request and returns the answer with its body.
func (n *node) call(method, path, token, body string, header ...string) (*http.Response, string) {
	n.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(n.t.Context(), method, n.base+path, r)
	if err != nil {
		n.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := n.http.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return resp, string(b)
}

// conforming fails the test when an answer does not fit the document.
type conforming struct {
	t    testing.TB
	next http.RoundTripper
}

var testDoc = func() *openapi3.T {
	doc, err := openapi3.NewLoader().LoadFromData(api.Document)
	if err != nil {
		panic(err)
	}
	return doc
}()

// operationOf finds what the document says about a request.
func operationOf(method, path string) (*openapi3.Operation, *openapi3.PathItem, string) {
	path = strings.TrimPrefix(strings.TrimPrefix(path, "/api/v1"), "/api")
	for template, item := range testDoc.Paths.Map() {
		re := regexp.MustCompile("^" + regexp.MustCompile(`\\\{[a-z]+\\\}`).ReplaceAllString(regexp.QuoteMeta(template), "[^/]+") + "$")
		if op := item.GetOperation(method); op != nil && re.MatchString(path) {
			return op, item, template
		}
	}
	return nil, nil, ""
}

func (c *conforming) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if media == "text/event-stream" || r.Method == http.MethodHead || resp.Header.Get("Content-Encoding") != "" {
		return resp, nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	c.check(r, resp, media, body)
	return resp, nil
}

func (c *conforming) check(r *http.Request, resp *http.Response, media string, body []byte) {
	for _, h := range []string{"X-Request-Id", "X-Content-Type-Options", "Cache-Control", "Content-Security-Policy"} {
		if resp.Header.Get(h) == "" {
			c.t.Errorf("%s %s: header %s is missing", r.Method, r.URL.Path, h)
		}
	}
	if bytes.Contains(body, []byte("s3cret")) {
		c.t.Errorf("%s %s: the answer tells a secret: %s", r.Method, r.URL.Path, body)
	}
	op, item, template := operationOf(r.Method, r.URL.Path)
	if op == nil || !strings.HasPrefix(r.URL.Path, "/api") {
		if resp.StatusCode >= 400 && media != "application/problem+json" && !strings.HasPrefix(r.URL.Path, "/health") {
			c.t.Errorf("%s %s: %d is no problem+json but %q", r.Method, r.URL.Path, resp.StatusCode, media)
		}
		return
	}
	if media == "text/html" || media == "" {
		return
	}
	in := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: r, Route: &routers.Route{Spec: testDoc, Path: template, PathItem: item, Method: r.Method, Operation: op},
		},
		Status: resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}
	if err := openapi3filter.ValidateResponse(context.Background(), in); err != nil {
		c.t.Errorf("%s %s: the answer does not fit the document: %v\n%s", r.Method, r.URL.Path, err, body)
	}
}
