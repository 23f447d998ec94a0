package dispatch

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/actors/supervise"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

var testFence = messages.Fence{Scope: messages.ShardScope, Key: "7", Owner: "node-1", Epoch: 1}

// bench is a pool with a committer over a store in memory and scripted gateways.
type bench struct {
	testing.TB
	system    *actor.ActorSystem
	store     *memory
	committer *actor.PID
	pool      *actor.PID
	client    *Client
	parent    chan any
	metrics   *Metrics
}

// parentActor supervises the pool as a shard does and tells what it hears.
type parentActor struct {
	props *actor.Props
	up    chan *actor.PID
	heard chan any
}

func (p *parentActor) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		p.up <- ctx.Spawn(p.props)
	case Fenced:
		p.heard <- m
	}
}

// play runs a test in a bubble with its own clock, in which hours pass at once.
func play(t *testing.T, change func(*Config), f func(t *testing.T, b *bench)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { f(t, newBench(t, change)) })
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func newBench(tb testing.TB, change func(*Config)) *bench {
	return openBench(tb, newMemory(), change)
}

type dataStore interface {
	Reader
	commit.Store
}

// openBench opens a pool over the store in memory, or over another one.
func openBench(tb testing.TB, store *memory, change func(*Config), other ...dataStore) *bench {
	tb.Helper()
	var data dataStore = store
	if len(other) > 0 {
		data = other[0]
	}
	system := actor.NewActorSystemWithConfig(actor.Configure(
		actor.WithDeadLetterThrottleInterval(time.Millisecond), actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return quiet() })))
	b := &bench{TB: tb, system: system, store: store, parent: make(chan any, 16), metrics: NewMetrics(prometheus.NewPedanticRegistry())}
	commits := commit.NewMetrics(nil)
	b.committer = system.Root.Spawn(commit.Props(commit.Config{Store: data, Logger: quiet(), Metrics: commits}))
	cfg := Config{
		Pool: messages.Pool{ID: "default", Tenant: "default"}, Fence: testFence, Store: data, Committer: b.committer, Logger: quiet(),
		Metrics: b.metrics,
	}
	if change != nil {
		change(&cfg)
	}
	props, err := Props(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	up := make(chan *actor.PID, 1)
	parent := system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor {
		return &parentActor{props: props, up: up, heard: b.parent}
	}, actor.WithSupervisor(supervise.New(supervise.Config{
		Kind: "pool", Initial: 5 * time.Millisecond, Max: 50 * time.Millisecond, Window: time.Second, Logger: quiet(),
	}))))
	b.pool = <-up
	b.client = &Client{Send: system.Root, Store: data, Pool: func(context.Context, string) (*actor.PID, error) { return b.pool, nil },
		Entry: func(context.Context, string, string) (*actor.PID, func(), error) { return b.pool, func() {}, nil }, InDoubt: commits.InDoubt}
	tb.Cleanup(func() {
		_ = system.Root.StopFuture(parent).Wait()
		_ = system.Root.StopFuture(b.committer).Wait()
		system.Shutdown()
		if store != nil && len(store.unlawful) > 0 {
			tb.Errorf("changes that no table allows: %v", store.unlawful)
		}
		time.Sleep(2 * time.Millisecond) // the interval above: its goroutine ends by itself
	})
	return b
}

func (b *bench) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	b.Cleanup(cancel)
	return ctx
}

func newTask(c messages.Class, session string) messages.Task {
	return messages.Task{
		ID: messages.NewID(), Tenant: "default", Class: c, Session: session,
		Spec: &messages.TaskSpec{Message: "hello", MaxAttempts: 3},
	}
}

func (b *bench) submit(t messages.Task) messages.Task {
	b.Helper()
	got, _, err := b.client.Submit(b.ctx(), "default", Submit{Task: t})
	if err != nil {
		b.Fatalf("submit: %v", err)
	}
	return got
}

func (b *bench) stats() Stats {
	b.Helper()
	s, err := b.client.QueueStats(b.ctx(), "default")
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// fakeGateway is the owner of a gateway as the test scripts it.
type fakeGateway struct {
	b     *bench
	id    string
	pid   *actor.PID
	got   chan any
	epoch int64
	// what its Demands say
	window  int
	running map[messages.ClaimRef]bool
	away    time.Time
}

func (b *bench) gateway(id string) *fakeGateway {
	g := &fakeGateway{b: b, id: id, got: make(chan any, 100000), epoch: 1, running: map[messages.ClaimRef]bool{}}
	g.pid = b.system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		switch m := ctx.Message().(type) {
		case *messages.Assign, messages.StopRun, messages.Withdraw, messages.Taken:
			g.got <- m
		}
	}))
	return g
}

func (g *fakeGateway) demand(window int, change ...func(*messages.Demand)) {
	g.window = window
	d := messages.Demand{Gateway: g.id, Tenant: "default", Pool: "default", Owner: "node-1", Epoch: g.epoch, Window: window,
		Running: slices.Collect(maps.Keys(g.running)), AwaySince: g.away}
	for _, f := range change {
		f(&d)
	}
	g.b.system.Root.RequestWithCustomSender(g.b.pool, d, g.pid)
}

// pass lets time go by while the gateways repeat their demands.
func (b *bench) pass(d time.Duration, gateways ...*fakeGateway) {
	for ; d > 0; d -= messages.DemandInterval {
		for _, g := range gateways {
			g.demand(g.window)
		}
		time.Sleep(min(d, messages.DemandInterval))
		synctest.Wait()
	}
}

// assign waits for the next assignment and holds it.
func (g *fakeGateway) assign() *messages.Assign {
	g.b.Helper()
	a := nextOf[*messages.Assign](g)
	g.running[messages.ClaimRef{Task: a.Task.ID, Claim: a.Task.Claim}] = true
	return a
}

// none fails the test if a message of type T has arrived.
func none[T any](g *fakeGateway) {
	g.b.Helper()
	synctest.Wait()
	for {
		select {
		case m := <-g.got:
			if t, ok := m.(T); ok {
				g.b.Fatalf("gateway %s got %+v", g.id, t)
			}
		default:
			return
		}
	}
}

// nextOf returns the next message of type T; others are passed over.
func nextOf[T any](g *fakeGateway) T {
	g.b.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case m := <-g.got:
			if t, ok := m.(T); ok {
				return t
			}
		case <-timeout:
			var zero T
			g.b.Fatalf("gateway %s got no %T", g.id, zero)
		}
	}
}

// end makes the end of a claim durable, as a gateway's owner does, and tells the pool.
func (g *fakeGateway) end(a *messages.Assign, state messages.TaskState, change ...func(*messages.Task)) messages.Task {
	g.b.Helper()
	t := a.Task
	t.State = state
	now := messages.Now()
	t.StartedAt = now
	if state.Terminal() {
		t.FinishedAt = now
	}
	if state == messages.Succeeded {
		t.Result = &messages.TaskResult{Text: "answer to " + t.Spec.GetMessage()}
	}
	for _, f := range change {
		f(&t)
	}
	delete(g.running, messages.ClaimRef{Task: t.ID, Claim: t.Claim})
	from := g.b.row(t.ID).State
	out, err := g.b.store.Commit(g.b.ctx(), []persistence.Op{{Update: &persistence.TaskUpdate{Task: t, From: from, FromClaim: t.Claim}}})
	if err != nil || out[0].Status != persistence.OK {
		g.b.Fatalf("end of %s: %v %v", t.ID, out, err)
	}
	g.b.system.Root.Send(g.b.pool, &messages.Ended{Task: t})
	return t
}

func (b *bench) row(id string) messages.Task {
	b.Helper()
	t, err := b.store.Task(b.ctx(), "", id)
	if err != nil {
		b.Fatal(err)
	}
	return t
}

// eventually waits until f holds; the actors work on their own time.
func (b *bench) eventually(what string, f func() bool) {
	b.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			b.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestTaskRunsFromSubmitToEnd(t *testing.T) { play(t, nil, runFromSubmitToEnd) }

func runFromSubmitToEnd(t *testing.T, b *bench) {
	low, high := b.submit(newTask(messages.Low, "")), b.submit(newTask(messages.High, ""))
	g := b.gateway("gw-1")
	g.demand(1)
	first := nextOf[*messages.Assign](g)
	if first.Task.ID != high.ID || first.Task.Claim != 1 || first.Task.Attempt != 1 || first.Task.State != messages.Claimed {
		t.Fatalf("first assignment %+v, want claim 1 of %s", first.Task, high.ID)
	}
	if got := b.row(high.ID); got.State != messages.Claimed || got.Gateway != "gw-1" {
		t.Fatalf("assigned before the claim was durable: %+v", got)
	}
	g.end(first, messages.Succeeded)
	second := nextOf[*messages.Assign](g)
	if second.Task.ID != low.ID {
		t.Fatalf("second assignment %s, want %s", second.Task.ID, low.ID)
	}
	g.end(second, messages.Succeeded)
	b.eventually("all counters at rest", func() bool {
		s := b.stats()
		return s.Open == 0 && s.Gateways[0].InFlight == 0 && s.Classes[3].Queued == 0
	})
}

func TestSubmitErrors(t *testing.T) {
	play(t, func(c *Config) { c.Pool.Limits = map[messages.Class]messages.ClassLimit{messages.Low: {Count: 2}} }, submitErrors)
}

func submitErrors(t *testing.T, b *bench) {
	one := newTask(messages.Low, "")
	m := Submit{Task: one, IdemKey: "k", IdemHash: []byte("a")}
	if _, existing, err := b.client.Submit(b.ctx(), "default", m); err != nil || existing {
		t.Fatalf("first: existing %v, err %v", existing, err)
	}
	m.Task = newTask(messages.Low, "")
	got, existing, err := b.client.Submit(b.ctx(), "default", m)
	if err != nil || !existing || got.ID != one.ID {
		t.Fatalf("same key: %s existing %v err %v, want %s", got.ID, existing, err, one.ID)
	}
	m.IdemHash = []byte("b")
	if _, _, err = b.client.Submit(b.ctx(), "default", m); messages.CodeOf(err) != messages.CodeKeyReused {
		t.Fatalf("other body: %v", err)
	}
	b.submit(newTask(messages.Low, ""))
	var full *messages.Error
	_, _, err = b.client.Submit(b.ctx(), "default", Submit{Task: newTask(messages.Low, "")})
	if !errors.As(err, &full) || full.Code != messages.CodeQueueFull || full.Position != 2 || full.Limit != 2 || full.RetryAfter <= 0 {
		t.Fatalf("full queue: %#v", err)
	}
	// The full queue keeps nobody from the task that he has.
	m.IdemHash = []byte("a")
	if got, existing, err := b.client.Submit(b.ctx(), "default", m); err != nil || !existing || got.ID != one.ID {
		t.Fatalf("same key at a full queue: %s existing %v err %v, want %s", got.ID, existing, err, one.ID)
	}
	m.Task.NotAfter = messages.Now().Add(-time.Second)
	if got, existing, err := b.client.Submit(b.ctx(), "default", m); err != nil || !existing || got.ID != one.ID {
		t.Fatalf("same key, and it has expired since: %s existing %v err %v, want %s", got.ID, existing, err, one.ID)
	}
	m.Task.NotAfter = time.Time{}
	m.IdemHash = []byte("b")
	if _, _, err = b.client.Submit(b.ctx(), "default", m); messages.CodeOf(err) != messages.CodeKeyReused {
		t.Fatalf("other body at a full queue: %v", err)
	}
	m.IdemKey = "k2"
	if _, _, err = b.client.Submit(b.ctx(), "default", m); messages.CodeOf(err) != messages.CodeQueueFull {
		t.Fatalf("new key at a full queue: %v", err)
	}
	if n := len(b.store.sessionsNow()); n != 0 {
		t.Fatalf("the questions left %d sessions", n)
	}
	if s := b.stats(); s.Classes[3].Queued != 2 || s.Classes[3].Admitted != 2 {
		t.Fatalf("the refused are counted: %+v", s.Classes[3])
	}
	b.store.set(func(m *memory) { m.err = persistence.ErrUnavailable })
	m.IdemKey = "k"
	if _, _, err = b.client.Submit(b.ctx(), "default", m); messages.CodeOf(err) != messages.CodeQueueFull {
		t.Fatalf("full queue and no store to ask: %v", err)
	}
	b.store.set(func(m *memory) { m.err = nil })
	b.submit(newTask(messages.High, "")) // another class has its own limit
	b.store.set(func(m *memory) { m.err = persistence.ErrUnavailable })
	_, _, err = b.client.Submit(b.ctx(), "default", Submit{Task: newTask(messages.High, "")})
	if messages.CodeOf(err) != messages.CodeUnavailable {
		t.Fatalf("store down: %v", err)
	}
	b.store.set(func(m *memory) { m.err = nil })
	b.eventually("store back", func() bool {
		_, _, err := b.client.Submit(b.ctx(), "default", Submit{Task: newTask(messages.High, "")})
		return err == nil
	})
}
