package sqlite

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"golang.org/x/sys/unix"
)

// BenchmarkCommit measures whole lives of tasks: insert, claim, running and
// end, each durable in its own batch and each with its event, under a shard
// and a gateway fence. The figure to read is tasks/s.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) { benchLives(b, size, "") })
	}
	b.Run("batch=64/session", func(b *testing.B) { benchLives(b, 64, "s") })
}

func benchLives(b *testing.B, size int, session string) {
	db, err := Open(b.Context(), Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	}()
	fillLog(b, db)
	fences := benchFences(b, db)
	spec := &messages.TaskSpec{Message: "Summarise the incident of last night in three sentences.", TimeoutSeconds: 600, MaxAttempts: 3}
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime(b)
	for done := 0; done < b.N; done += size {
		tasks := make([]messages.Task, min(size, b.N-done))
		for i := range tasks {
			tasks[i] = messages.Task{
				ID: messages.NewID(), Tenant: "default", Pool: "default", Class: messages.High, Seq: int64(done + i + 1),
				State: messages.Queued, Spec: spec, CreatedAt: messages.Now(),
			}
			if session != "" {
				tasks[i].Session = fmt.Sprintf("%s-%d", session, i)
			}
		}
		benchLife(b, db, fences, tasks)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
	b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-µs/task")
	b.ReportMetric(0, "ns/op")
}

// cpuTime is what this process has used, which other load on the machine
// distorts less than the wall clock.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkProducers has producers that each take one task at a time through
// insert, claim and end, and wait for every commit, in front of a committer
// that drains its whole mailbox into one batch: what the actors do.
func BenchmarkProducers(b *testing.B) {
	for _, n := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("producers=%d", n), func(b *testing.B) { benchProducers(b, n) })
	}
}

// fillLog brings the log to the length that it has after the first seconds of load.
func fillLog(b *testing.B, db *DB) {
	f := startFiller(b.Context(), db.cfg, db.w)
	<-f.done
	f.stop()
}

type pending struct {
	op   persistence.Op
	done chan persistence.Status
}

func benchProducers(b *testing.B, producers int) {
	db, err := Open(b.Context(), Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	fillLog(b, db)
	fences := benchFences(b, db)
	mailbox := make(chan pending, producers)
	var committer, all sync.WaitGroup
	committer.Go(func() { benchCommitter(b, db, mailbox) })
	var next atomic.Int64
	b.ResetTimer()
	cpu := cpuTime(b)
	for range producers {
		all.Go(func() {
			done := make(chan persistence.Status, 1)
			for next.Add(1) <= int64(b.N) {
				benchOne(b, fences, func(op persistence.Op) {
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
	b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-µs/task")
	b.ReportMetric(0, "ns/op")
	close(mailbox)
	committer.Wait()
	if err := db.Close(); err != nil {
		b.Error(err)
	}
}

func benchCommitter(b *testing.B, db *DB, mailbox chan pending) {
	for first := range mailbox {
		batch := []pending{first}
		for more := true; more && len(batch) < 1024; {
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

var benchSpec = &messages.TaskSpec{Message: "Summarise the incident of last night in three sentences.", TimeoutSeconds: 600, MaxAttempts: 3}

func benchOne(_ *testing.B, fences []messages.Fence, commit func(persistence.Op)) {
	t := messages.Task{ID: messages.NewID(), Tenant: "default", Pool: "default", Class: messages.High, Seq: 1, State: messages.Queued, Spec: benchSpec, CreatedAt: messages.Now()}
	commit(persistence.Op{Fences: fences[:1], Insert: &persistence.TaskInsert{Task: t}, Events: []*messages.Event{t.Event(0, t.CreatedAt, "")}})
	for _, to := range []messages.TaskState{messages.Claimed, messages.Succeeded} {
		from, claim := t.State, t.Claim
		if t.State = to; to == messages.Claimed {
			t.Claim, t.Attempt, t.Gateway, t.ClaimedAt = 1, 1, "gw-1", messages.Now()
		} else {
			t.Result, t.FinishedAt = &messages.TaskResult{Text: "The database was full. It was enlarged.", InputTokens: 120, OutputTokens: 14}, messages.Now()
		}
		commit(persistence.Op{Fences: fences, Update: &persistence.TaskUpdate{Task: t, From: from, FromClaim: claim}, Events: []*messages.Event{t.Event(from, messages.Now(), "")}})
	}
}

func benchFences(b *testing.B, db *DB) []messages.Fence {
	var fences []messages.Fence
	for scope, key := range map[messages.Scope]string{messages.ShardScope: "7", messages.GatewayScope: "gw-1"} {
		f, err := db.Take(b.Context(), scope, key, "node-1")
		if err != nil {
			b.Fatal(err)
		}
		fences = append(fences, f)
	}
	return fences
}

// benchLife takes a batch of tasks through its four commits.
func benchLife(b *testing.B, db *DB, fences []messages.Fence, tasks []messages.Task) {
	ops := make([]persistence.Op, len(tasks))
	for i := range tasks {
		t := tasks[i]
		ops[i] = persistence.Op{Fences: fences, Insert: &persistence.TaskInsert{Task: t}, Events: []*messages.Event{t.Event(0, t.CreatedAt, "")}}
	}
	mustCommit(b, db, ops)
	step := func(change func(t *messages.Task)) {
		for i := range tasks {
			t := &tasks[i]
			from, claim := t.State, t.Claim
			change(t)
			ops[i] = persistence.Op{
				Fences: fences, Update: &persistence.TaskUpdate{Task: *t, From: from, FromClaim: claim, UnlessCancelled: from == messages.Queued},
				Events: []*messages.Event{t.Event(from, time.Now(), "")},
			}
			if t.Session != "" && t.State != messages.Running {
				ops[i].Session = &persistence.SessionWrite{AnyGeneration: true, Session: messages.Session{
					Tenant: t.Tenant, ID: t.Session, Pool: t.Pool, Gateway: t.Gateway, State: messages.SessionBusy, CreatedAt: t.CreatedAt, UpdatedAt: t.CreatedAt,
				}}
			}
		}
		mustCommit(b, db, ops)
	}
	step(func(t *messages.Task) {
		t.State, t.Claim, t.Attempt, t.Gateway, t.ClaimedAt = messages.Claimed, 1, 1, "gw-1", messages.Now()
	})
	step(func(t *messages.Task) { t.State, t.BootID, t.StartedAt = messages.Running, "boot-1", messages.Now() })
	result := &messages.TaskResult{Text: "The database was full. It was enlarged. Nothing was lost.", InputTokens: 120, OutputTokens: 14}
	step(func(t *messages.Task) {
		t.State, t.Result, t.FinishedAt = messages.Succeeded, result, messages.Now()
	})
}

func mustCommit(tb testing.TB, db *DB, ops []persistence.Op) {
	tb.Helper()
	out, err := db.Commit(context.Background(), ops)
	if err != nil {
		tb.Fatal(err)
	}
	for i, o := range out {
		if o.Status != persistence.OK {
			tb.Fatalf("op %d: %v", i, o.Status)
		}
	}
}
