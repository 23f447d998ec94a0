package dispatch

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// nullStore makes every operation durable at once and keeps nothing.
type nullStore struct{ *memory }

func (nullStore) Commit(_ context.Context, batch []persistence.Op) ([]persistence.Outcome, error) {
	out := make([]persistence.Outcome, len(batch))
	for i := range out {
		out[i].Status = persistence.OK
	}
	return out, nil
}

func (nullStore) OpenTasks(context.Context, string, string, int) ([]messages.Task, bool, error) {
	return nil, false, nil
}

// noop is a gateway's owner that ends every run at once.
func (b *bench) noop(id string, window int, ended chan<- struct{}) *actor.PID {
	running := map[messages.ClaimRef]bool{}
	return b.system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		switch m := ctx.Message().(type) {
		case *actor.Started, *actor.ReceiveTimeout:
			d := messages.Demand{Gateway: id, Tenant: "default", Pool: "default", Owner: "node-1", Epoch: 1, Window: window}
			for r := range running {
				d.Running = append(d.Running, r)
			}
			ctx.Request(b.pool, d)
			ctx.SetReceiveTimeout(messages.DemandInterval)
		case *messages.Assign:
			running[messages.ClaimRef{Task: m.Task.ID, Claim: m.Task.Claim}] = true
			end := m.Task
			end.State, end.StartedAt = messages.Succeeded, messages.Now()
			end.FinishedAt = end.StartedAt
			ctx.Send(b.committer, commit.Request{ReplyTo: ctx.Self(), Tag: end, Op: persistence.Op{
				Update: &persistence.TaskUpdate{Task: end, From: messages.Claimed, FromClaim: end.Claim},
				Events: []*messages.Event{end.Event(messages.Claimed, end.FinishedAt, "")},
			}})
		case commit.Done:
			end := m.Tag.(messages.Task)
			delete(running, messages.ClaimRef{Task: end.ID, Claim: end.Claim})
			ctx.Send(b.pool, &messages.Ended{Task: end})
			ended <- struct{}{}
		}
	}))
}

// BenchmarkPool is a task's whole way: admission, commit, order, claim,
// assignment, end; with a store that costs nothing and gateways that run
// nothing.
func BenchmarkPool(b *testing.B) {
	for name, producers := range map[string]int{"producers=1": 1, "producers=64": 64} {
		b.Run(name, func(b *testing.B) {
			p := openBench(b, newMemory(), nil, nullStore{newMemory()})
			ended := make(chan struct{}, 1<<20)
			p.noop("gw-1", 64, ended)
			p.noop("gw-2", 64, ended)
			ctx := context.Background()
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			cpu := cpuTime()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range producers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, _, err := p.client.Submit(ctx, "default", Submit{Task: newTask(messages.Medium, "")}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			for range b.N {
				<-ended
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
			b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkReadBack is a restart with 100,000 queued tasks: until the pool
// serves, and what the tasks cost in memory.
func BenchmarkReadBack(b *testing.B) {
	const queued = 100_000
	store := newMemory()
	for i := range queued {
		t := newTask(messages.Classes[i%4], "")
		t.Pool, t.State, t.Seq, t.CreatedAt = "default", messages.Queued, int64(i+1), messages.Now()
		store.tasks[t.ID] = t
	}
	rows := paged{memory: store, rows: store.rows(func(*messages.Task) bool { return true })}
	for b.Loop() {
		before := heapBytes()
		began := time.Now()
		p := openBench(b, store, nil, rows)
		if s := p.stats(); s.Open != queued {
			b.Fatalf("%d tasks", s.Open)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/restart")
		b.ReportMetric(float64(heapBytes()-before)/queued, "B/task")
		_ = p.system.Root.StopFuture(p.pool).Wait()
	}
}

// paged serves its rows in pages without the cost of sorting a map each time.
type paged struct {
	*memory
	rows []messages.Task
}

func (p paged) OpenTasks(_ context.Context, _, after string, limit int) ([]messages.Task, bool, error) {
	i := 0
	for after != "" && i < len(p.rows) && p.rows[i].ID <= after {
		i++
	}
	return p.rows[i:min(len(p.rows), i+limit)], i+limit < len(p.rows), nil
}

// cpuTime is what the process has used; other processes do not count.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
