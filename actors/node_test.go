package actors_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors"
	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/actors/feed"
	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/openclaw/openclawtest"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/sqlite"
)

// bench is a whole node without its API, on the embedded store.
type bench struct {
	t     *testing.T
	node  *actors.Node
	store persistence.Store
	feed  *feed.Feed
	sims  *openclawtest.Fleet

	pool     dispatch.Config
	gateways []gateway.Config

	mu    sync.Mutex
	conns []*openclaw.Conn
}

// cut ends every connection to a gateway.
func (b *bench) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		c.Close()
	}
	b.conns = nil
}

func start(t *testing.T, gateways, slots int, runTime time.Duration) *bench {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	level := slog.LevelWarn
	if os.Getenv("DASH_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	db, err := sqlite.Open(ctx, sqlite.Config{Dir: t.TempDir(), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, store: db.Store(), feed: feed.New(0, nil)}
	b.node, err = actors.Start(ctx, actors.Config{
		Commit: commit.Config{Store: b.store, Logger: logger, Publish: b.feed.Publish},
		Logger: logger, Fatal: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	b.sims, err = openclawtest.NewFleet(openclawtest.SimConfig{
		Listen: "127.0.0.1:0", Gateways: gateways, Token: "secret", RunTime: runTime, MaxConcurrent: slots,
	}, logger)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.sims.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		if err := b.node.Stop(stop); err != nil {
			t.Error(err)
		}
		if err := b.sims.Stop(stop); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	b.shard(messages.DefaultPool)
	b.pool = dispatch.Config{
		Pool:  messages.Pool{ID: messages.DefaultPool, Tenant: messages.DefaultTenant},
		Store: b.store, Committer: b.node.Committer(), Logger: logger,
	}
	if err := b.node.AddPool(ctx, b.pool); err != nil {
		t.Fatal(err)
	}
	for _, s := range b.sims.Gateways() {
		b.shard(s.Name())
		b.gateways = append(b.gateways, b.gateway(s, slots))
		if err := b.node.AddGateway(ctx, b.gateways[len(b.gateways)-1]); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *bench) gateway(s *openclawtest.Gateway, slots int) gateway.Config {
	return gateway.Config{
		Gateway: messages.Gateway{ID: s.Name(), Tenant: messages.DefaultTenant, Pool: messages.DefaultPool, URL: s.URL(),
			Token: messages.Secret(s.Token()), MaxConcurrency: slots, Weight: 1},
		Fence: b.own(messages.GatewayScope, s.Name()), Store: b.store, Committer: b.node.Committer(),
		Pool:    func(id string) *actor.PID { pid, _ := b.node.Pool(id); return pid },
		History: func(context.Context, string, string) (string, error) { return "", nil },
		Text:    b.feed.Text, Trouble: b.feed.Trouble, Logger: slog.New(slog.DiscardHandler),
		Dial: func(ctx context.Context, cfg openclaw.Config, h openclaw.Handler) (gateway.Link, error) {
			c, err := openclaw.Dial(ctx, cfg, h)
			if err != nil {
				return nil, err
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			b.conns = append(b.conns, c)
			return c, nil
		},
	}
}

// shard has the node run the shard of a pool or gateway.
func (b *bench) shard(id string) messages.Fence {
	b.t.Helper()
	fence := b.own(messages.ShardScope, strconv.Itoa(messages.Shard(id)))
	if err := b.node.AddShard(b.t.Context(), fence); err != nil {
		b.t.Fatal(err)
	}
	return fence
}

func (b *bench) own(scope messages.Scope, key string) messages.Fence {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 5*time.Second)
	defer cancel()
	if _, err := b.store.Renew(ctx, messages.Node{ID: "n1"}, time.Minute); err != nil {
		b.t.Fatal(err)
	}
	f, err := b.store.Take(ctx, scope, key, "n1")
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

func (b *bench) submit(class messages.Class, session, text string) messages.Task {
	b.t.Helper()
	pid, _ := b.node.Pool(messages.DefaultPool)
	reply := make(chan dispatch.SubmitReply, 1)
	b.node.Root().Send(pid, &dispatch.Submit{Reply: reply, Task: messages.Task{
		ID: messages.NewID(), Tenant: messages.DefaultTenant, Pool: messages.DefaultPool, Class: class, Session: session,
		Spec: &messages.TaskSpec{Message: text, TimeoutSeconds: 60, MaxAttempts: 3}, CreatedAt: messages.Now(),
	}})
	select {
	case r := <-reply:
		if r.Err != nil {
			b.t.Fatal(r.Err)
		}
		return r.Task
	case <-time.After(10 * time.Second):
		b.t.Fatal("submit got no answer")
		panic("unreachable")
	}
}

func (b *bench) wait(id string) messages.Task {
	b.t.Helper()
	ended, stop := b.feed.AwaitEnd(id)
	defer stop()
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	for {
		task, err := b.store.Task(ctx, "", id)
		if err != nil {
			b.t.Fatal(err)
		}
		if task.State.Terminal() {
			return task
		}
		select {
		case <-ended:
		case <-ctx.Done():
			b.t.Fatalf("task %s is %s after 30 s", id, task.State)
		}
	}
}

func TestTaskRunsFromSubmitToResult(t *testing.T) {
	t.Parallel()
	b := start(t, 1, 1, 20*time.Millisecond)
	task := b.wait(b.submit(messages.High, "", "hello").ID)
	if task.State != messages.Succeeded || task.Result.GetText() != "ECHO(1): hello" {
		t.Fatalf("task = %s %v %v", task.State, task.Result, task.Error)
	}
	if task.Attempt != 1 || task.Claim != 1 || task.StartedAt.IsZero() || task.FinishedAt.Before(task.StartedAt) {
		t.Fatalf("attempt %d claim %d started %v finished %v", task.Attempt, task.Claim, task.StartedAt, task.FinishedAt)
	}
}

func TestSessionKeepsItsConversation(t *testing.T) {
	t.Parallel()
	b := start(t, 2, 2, 10*time.Millisecond)
	var last messages.Task
	for i := range 3 {
		last = b.wait(b.submit(messages.Medium, "s-1", fmt.Sprintf("turn %d", i+1)).ID)
	}
	if got := last.Result.GetText(); got != "ECHO(3): turn 3" {
		t.Fatalf("third turn answered %q", got)
	}
}

func TestManyTasksOverManyGateways(t *testing.T) {
	t.Parallel()
	b := start(t, 4, 4, 5*time.Millisecond)
	var ids []string
	for i := range 300 {
		ids = append(ids, b.submit(messages.Classes[i%4], "", fmt.Sprint("task ", i)).ID)
	}
	for _, id := range ids {
		if task := b.wait(id); task.State != messages.Succeeded {
			t.Fatalf("task %s: %s %v", id, task.State, task.Error)
		}
	}
}

// TestANewGatewayNeedsTheEndOfTheOldOneOfItsName.
func TestANewGatewayNeedsTheEndOfTheOldOneOfItsName(t *testing.T) {
	t.Parallel()
	b := start(t, 1, 1, time.Millisecond)
	cfg := b.gateways[0]
	if err := b.node.AddGateway(t.Context(), cfg); !errors.Is(err, actors.ErrStopping) {
		t.Fatalf("beside one that stays: %v", err)
	}
	old, _ := b.node.Gateway(cfg.Gateway.ID)
	gone := b.node.GatewayGone(cfg.Gateway.ID)
	b.node.Root().Send(old, gateway.Remove{})
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody is told that it has ended")
	}
	if err := b.node.AddGateway(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if b.wait(b.submit(messages.High, "", "hello").ID).State != messages.Succeeded {
		t.Error("the new one does not work")
	}
}

// TestAPoolGoesOnAfterARemovalThatWasGivenUp: the end of the old owner, for which
// nobody waited, does not keep a new one away.
func TestAPoolGoesOnAfterARemovalThatWasGivenUp(t *testing.T) {
	t.Parallel()
	b := start(t, 1, 1, time.Millisecond)
	left, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		if err := b.node.RemovePool(left, messages.DefaultPool); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := b.node.AddPool(ctx, b.pool)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
	if b.wait(b.submit(messages.High, "", "hello").ID).State != messages.Succeeded {
		t.Error("the new owner does not work")
	}
}
