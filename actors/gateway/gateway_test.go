package gateway_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/goleak"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// link is a scripted connection to a gateway.
type link struct {
	end     error // why the connection ends; nil: it is cut
	hello   openclaw.Hello
	done    chan struct{}
	once    sync.Once
	onAgent func(openclaw.AgentRequest, func(openclaw.AgentAnswer))
	session func() (openclaw.Session, bool, error)
	rows    []openclaw.Session
	history func(key string) openclaw.History
	config  func() (openclaw.ConfigState, error) // nil: a version that does not tell
	lane    int

	mu       sync.Mutex
	aborted  []string
	disposed []string
}

func newLink(boot string) *link {
	return &link{hello: openclaw.Hello{BootID: boot, Version: "2026.9.6"}, done: make(chan struct{})}
}

func (l *link) Hello() *openclaw.Hello { return &l.hello }
func (l *link) Done() <-chan struct{}  { return l.done }
func (l *link) Err() error {
	if l.end != nil {
		return l.end
	}
	return &openclaw.ClosedError{Code: openclaw.CloseAbnormal}
}
func (l *link) Close() { l.once.Do(func() { close(l.done) }) }

func (l *link) Agent(r openclaw.AgentRequest, on func(openclaw.AgentAnswer)) error {
	if l.onAgent != nil {
		go l.onAgent(r, on)
	}
	return nil
}

func (l *link) Wait(ctx context.Context, run string, d time.Duration) (openclaw.RunStatus, error) {
	select {
	case <-time.After(min(d, 50*time.Millisecond)):
	case <-ctx.Done():
	}
	return openclaw.RunStatus{RunID: run, Status: "timeout"}, nil
}

func (l *link) History(_ context.Context, key string, _ int) (openclaw.History, error) {
	if l.history != nil {
		return l.history(key), nil
	}
	return openclaw.History{}, nil
}

func (l *link) Session(context.Context, string) (openclaw.Session, bool, error) {
	if l.session != nil {
		return l.session()
	}
	return openclaw.Session{}, false, nil
}

func (l *link) Sessions(_ context.Context, q openclaw.SessionQuery) (openclaw.SessionPage, error) {
	end := min(q.Offset+q.Limit, len(l.rows))
	return openclaw.SessionPage{Sessions: l.rows[q.Offset:end], HasMore: end < len(l.rows), Next: end}, nil
}

func (l *link) AbortSession(_ context.Context, key, _ string, _ bool) (openclaw.Aborted, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.aborted = append(l.aborted, key)
	return openclaw.Aborted{}, nil
}

func (l *link) SubAgents(context.Context, string) (openclaw.SubAgents, error) {
	return openclaw.SubAgents{}, nil
}
func (l *link) DeleteSession(context.Context, string) (bool, error) { return true, nil }

func (l *link) Teardown(_ context.Context, req openclaw.TeardownRequest) openclaw.TeardownReport {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.aborted = append(l.aborted, req.SessionKey)
	if req.Dispose {
		l.disposed = append(l.disposed, req.SessionKey)
	}
	return openclaw.TeardownReport{Stopped: true, Removed: req.Dispose}
}

func (l *link) ConfigState(context.Context) (openclaw.ConfigState, error) {
	if l.config == nil {
		return openclaw.ConfigState{Hash: "h", Revision: "r"}, nil
	}
	return l.config()
}

func (l *link) SystemInfo(context.Context) (openclaw.SystemInfo, error) {
	return openclaw.SystemInfo{}, nil
}

func (l *link) Lanes(context.Context) ([]openclaw.Lane, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return []openclaw.Lane{{Name: openclaw.MainLane, MaxConcurrent: max(4, l.lane)}}, nil
}

// rig is one gateway actor between a real store and a fake pool.
type rig struct {
	t      *testing.T
	system *actor.ActorSystem
	store  persistence.Store
	commit *actor.PID
	pool   *actor.PID
	pid    *actor.PID
	fromG  chan any // what the pool's owner is told
	fence  messages.Fence
	shard  messages.Fence
	valve  *valve // what the committer writes goes through it
}

func newRig(t *testing.T, change func(*gateway.Config)) *rig {
	t.Helper()
	return newRigIn(t, func(_ *actor.ActorSystem, c *gateway.Config) { change(c) })
}

// newRigIn is newRig for a test that has actors of its own.
func newRigIn(t *testing.T, change func(*actor.ActorSystem, *gateway.Config)) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	level := slog.LevelError + 4
	if os.Getenv("DASH_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	db, err := sqlite.Open(ctx, sqlite.Config{Dir: t.TempDir(), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, system: actor.NewActorSystem(actor.WithDeadLetterRequestLogging(false), actor.WithDeadLetterThrottleInterval(time.Millisecond), actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		return slog.New(slog.DiscardHandler)
	})), store: db.Store(), fromG: make(chan any, 10000)}
	if _, err := r.store.Renew(ctx, messages.Node{ID: "n"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if r.fence, err = r.store.Take(ctx, messages.GatewayScope, "gw", "n"); err != nil {
		t.Fatal(err)
	}
	if r.shard, err = r.store.Take(ctx, messages.ShardScope, "0", "n"); err != nil {
		t.Fatal(err)
	}
	r.valve = &valve{Store: r.store}
	r.commit = r.system.Root.Spawn(commit.Props(commit.Config{Store: r.valve, Logger: logger}))
	r.pool = r.system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		switch m := c.Message().(type) {
		case messages.Demand, *messages.Ended, messages.SessionChangedByG:
			select {
			case r.fromG <- m:
			default:
			}
		}
	}))
	cfg := gateway.Config{
		Gateway: messages.Gateway{ID: "gw", Tenant: "default", Pool: "default", URL: "ws://127.0.0.1:1/", Token: "t", MaxConcurrency: 8},
		Fence:   r.fence, Store: r.store, Committer: r.commit, Pool: func(string) *actor.PID { return r.pool },
		History: func(context.Context, string, string) (string, error) { return "", nil },
		Logger:  logger,
		Timing: gateway.Timing{Tick: 10 * time.Millisecond, Health: 20 * time.Millisecond, ReconnectMin: 5 * time.Millisecond,
			ReconnectMax: 20 * time.Millisecond, SessionDelay: 5 * time.Millisecond,
			Session: session.Timing{Call: time.Second, Unreadable: 1}},
	}
	change(r.system, &cfg)
	r.pid = r.system.Root.Spawn(gateway.Props(cfg))
	t.Cleanup(func() {
		// The futures' own limit is 10 s; the store closes whatever they say.
		_ = r.system.Root.StopFuture(r.pid).Wait()
		_ = r.system.Root.StopFuture(r.pool).Wait()
		_ = r.system.Root.StopFuture(r.commit).Wait()
		r.system.Shutdown()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// dialer returns links one after the other, then errors.
func dialer(links ...*link) gateway.DialFunc {
	var mu sync.Mutex
	return func(context.Context, openclaw.Config, openclaw.Handler) (gateway.Link, error) {
		mu.Lock()
		defer mu.Unlock()
		if len(links) == 0 {
			return nil, &openclaw.RefusedError{Reason: openclaw.ReasonUnreachable, Message: "nothing listens"}
		}
		l := links[0]
		links = links[1:]
		return l, nil
	}
}

func await[T any](r *rig, what string, ok func(T) bool) T {
	r.t.Helper()
	limit := time.After(15 * time.Second)
	for {
		select {
		case m := <-r.fromG:
			if v, is := m.(T); is && ok(v) {
				return v
			}
		case <-limit:
			r.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (r *rig) inspect() gateway.Snapshot {
	r.t.Helper()
	reply := make(chan gateway.Snapshot, 1)
	r.system.Root.Send(r.pid, gateway.Inspect{Reply: reply})
	select {
	case s := <-reply:
		return s
	case <-time.After(10 * time.Second):
		r.t.Fatal("gateway does not answer")
		panic("unreachable")
	}
}

// until polls the gateway's own view; its actor is asked, not the clock.
func (r *rig) until(state messages.GatewayState) gateway.Snapshot {
	r.t.Helper()
	limit := time.Now().Add(15 * time.Second)
	for {
		s := r.inspect()
		if s.Status.State == state {
			return s
		}
		if time.Now().After(limit) {
			r.t.Fatalf("gateway is %s (%s), want %s", s.Status.State, s.Status.Reason, state)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// claim makes a durable claim and assigns it.
func (r *rig) claim(id, session string) messages.Task {
	r.t.Helper()
	c := r.row(id, session)
	r.system.Root.RequestWithCustomSender(r.pid, &messages.Assign{Task: c.task, Session: c.session}, r.pool)
	return c.task
}

type rows struct {
	task    messages.Task
	session *messages.Session
}

// row makes a durable claim.
func (r *rig) row(id, session string) rows {
	r.t.Helper()
	task := messages.Task{ID: id, Tenant: "default", Pool: "default", Class: messages.High, Seq: 1, State: messages.Queued,
		Session: session, Spec: &messages.TaskSpec{Message: "hi", TimeoutSeconds: 60, MaxAttempts: 2}, CreatedAt: messages.Now()}
	claimed := task
	claimed.State, claimed.Claim, claimed.Attempt, claimed.Gateway, claimed.ClaimedAt = messages.Claimed, 1, 1, "gw", messages.Now()
	var row *messages.Session
	ops := []persistence.Op{
		{Fences: []messages.Fence{r.shard}, Insert: &persistence.TaskInsert{Task: task}},
		{Fences: []messages.Fence{r.shard, r.fence}, Update: &persistence.TaskUpdate{Task: claimed, From: messages.Queued}},
	}
	if session != "" {
		row = &messages.Session{Tenant: "default", ID: session, Pool: "default", Gateway: "gw", State: messages.SessionIdle, CreatedAt: messages.Now()}
		ops[1].Session = &persistence.SessionWrite{Session: *row, FromGeneration: -1}
	}
	out, err := r.store.Commit(r.t.Context(), ops)
	if err != nil || out[0].Status != persistence.OK || out[1].Status != persistence.OK {
		r.t.Fatalf("claim: %v %v", out, err)
	}
	return rows{task: claimed, session: row}
}

func open(d messages.Demand) bool { return d.Window > 0 }

func TestAsksForWorkOnlyWhenSettled(t *testing.T) {
	t.Parallel()
	l := newLink("b1")
	l.rows = []openclaw.Session{
		{Key: "agent:main:dash:default:old:3", Status: "running", ActiveRunIDs: []string{"x"}, HasActiveRun: true},
		{Key: "agent:main:dash:default:quiet:1", Status: "done"},
		{Key: "agent:main:somebody", Status: "running", HasActiveRun: true},
	}
	r := newRig(t, func(c *gateway.Config) { c.Dial = dialer(l) })
	d := await(r, "a window", open)
	if d.Window != 4 {
		t.Errorf("window = %d, want the gateway's own lane limit 4", d.Window)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.aborted) != 1 || l.aborted[0] != "agent:main:dash:default:old:3" {
		t.Errorf("aborted %v, want the one Dash session that still ran", l.aborted)
	}
}

func TestRefusedForGoodIsQuarantined(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *gateway.Config) {
		c.Dial = func(context.Context, openclaw.Config, openclaw.Handler) (gateway.Link, error) {
			return nil, &openclaw.RefusedError{Reason: openclaw.ReasonToken, Message: "wrong token", NextStep: "set the right one", Permanent: true}
		}
	})
	s := r.until(messages.GatewayQuarantined)
	if s.Status.Reason != messages.GatewayRefusesToken+": wrong token" || s.Status.NextStep == "" {
		t.Errorf("reason %q, next step %q", s.Status.Reason, s.Status.NextStep)
	}
}

func TestClaimForAClosedGatewayComesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *gateway.Config) { c.Dial = dialer() })
	// Nobody claims for a gateway that has not asked yet: it would find the
	// claim in the store and take it for one of an earlier life.
	await(r, "the first demand", func(messages.Demand) bool { return true })
	task := r.claim("t1", "")
	d := await(r, "the claim's return", func(d messages.Demand) bool { return len(d.Returned) == 1 })
	if d.Returned[0].Task != task.ID || d.Window != 0 {
		t.Errorf("demand = %+v", d)
	}
	r.system.Root.Send(r.pid, messages.Taken{Claims: []messages.ClaimRef{d.Returned[0].ClaimRef}})
	await(r, "the end of the evidence", func(d messages.Demand) bool { return len(d.Returned) == 0 })
}

func TestProviderFailureHalvesTheWindow(t *testing.T) {
	t.Parallel()
	l := newLink("b1")
	l.onAgent = func(q openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
		on(openclaw.AgentAnswer{Kind: openclaw.AnswerAccepted, RunID: q.RunID})
		on(openclaw.AgentAnswer{Kind: openclaw.AnswerFailed, RunID: q.RunID, Failure: &openclaw.Failure{Class: openclaw.ClassProvider, Message: "HTTP 500"}})
	}
	r := newRig(t, func(c *gateway.Config) { c.Dial = dialer(l) })
	await(r, "a window", open)
	r.claim("t1", "")
	e := await(r, "the end", func(*messages.Ended) bool { return true })
	if e.Task.State != messages.RetryWait || e.Task.Error.GetCode() != string(messages.CodeProvider) {
		t.Fatalf("task = %s %v", e.Task.State, e.Task.Error)
	}
	d := await(r, "half a window", func(d messages.Demand) bool { return d.Window == 2 })
	if len(d.Running) != 0 {
		t.Errorf("the failed run still counts: %v", d.Running)
	}
	if s := r.until(messages.GatewayDegraded); s.Reduced == "" {
		t.Error("a degraded gateway must say why")
	}
}

// TestDegradedSaysTheNewestReason: an operator who reads why a gateway gets less
// work must not be sent after a trouble that another one followed.
func TestDegradedSaysTheNewestReason(t *testing.T) {
	t.Parallel()
	l := newLink("b1")
	l.onAgent = func(q openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
		class := openclaw.ClassProvider
		if strings.HasPrefix(q.RunID, "t2") {
			class = openclaw.ClassAuth
		}
		on(openclaw.AgentAnswer{Kind: openclaw.AnswerAccepted, RunID: q.RunID})
		on(openclaw.AgentAnswer{Kind: openclaw.AnswerFailed, RunID: q.RunID, Failure: &openclaw.Failure{
			Class: class, Message: "no", Provider: "p", Pause: 10 * time.Minute, Final: true}})
	}
	r := newRig(t, func(c *gateway.Config) { c.Dial = dialer(l) })
	await(r, "a window", open)
	r.claim("t1", "")
	await(r, "half a window", func(d messages.Demand) bool { return d.Window == 2 })
	first := r.until(messages.GatewayDegraded).Status
	r.claim("t2", "")
	d := await(r, "its provider switched off", func(d messages.Demand) bool { return len(d.Paused) > 0 })
	if len(d.Paused) != 2 || d.Paused[0].Provider != "" || d.Paused[1].Provider != "p" || time.Until(d.Paused[1].Until) < 9*time.Minute || d.Window != 2 {
		t.Errorf("paused %+v, window %d: want p and, as the task named no model, the default one, for ten minutes, and no other", d.Paused, d.Window)
	}
	second := r.until(messages.GatewayDegraded).Status
	if second.Reason == first.Reason || !strings.Contains(second.Reason, "switched off the model provider p until") {
		t.Errorf("reason %q, before %q", second.Reason, first.Reason)
	}
	if !second.Since.Equal(first.Since) {
		t.Error("it is degraded since the first trouble")
	}
}

// TestFailingSessionIsParked: the gateway's answers about the session cannot be
// used, its actor fails and is restarted with delays, in the end it is parked
// and says why; the gateway and its other work go on.
func TestFailingSessionIsParked(t *testing.T) {
	t.Parallel()
	first, second := newLink("b1"), newLink("b2")
	unusable := func() (openclaw.Session, bool, error) {
		return openclaw.Session{}, false, &openclaw.AnswerError{Method: "sessions.list", Problem: "no sessions member"}
	}
	first.session, second.session = unusable, unusable
	r := newRig(t, func(c *gateway.Config) {
		c.Dial = dialer(first, second)
		c.Timing.SessionLimit = 3
	})
	await(r, "a window", open)
	r.claim("t1", "s1")
	await(r, "the run", func(d messages.Demand) bool { return len(d.Running) == 1 })
	first.Close() // now the run has to be looked up, and cannot be
	e := await(r, "the end of the parked session's task", func(*messages.Ended) bool { return true })
	if e.Task.State != messages.DeadLetter || e.Task.Error.GetCode() != string(messages.CodeSessionFailed) {
		t.Fatalf("task = %s %v", e.Task.State, e.Task.Error)
	}
	s, err := r.store.Session(t.Context(), "default", "s1")
	if err != nil {
		t.Fatal(err)
	}
	if s.State != messages.SessionParked || s.Reason == "" || s.NextStep == "" || s.Generation != 1 {
		t.Errorf("session = %+v", s)
	}
	await(r, "the window after it", open)
}

// daemon is a scripted managed process.
type daemon struct {
	mu     sync.Mutex
	starts int
	fail   error
	gone   chan struct{}
	crash  bool

	adopted bool
	stop    func(context.Context) error
	kills   int
	config  []messages.Gateway

	stale   bool              // what Ensure says of it
	start   bool              // only a start brings the configuration
	same    gateway.Rewriting // the file is as wanted
	wrong   error
	rewrite func()

	impatient bool // how long it may take is short
	written   int
	taken     []bool
}

func (d *daemon) Rewrite(context.Context) (gateway.Rewriting, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.wrong != nil {
		return gateway.NeedsStart, d.wrong
	}
	if d.start {
		return gateway.NeedsStart, nil
	}
	if d.same != 0 {
		return d.same, nil
	}
	d.written++
	if d.rewrite != nil {
		d.rewrite()
	}
	return gateway.FileWritten, nil
}

func (d *daemon) Rewritten(_ context.Context, taken bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.taken = append(d.taken, taken)
	return nil
}

func (d *daemon) Configure(g messages.Gateway) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.config = append(d.config, g)
}

func (d *daemon) Ensure(context.Context) (gateway.Endpoint, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.starts++
	if d.fail != nil {
		return gateway.Endpoint{}, d.fail
	}
	d.gone = make(chan struct{})
	if d.crash {
		close(d.gone)
	}
	return gateway.Endpoint{URL: "ws://127.0.0.1:1/", Token: "t", PID: 42, Adopted: d.adopted, Stale: d.stale}, nil
}

func (d *daemon) AwaitExit(ctx context.Context) bool {
	d.mu.Lock()
	gone := d.gone
	d.mu.Unlock()
	select {
	case <-gone:
		return true
	case <-ctx.Done():
		return false
	}
}

func (d *daemon) Stop(ctx context.Context) error {
	if d.stop != nil {
		return d.stop(ctx)
	}
	return nil
}

func (d *daemon) Kill(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kills++
	return nil
}

func TestCrashLoopEndsInQuarantine(t *testing.T) {
	t.Parallel()
	d := &daemon{crash: true}
	r := newRig(t, func(c *gateway.Config) {
		c.Process, c.Dial = d, dialer()
		c.Timing.RetryLimit = 4
	})
	s := r.until(messages.GatewayQuarantined)
	if s.Status.Reason == "" || s.Status.NextStep == "" {
		t.Errorf("status = %+v", s.Status)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.starts != 4 {
		t.Errorf("%d starts, want 4", d.starts)
	}
}

func TestConfigurationErrorIsNotRetried(t *testing.T) {
	t.Parallel()
	d := &daemon{fail: &gateway.StartError{Permanent: true, Reason: "exit 78", NextStep: "mend the configuration", Err: errors.New("x")}}
	r := newRig(t, func(c *gateway.Config) { c.Process, c.Dial = d, dialer() })
	if s := r.until(messages.GatewayQuarantined); s.Status.Reason != "exit 78" {
		t.Errorf("reason = %q", s.Status.Reason)
	}
	if d.starts != 1 {
		t.Errorf("%d starts, want 1", d.starts)
	}
}

func TestDrainWaitsForTheRunAndResumeOpens(t *testing.T) {
	t.Parallel()
	l := newLink("b1")
	finish := make(chan struct{})
	l.onAgent = func(q openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
		on(openclaw.AgentAnswer{Kind: openclaw.AnswerAccepted, RunID: q.RunID})
		<-finish
		on(openclaw.AgentAnswer{Kind: openclaw.AnswerFinal, RunID: q.RunID, Text: "done"})
	}
	r := newRig(t, func(c *gateway.Config) { c.Dial = dialer(l) })
	await(r, "a window", open)
	r.claim("t1", "")
	await(r, "the run", func(d messages.Demand) bool { return len(d.Running) == 1 })
	r.system.Root.Send(r.pid, gateway.Drain{})
	r.until(messages.GatewayDraining)
	close(finish)
	if e := await(r, "the end", func(*messages.Ended) bool { return true }); e.Task.State != messages.Succeeded {
		t.Fatalf("task = %s", e.Task.State)
	}
	r.until(messages.GatewayDrained)
	r.system.Root.Send(r.pid, gateway.Resume{})
	await(r, "a window again", open)
}

// hungDaemon lives but does not answer: after the first time Ensure waits until
// it is told what to say.
type hungDaemon struct {
	daemon
	says chan error
}

func (d *hungDaemon) Ensure(ctx context.Context) (gateway.Endpoint, error) {
	d.mu.Lock()
	first := d.starts == 0
	d.mu.Unlock()
	if !first {
		select {
		case err := <-d.says:
			return gateway.Endpoint{}, err
		case <-ctx.Done():
			return gateway.Endpoint{}, ctx.Err()
		}
	}
	return d.daemon.Ensure(ctx)
}

// TestAHungGatewayIsNotStarting: its process lives and does not answer, which
// is no start, neither before nor after the wait for it is over.
func TestAHungGatewayIsNotStarting(t *testing.T) {
	t.Parallel()
	l := newLink("b1")
	d := &hungDaemon{daemon: daemon{adopted: true}, says: make(chan error)}
	r := newRig(t, func(c *gateway.Config) {
		c.Process, c.Dial = d, dialer(l)
		c.Timing.ReconnectMin, c.Timing.ReconnectMax = 300*time.Millisecond, 300*time.Millisecond // each state is seen
	})
	r.until(messages.GatewayReady)
	l.Close()
	hung := func(when, reason string) {
		t.Helper()
		var s gateway.Snapshot
		for limit := time.Now().Add(5 * time.Second); time.Now().Before(limit); time.Sleep(time.Millisecond) {
			if s = r.inspect(); s.Status.State == messages.GatewayStarting {
				t.Fatalf("%s it is shown as starting", when)
			}
			if strings.Contains(s.Status.Reason, reason) {
				if s.Status.State != messages.GatewayUnreachable || !strings.Contains(s.Status.NextStep, "restart the gateway") {
					t.Fatalf("%s: %+v", when, s.Status)
				}
				return
			}
		}
		t.Fatalf("%s: %+v, want %q", when, s.Status, reason)
	}
	hung("while it is waited for", "its process (pid 42) runs but does not answer")
	d.says <- &gateway.StartError{Alive: true, Reason: "process 42 lives but is not ready", NextStep: "restart the gateway"}
	hung("after the wait", "process 42 lives but is not ready")
	hung("while it is waited for again", "runs but does not answer")
	d.mu.Lock()
	close(d.gone) // somebody ends it: now it is started
	d.mu.Unlock()
	r.until(messages.GatewayStarting)
}

// TestAHungGatewayOfEarlierIsNotStarting: a node that finds the process of an
// earlier life knows no more than that it lives.
func TestAHungGatewayOfEarlierIsNotStarting(t *testing.T) {
	t.Parallel()
	d := &hungDaemon{daemon: daemon{starts: 1}, says: make(chan error)}
	r := newRig(t, func(c *gateway.Config) { c.Process, c.Dial = d, dialer() })
	d.says <- &gateway.StartError{Alive: true, Reason: "process 42 lives but is not ready", NextStep: "restart the gateway"}
	for limit := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		s := r.inspect()
		if s.Status.Reason == "its process runs but does not answer" && s.Status.State == messages.GatewayUnreachable {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%+v", s.Status)
		}
	}
}

// TestGivingUpTellsTheLastFailure: the reason and the next step of a start that
// came to no process, and the log's true place after one that did.
func TestGivingUpTellsTheLastFailure(t *testing.T) {
	t.Parallel()
	taken := &gateway.StartError{Reason: "the gateway's port 1 is taken", NextStep: "free the port"}
	for _, tt := range []struct {
		d            *daemon
		dir          string
		reason, next string
	}{
		{&daemon{fail: taken}, "", "the last time: the gateway's port 1 is taken", "free the port"},
		{&daemon{crash: true}, "", "the gateway process ended 2 times", "(gateways/gw/gateway.log in the data folder)"},
		{&daemon{crash: true}, "/srv/gw", "the gateway process ended 2 times", "(/srv/gw/gateway.log)"},
	} {
		r := newRig(t, func(c *gateway.Config) {
			c.Process, c.Dial, c.Timing.RetryLimit = tt.d, dialer(), 2
			c.Gateway.Managed = &messages.Managed{StateDir: tt.dir}
		})
		s := r.until(messages.GatewayQuarantined).Status
		if !strings.Contains(s.Reason, tt.reason) || !strings.Contains(s.NextStep, tt.next) {
			t.Errorf("%q, %q; want %q, %q", s.Reason, s.NextStep, tt.reason, tt.next)
		}
	}
}

// TestAFailedStartSaysWhyAtOnce: not after all its tries.
func TestAFailedStartSaysWhyAtOnce(t *testing.T) {
	t.Parallel()
	d := &daemon{fail: &gateway.StartError{Reason: "the gateway's port 1 is taken", NextStep: "free the port"}}
	r := newRig(t, func(c *gateway.Config) { c.Process, c.Dial = d, dialer() })
	if s := r.until(messages.GatewayUnreachable).Status; !strings.Contains(s.Reason, "port 1 is taken") || s.NextStep != "free the port" {
		t.Errorf("%q, %q", s.Reason, s.NextStep)
	}
}
