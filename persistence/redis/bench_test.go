package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/testserver"
	"golang.org/x/sys/unix"
)

// BenchmarkProducers has producers that each take one task at a time through
// insert, claim, running and end, each with its event and under its fences, and
// wait for every commit but that of RUNNING, in front of a committer that
// drains its whole mailbox into one batch: what the actors do. The server runs
// with appendfsync always. Read tasks/s and redis-µs/task, the server's CPU.
func BenchmarkProducers(b *testing.B) {
	for _, n := range []int{1, 8, 64, 512} {
		b.Run(fmt.Sprintf("producers=%d", n), func(b *testing.B) { benchProducers(b, n, nil) })
	}
	b.Run("producers=64/history", func(b *testing.B) { benchProducers(b, 64, newMemory()) })
}

type pending struct {
	op   persistence.Op
	done chan persistence.Status
}

func benchProducers(b *testing.B, producers int, history History) {
	server := testserver.Redis(b)
	db := openTest(b, Config{URL: server.Database(b), History: history})
	fences := benchFences(b, db)
	mailbox := make(chan pending, 4*producers)
	var committer, all sync.WaitGroup
	committer.Go(func() { benchCommitter(b, db, mailbox) })
	var next atomic.Int64
	b.ResetTimer()
	own, redis := ownCPU(b), redisCPU(b, server)
	for range producers {
		all.Go(func() {
			for next.Add(1) <= int64(b.N) {
				benchOne(b, fences, mailbox)
			}
		})
	}
	all.Wait()
	b.StopTimer()
	benchReport(b, server, own, redis)
	close(mailbox)
	committer.Wait()
	closeDB(b, db)
}

// benchReport tells what a task cost since the readings.
func benchReport(b *testing.B, server *testserver.RedisServer, own, redis time.Duration) {
	b.Helper()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
	b.ReportMetric(float64((ownCPU(b)-own).Microseconds())/float64(b.N), "own-µs/task")
	b.ReportMetric(float64((redisCPU(b, server)-redis).Microseconds())/float64(b.N), "redis-µs/task")
	b.ReportMetric(0, "ns/op")
}

// ownCPU is what this process has used, which other load on the machine
// distorts less than the wall clock.
func ownCPU(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func redisCPU(b testing.TB, server *testserver.RedisServer) (sum time.Duration) {
	info, err := server.Do(b.Context(), "INFO", "cpu")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(info) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), ":")
		if k == "used_cpu_sys" || k == "used_cpu_user" {
			s, err := strconv.ParseFloat(v, 64)
			if err != nil {
				b.Fatal(err)
			}
			sum += time.Duration(s * float64(time.Second))
		}
	}
	return sum
}

func benchCommitter(b *testing.B, db *DB, mailbox chan pending) {
	for first := range mailbox {
		batch := []pending{first}
		for more := true; more && len(batch) < 1024; {
			select {
			case p, ok := <-mailbox:
				if more = ok; ok {
					batch = append(batch, p)
				}
			default:
				more = false
			}
		}
		ops := make([]persistence.Op, len(batch))
		for i := range batch {
			ops[i] = batch[i].op
		}
		out, err := db.Commit(context.Background(), ops)
		if err != nil {
			b.Error(err)
			out = make([]persistence.Outcome, len(ops))
		}
		for i := range batch {
			batch[i].done <- out[i].Status
		}
	}
}

var benchSpec = &messages.TaskSpec{Message: "Summarise the incident of last night in three sentences.", TimeoutSeconds: 600, MaxAttempts: 3}

func benchOne(b *testing.B, fences []messages.Fence, mailbox chan<- pending) {
	done := make(chan persistence.Status, 4)
	commit := func(wait int, op persistence.Op) {
		mailbox <- pending{op, done}
		for range wait {
			if s := <-done; s != persistence.OK {
				b.Errorf("not ok: %v", s)
			}
		}
	}
	t, op := benchInsert(fences)
	commit(1, op)
	commit(1, benchStep(fences, &t, messages.Claimed))
	commit(0, benchStep(fences, &t, messages.Running))
	commit(2, benchStep(fences, &t, messages.Succeeded))
}

func benchInsert(fences []messages.Fence) (messages.Task, persistence.Op) {
	t := messages.Task{ID: messages.NewID(), Tenant: "default", Pool: "default", Class: messages.High, Seq: 1, State: messages.Queued, Spec: benchSpec, CreatedAt: messages.Now()}
	return t, persistence.Op{Fences: fences[:1], Insert: &persistence.TaskInsert{Task: t}, Events: []*messages.Event{t.Event(0, t.CreatedAt, "")}}
}

// benchStep moves t on and returns the op that makes it durable.
func benchStep(fences []messages.Fence, t *messages.Task, to messages.TaskState) persistence.Op {
	from, claim := t.State, t.Claim
	switch t.State = to; to {
	case messages.Claimed:
		t.Claim, t.Attempt, t.Gateway, t.ClaimedAt = 1, 1, "gw-1", messages.Now()
	case messages.Running:
		t.BootID, t.StartedAt = "boot-1", messages.Now()
	default:
		t.Result, t.FinishedAt = &messages.TaskResult{Text: "The database was full. It was enlarged.", InputTokens: 120, OutputTokens: 14}, messages.Now()
	}
	return persistence.Op{Fences: fences, Update: &persistence.TaskUpdate{Task: *t, From: from, FromClaim: claim}, Events: []*messages.Event{t.Event(from, messages.Now(), "")}}
}

func benchFences(tb testing.TB, db *DB) []messages.Fence {
	var fences []messages.Fence
	for _, k := range []struct {
		scope messages.Scope
		key   string
	}{{messages.ShardScope, "7"}, {messages.GatewayScope, "gw-1"}} {
		f, err := db.Take(tb.Context(), k.scope, k.key, "node-1")
		if err != nil {
			tb.Fatal(err)
		}
		fences = append(fences, f)
	}
	return fences
}
