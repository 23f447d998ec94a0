package actors_test

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors"
	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// free is a store that takes every write at once and keeps the open tasks
// only, so that what is measured is the actors' own work.
type free struct {
	persistence.Store
	mu   sync.Mutex
	open map[string]messages.Task
	seq  int64
}

func (s *free) Commit(_ context.Context, batch []persistence.Op) ([]persistence.Outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]persistence.Outcome, len(batch))
	for i := range batch {
		op := &batch[i]
		out[i].Status = persistence.OK
		switch {
		case op.Insert != nil:
			s.open[op.Insert.Task.ID] = op.Insert.Task
		case op.Update != nil && op.Update.Task.State.Terminal():
			delete(s.open, op.Update.Task.ID)
		case op.Update != nil:
			s.open[op.Update.Task.ID] = op.Update.Task
		}
		for _, e := range op.Events {
			s.seq++
			e.Seq = s.seq
		}
	}
	return out, nil
}

func (s *free) Task(_ context.Context, _, id string) (messages.Task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.open[id]
	if !ok {
		return t, persistence.ErrNotFound
	}
	return t, nil
}

func (s *free) Tasks(context.Context, persistence.TaskFilter, string, int) ([]messages.Task, string, error) {
	return nil, "", nil
}
func (s *free) OpenTasks(context.Context, string, string, int) ([]messages.Task, bool, error) {
	return nil, false, nil
}
func (s *free) Sessions(context.Context, string, string, string, int) ([]messages.Session, error) {
	return nil, nil
}
func (s *free) MaxSeq(context.Context, string) (int64, error) { return 0, nil }

// instant is a gateway that answers every run at once, without a socket.
type instant struct {
	gateway.Link // what is not below is never asked
	done         chan struct{}
	once         sync.Once
}

func (l *instant) Hello() *openclaw.Hello {
	return &openclaw.Hello{BootID: "boot", Version: "2026.9.6", Protocol: 4}
}
func (l *instant) Done() <-chan struct{} { return l.done }
func (l *instant) Err() error            { return openclaw.ErrClosed }
func (l *instant) Close()                { l.once.Do(func() { close(l.done) }) }
func (l *instant) Agent(r openclaw.AgentRequest, on func(openclaw.AgentAnswer)) error {
	on(openclaw.AgentAnswer{Kind: openclaw.AnswerAccepted, RunID: r.RunID})
	on(openclaw.AgentAnswer{Kind: openclaw.AnswerFinal, RunID: r.RunID, Text: "done"})
	return nil
}
func (l *instant) Sessions(context.Context, openclaw.SessionQuery) (openclaw.SessionPage, error) {
	return openclaw.SessionPage{}, nil
}
func (l *instant) DeleteSession(context.Context, string) (bool, error) { return true, nil }
func (l *instant) Teardown(context.Context, openclaw.TeardownRequest) openclaw.TeardownReport {
	return openclaw.TeardownReport{Stopped: true}
}
func (l *instant) ConfigState(context.Context) (openclaw.ConfigState, error) {
	return openclaw.ConfigState{}, nil
}
func (l *instant) SystemInfo(context.Context) (openclaw.SystemInfo, error) {
	return openclaw.SystemInfo{}, nil
}
func (l *instant) Lanes(context.Context) ([]openclaw.Lane, error) { return nil, nil }

// freeNode is a node with one pool and instant gateways on the free store;
// ended is called for every task that has ended.
func freeNode(tb testing.TB, gateways, slots int, ended func()) *dispatch.Client {
	tb.Helper()
	store, logger := &free{open: map[string]messages.Task{}}, slog.New(slog.DiscardHandler)
	node, err := actors.Start(tb.Context(), actors.Config{
		Commit: commit.Config{Store: store, Logger: logger, Publish: func(events []*messages.Event) {
			for _, e := range events {
				if e.GetTask().GetState() == "succeeded" {
					ended()
				}
			}
		}},
		Logger: logger, Fatal: func(err error) { tb.Error(err) },
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		stop, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		if err := node.Stop(stop); err != nil {
			tb.Error(err)
		}
	})
	for i := range messages.Shards {
		fence := messages.Fence{Scope: messages.ShardScope, Key: strconv.Itoa(i), Owner: "n1", Epoch: 1}
		if err := node.AddShard(tb.Context(), fence); err != nil {
			tb.Fatal(err)
		}
	}
	err = node.AddPool(tb.Context(), dispatch.Config{
		Pool:  messages.Pool{ID: messages.DefaultPool, Tenant: messages.DefaultTenant},
		Store: store, Committer: node.Committer(), Logger: logger,
	})
	if err != nil {
		tb.Fatal(err)
	}
	pool := func(context.Context, string) (*actor.PID, error) {
		pid, _ := node.Pool(messages.DefaultPool)
		return pid, nil
	}
	for i := range gateways {
		id := "gw-" + strconv.Itoa(i)
		err := node.AddGateway(tb.Context(), gateway.Config{
			Gateway: messages.Gateway{ID: id, Tenant: messages.DefaultTenant, Pool: messages.DefaultPool,
				URL: "ws://127.0.0.1:1/", MaxConcurrency: slots, Weight: 1},
			Fence: messages.Fence{Scope: messages.GatewayScope, Key: id, Owner: "n1", Epoch: 1},
			Store: store, Committer: node.Committer(), Logger: logger,
			Pool:    func(id string) *actor.PID { pid, _ := node.Pool(id); return pid },
			History: func(context.Context, string, string) (string, error) { return "", nil },
			Dial: func(context.Context, openclaw.Config, openclaw.Handler) (gateway.Link, error) {
				return &instant{done: make(chan struct{})}, nil
			},
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	return &dispatch.Client{
		Send: node.Root(), Pool: pool, Store: store,
		Entry: func(ctx context.Context, _, id string) (*actor.PID, func(), error) {
			pid, err := pool(ctx, id)
			return pid, func() {}, err
		},
	}
}

// BenchmarkActorsNoStore: submit and complete through the actors alone. The
// store takes every write at once, so what is left is what a task costs a
// node beside its store, in time and in CPU.
func BenchmarkActorsNoStore(b *testing.B) {
	for _, producers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("producers=%d", producers), func(b *testing.B) {
			var wg sync.WaitGroup
			wg.Add(b.N)
			c := freeNode(b, 8, 64, wg.Done)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			began := cpu(b)
			for range producers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						_, _, err := c.Submit(b.Context(), messages.DefaultPool, dispatch.Submit{Task: messages.Task{
							ID: messages.NewID(), Tenant: messages.DefaultTenant, Pool: messages.DefaultPool, Class: messages.High,
							Spec: &messages.TaskSpec{Message: "hello", TimeoutSeconds: 600, MaxAttempts: 3}, CreatedAt: messages.Now(),
						}})
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
			b.ReportMetric(float64((cpu(b)-began).Microseconds())/float64(b.N), "cpu-us/task")
		})
	}
}

// cpu is the processor time that this process has used.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
