package postgres

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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
// insert, claim (two fences) and end, each with its event, and wait for every
// commit, in front of a committer that drains its whole mailbox into one batch:
// what the actors do. The server runs with fsync; the figure to read is tasks/s.
func BenchmarkProducers(b *testing.B) {
	for _, n := range []int{1, 8, 64, 512} {
		b.Run(fmt.Sprintf("producers=%d", n), func(b *testing.B) { benchProducers(b, n) })
	}
}

// BenchmarkCommit measures whole lives of tasks in batches of one size: insert,
// claim and end, each durable in a commit of its own.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{1, 64, 256, 1024} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			db, fences := benchStore(b)
			cpu := startCPU(b)
			for b.Loop() {
				benchLives(b, db, fences, size)
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "tasks/s")
			cpu.report(b, b.N*size)
		})
	}
}

func benchLives(b *testing.B, db *DB, fences []messages.Fence, size int) {
	ops := make([][]persistence.Op, 3)
	for range size {
		step := 0
		benchOne(fences, func(op persistence.Op) { ops[step] = append(ops[step], op); step++ })
	}
	for _, batch := range ops {
		out, err := db.Commit(b.Context(), batch)
		if err != nil {
			b.Fatal(err)
		}
		for i, o := range out {
			if o.Status != persistence.OK {
				b.Fatalf("op %d: %v", i, o.Status)
			}
		}
	}
}

type pending struct {
	op   persistence.Op
	done chan persistence.Status
}

func benchStore(b *testing.B) (*DB, []messages.Fence) {
	db := openTest(b, testConfig(b))
	var fences []messages.Fence
	for scope, key := range map[messages.Scope]string{messages.ShardScope: "7", messages.GatewayScope: "gw-1"} {
		f, err := db.Take(b.Context(), scope, key, "node-1")
		if err != nil {
			b.Fatal(err)
		}
		fences = append(fences, f)
	}
	return db, fences
}

func benchProducers(b *testing.B, producers int) {
	db, fences := benchStore(b)
	mailbox := make(chan pending, producers)
	var committer, all sync.WaitGroup
	committer.Go(func() { benchCommitter(b, db, mailbox) })
	var next atomic.Int64
	b.ResetTimer()
	cpu := startCPU(b)
	for range producers {
		all.Go(func() {
			done := make(chan persistence.Status, 1)
			for next.Add(1) <= int64(b.N) {
				benchOne(fences, func(op persistence.Op) {
					if mailbox <- (pending{op, done}); <-done != persistence.OK {
						b.Error("not ok")
					}
				})
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
	cpu.report(b, b.N)
	b.ReportMetric(0, "ns/op")
	close(mailbox)
	committer.Wait()
}

func benchCommitter(b *testing.B, db *DB, mailbox chan pending) {
	for first := range mailbox {
		batch := []pending{first}
		for more := true; more && len(batch) < 2048; {
			select {
			case p := <-mailbox:
				batch = append(batch, p)
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

// cpuTimes are the processor times at the start of a measurement: of this
// process, and of all processes of the server.
type cpuTimes struct{ client, server time.Duration }

func startCPU(b *testing.B) cpuTimes {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return cpuTimes{time.Duration(u.Utime.Nano() + u.Stime.Nano()), serverCPU(b)}
}

func (c cpuTimes) report(b *testing.B, tasks int) {
	now := startCPU(b)
	b.ReportMetric(float64((now.client-c.client).Nanoseconds())/1000/float64(tasks), "client-µs/task")
	b.ReportMetric(float64((now.server-c.server).Nanoseconds())/1000/float64(tasks), "server-µs/task")
}

// serverCPU adds up the postmaster, its children and those that have ended, in
// steps of 10 ms.
func serverCPU(b *testing.B) time.Duration {
	text, err := os.ReadFile(filepath.Join(testserver.Postgres(b).Dir(), "postmaster.pid"))
	if err != nil {
		b.Fatal(err)
	}
	master, _, _ := strings.Cut(string(text), "\n")
	children, err := os.ReadFile(filepath.Join("/proc", master, "task", master, "children"))
	if err != nil {
		b.Fatal(err)
	}
	ticks := 0
	for i, pid := range append([]string{master}, strings.Fields(string(children))...) {
		stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
		if err != nil {
			continue // it has just ended
		}
		fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))[11:15]
		if i > 0 {
			fields = fields[:2]
		}
		for _, f := range fields {
			n, err := strconv.Atoi(f)
			if err != nil {
				b.Fatal(err)
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

var benchSpec = &messages.TaskSpec{Message: "Summarise the incident of last night in three sentences.", TimeoutSeconds: 600, MaxAttempts: 3}

func benchOne(fences []messages.Fence, commit func(persistence.Op)) {
	t := messages.Task{ID: messages.NewID(), Tenant: "default", Pool: "default", Class: messages.High, Seq: 1, State: messages.Queued, Spec: benchSpec, CreatedAt: messages.Now()}
	commit(persistence.Op{Fences: fences[:1], Insert: &persistence.TaskInsert{Task: t}, Events: []*messages.Event{t.Event(0, t.CreatedAt, "")}})
	for _, to := range []messages.TaskState{messages.Claimed, messages.Succeeded} {
		from, claim := t.State, t.Claim
		if t.State = to; to == messages.Claimed {
			t.Claim, t.Attempt, t.Gateway, t.ClaimedAt = 1, 1, "gw-1", messages.Now()
		} else {
			t.Result, t.FinishedAt = &messages.TaskResult{Text: "The database was full. It was enlarged.", InputTokens: 120, OutputTokens: 14}, messages.Now()
		}
		commit(persistence.Op{Fences: fences, Update: &persistence.TaskUpdate{Task: t, From: from, FromClaim: claim, UnlessCancelled: from == messages.Queued}, Events: []*messages.Event{t.Event(from, messages.Now(), "")}})
	}
}
