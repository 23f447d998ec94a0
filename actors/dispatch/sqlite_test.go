package dispatch

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/sqlite"
	"github.com/dash-fleet/dash/persistence/storetest"
)

// TestOnARealStore drives sessions, retries, moves of state and a restart of
// the group over the embedded store.
func TestOnARealStore(t *testing.T) {
	t.Parallel()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	ctx := context.Background()
	if _, err = db.Renew(ctx, messages.Node{ID: "node-1"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	shard, err := db.Take(ctx, messages.ShardScope, "7", "node-1")
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := db.Take(ctx, messages.GatewayScope, "gw-1", "node-1")
	if err != nil {
		t.Fatal(err)
	}
	b := openBench(t, nil, func(c *Config) {
		c.Store, c.Fence = db, shard
	}, db)
	var ids []string
	for i := range 60 {
		task := newTask(messages.Classes[i%4], "")
		if i%2 == 0 {
			task.Session = fmt.Sprintf("s-%d", i%3)
		}
		if i%10 == 3 {
			task.DueAt = messages.Now().Add(time.Duration(i) * 10 * time.Millisecond)
		}
		ids = append(ids, b.submit(task).ID)
	}
	b.crash(0)
	w := newSQLWorker(b, gateway.Epoch)
	b.crash(messages.Low)
	b.eventually("all tasks succeeded", func() bool {
		n, err := storetest.Count(ctx, db, persistence.TaskFilter{States: []messages.TaskState{messages.Succeeded}})
		return err == nil && n == len(ids)
	})
	for _, id := range ids {
		row, err := db.Task(ctx, "", id)
		if err != nil || row.Claim != 2 || row.Attempt != 2 {
			t.Errorf("task %s: claim %d attempt %d, %v; want one retry", id, row.Claim, row.Attempt, err)
		}
	}
	b.eventually("nothing open", func() bool { return b.stats().Open == 0 })
	s, err := b.client.MoveSession(b.ctx(), "default", "s-0", "", false)
	if err != nil || renewals(&s) != 1 {
		t.Fatalf("move: %+v, %v", s, err)
	}
	_ = b.system.Root.StopFuture(w).Wait()
}

// newSQLWorker is a gateway's owner on the committer: the first attempt of
// each task ends with a retry.
func newSQLWorker(b *bench, epoch int64) *actor.PID {
	runs := map[messages.ClaimRef]bool{}
	seen := map[messages.ClaimRef]bool{}
	demand := func(ctx actor.Context) {
		d := messages.Demand{Gateway: "gw-1", Tenant: "default", Pool: "default", Owner: "node-1", Epoch: epoch, Window: 8}
		for r := range runs {
			d.Running = append(d.Running, r)
		}
		ctx.Request(b.pool, d)
	}
	return b.system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		switch m := ctx.Message().(type) {
		case *actor.Started:
			demand(ctx)
			ctx.SetReceiveTimeout(200 * time.Millisecond)
		case *actor.ReceiveTimeout:
			demand(ctx)
		case *messages.Assign:
			ref := messages.ClaimRef{Task: m.Task.ID, Claim: m.Task.Claim}
			if seen[ref] {
				return
			}
			seen[ref], runs[ref] = true, true
			end := m.Task
			end.State, end.StartedAt, end.FinishedAt = messages.Succeeded, messages.Now(), messages.Now()
			if end.Attempt == 1 {
				end.State, end.FinishedAt, end.DueAt = messages.RetryWait, time.Time{}, messages.Now().Add(20*time.Millisecond)
			}
			ctx.Send(b.committer, commit.Request{ReplyTo: ctx.Self(), Tag: end, Op: persistence.Op{
				Update: &persistence.TaskUpdate{Task: end, From: messages.Claimed, FromClaim: end.Claim},
			}})
		case commit.Done:
			end := m.Tag.(messages.Task)
			delete(runs, messages.ClaimRef{Task: end.ID, Claim: end.Claim})
			ctx.Send(b.pool, &messages.Ended{Task: end})
		}
	}))
}
