package dispatch

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

func TestCancelByState(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		waiting := b.submit(newTask(messages.Low, ""))
		got, err := b.client.Cancel(b.ctx(), "default", waiting.ID, "not needed")
		if err != nil || got.State != messages.Cancelled || got.Cancel.Confirmed != messages.Confirmed || got.Cancel.Reason != "not needed" {
			t.Fatalf("waiting: %+v, %v", got, err)
		}
		if got, err = b.client.Cancel(b.ctx(), "default", waiting.ID, "again"); err != nil || got.Cancel.Reason != "not needed" {
			t.Fatalf("cancelled already: %+v, %v", got, err)
		}
		g := b.gateway("gw-1")
		g.demand(1)
		none[*messages.Assign](g)

		running := b.submit(newTask(messages.Low, ""))
		a := g.assign()
		if got, err = b.client.Cancel(b.ctx(), "default", running.ID, "stop"); err != nil || !got.CancelRequested() {
			t.Fatalf("running: %+v, %v", got, err)
		}
		if s := nextOf[messages.StopRun](g); s.Task != running.ID || s.Claim != 1 {
			t.Fatalf("stop %+v", s)
		}
		b.pass(4*time.Second, g) // it was lost: it is said again
		nextOf[messages.StopRun](g)
		g.end(a, messages.Cancelled)
		synctest.Wait()
		if s := b.stats(); s.Open != 0 || s.Gateways[0].InFlight != 0 {
			t.Fatalf("stats %+v", s)
		}

		done := b.submit(newTask(messages.Low, ""))
		g.end(g.assign(), messages.Succeeded)
		synctest.Wait()
		if _, err = b.client.Cancel(b.ctx(), "default", done.ID, ""); messages.CodeOf(err) != messages.CodeWrongState {
			t.Fatalf("ended: %v", err)
		}
		if _, err = b.client.Cancel(b.ctx(), "default", "no-such", ""); messages.CodeOf(err) != messages.CodeNotFound {
			t.Fatalf("unknown: %v", err)
		}
	})
}

// TestCancelBeforeTheClaimIsNeverStarted: the flag is durable before the claim
// is written, but the pool has not heard of it yet.
func TestCancelBeforeTheClaimIsNeverStarted(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		task := b.submit(newTask(messages.Low, ""))
		out, err := b.store.Commit(b.ctx(), []persistence.Op{{Cancel: &persistence.CancelRequest{Tenant: "default", Task: task.ID, At: messages.Now()}}})
		if err != nil || out[0].Status != persistence.OK {
			t.Fatal(out, err)
		}
		g := b.gateway("gw-1")
		g.demand(1)
		none[*messages.Assign](g)
		wantRow(b, task.ID, messages.Cancelled, 0)
	})
}

func holdTask(b *bench, g *fakeGateway) messages.Task {
	task := newTask(messages.Low, "")
	task.Spec.OnUnknown = string(messages.Hold)
	task = b.submit(task)
	g.demand(1)
	g.assign()
	g.away = messages.Now()
	b.pass(70*time.Second, g)
	return task
}

func TestAwayGatewayHoldsAndReleases(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		g := b.gateway("gw-1")
		task := holdTask(b, g)
		row := wantRow(b, task.ID, messages.Held, 1)
		if w := nextOf[messages.Withdraw](g); w.Task != task.ID || w.Claim != 1 || !w.Held {
			t.Fatalf("withdraw %+v", w)
		}
		if s := b.stats(); s.Gateways[0].InFlight != 0 || s.Classes[3].Held != 1 {
			t.Fatalf("stats %+v", s)
		}
		if got, err := b.client.Release(b.ctx(), "default", task.ID, ReleaseRequeue); err != nil || got.State != messages.Queued || got.Seq != row.Seq {
			t.Fatalf("release: %+v, %v", got, err)
		}
		for w := nextOf[messages.Withdraw](g); w.Held; w = nextOf[messages.Withdraw](g) {
			_ = w // the void claim was listed meanwhile
		}
		if _, err := b.client.Release(b.ctx(), "default", task.ID, ReleaseFail); messages.CodeOf(err) != messages.CodeWrongState {
			t.Fatalf("second release: %v", err)
		}
	})
}

func TestHeldTaskEnds(t *testing.T) {
	ends := map[string]struct {
		do    func(*bench, *fakeGateway, messages.Task)
		state messages.TaskState
		code  messages.Code
	}{
		"by release": {func(b *bench, _ *fakeGateway, t messages.Task) {
			if _, err := b.client.Release(b.ctx(), "default", t.ID, ReleaseFail); err != nil {
				b.Fatal(err)
			}
		}, messages.DeadLetter, messages.CodeReleasedFailed},
		"by time": {func(b *bench, g *fakeGateway, _ messages.Task) { time.Sleep(24 * time.Hour) }, messages.DeadLetter, messages.CodeOutcomeUnknown},
		"by cancel": {func(b *bench, _ *fakeGateway, t messages.Task) {
			got, err := b.client.Cancel(b.ctx(), "default", t.ID, "")
			if err != nil || got.Cancel.Confirmed != messages.Unconfirmed {
				b.Fatal(got, err)
			}
		}, messages.Cancelled, ""},
		"by proof": {func(b *bench, g *fakeGateway, t messages.Task) {
			row := b.row(t.ID)
			row.Result = &messages.TaskResult{Text: "found in the transcript"}
			g.b.system.Root.Send(g.b.pool, messages.Proof{Task: row})
		}, messages.Succeeded, ""},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			play(t, nil, func(t *testing.T, b *bench) {
				g := b.gateway("gw-1")
				task := holdTask(b, g)
				held := wantRow(b, task.ID, messages.Held, 1)
				held.Claim--
				held.Result = &messages.TaskResult{Text: "of an earlier claim"}
				b.system.Root.Send(b.pool, messages.Proof{Task: held})
				wantRow(b, task.ID, messages.Held, 1)
				end.do(b, g, task)
				row := wantRow(b, task.ID, end.state, 1)
				if row.Error.GetCode() != string(end.code) {
					t.Fatalf("error %v, want %s", row.Error, end.code)
				}
				if s := b.stats(); s.Open != 0 {
					t.Fatalf("stats %+v", s)
				}
			})
		})
	}
}

func TestAwayGatewayRequeues(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		task := b.submit(newTask(messages.Low, ""))
		g, spare := b.gateway("gw-1"), b.gateway("gw-2")
		g.demand(1)
		a := g.assign()
		// What its owner wrote meanwhile is found by the conflict.
		running := a.Task
		running.State, running.BootID = messages.Running, "boot"
		_, err := b.store.Commit(b.ctx(), []persistence.Op{{Update: &persistence.TaskUpdate{Task: running, From: messages.Claimed, FromClaim: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		b.pass(30*time.Second, spare) // g is silent
		wantRow(b, task.ID, messages.Running, 1)
		b.pass(45*time.Second, spare)
		row := wantRow(b, task.ID, messages.Queued, 0)
		if row.Seq != task.Seq {
			t.Fatalf("seq %d, want %d", row.Seq, task.Seq)
		}
		nextOf[messages.Withdraw](g)
		spare.demand(1)
		moved := spare.assign()
		if moved.Task.Claim != 2 || moved.Task.Attempt != 1 || moved.Task.Generation == a.Task.Generation {
			t.Fatalf("moved as %+v", moved.Task)
		}
		g.demand(0) // it is back and still lists the void claim
		if w := nextOf[messages.Withdraw](g); w.Claim != 1 {
			t.Fatalf("withdraw %+v", w)
		}
	})
}

func TestReplay(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		g := b.gateway("gw-1")
		g.demand(1)
		var ids []string
		for range 5 {
			ids = append(ids, b.submit(newTask(messages.Low, "")).ID)
			g.end(g.assign(), messages.DeadLetter, func(t *messages.Task) { t.Error = &messages.TaskError{Code: "provider_rejected"} })
		}
		g.demand(0)
		synctest.Wait()
		got, _, err := b.client.Replay(b.ctx(), "default", ids[0], "")
		if err != nil || got.State != messages.Queued || got.Replays != 1 || got.Attempt != 0 || got.Seq <= 5 || got.Error != nil {
			t.Fatalf("replay: %+v, %v", got, err)
		}
		if _, _, err = b.client.Replay(b.ctx(), "default", ids[0], ""); messages.CodeOf(err) != messages.CodeWrongState {
			t.Fatalf("replay of a queued task: %v", err)
		}
		f := persistence.TaskFilter{Pool: "default"}
		if matched, done, err := b.client.ReplayAll(b.ctx(), f, "", true); matched != 4 || done != 0 || err != nil {
			t.Fatalf("dry run: %d %d %v", matched, done, err)
		}
		if matched, done, err := b.client.ReplayAll(b.ctx(), f, "", false); matched != 4 || done != 4 || err != nil {
			t.Fatalf("replay all: %d %d %v", matched, done, err)
		}
		if s := b.stats(); s.Classes[3].Queued != 5 || s.Classes[3].Admitted != 5 || s.Classes[3].Bytes != 25 {
			t.Fatalf("stats %+v", s.Classes[3])
		}
		g.demand(5)
		for range 5 {
			if a := g.assign(); a.Task.Claim != 2 || a.Task.Attempt != 1 {
				t.Fatalf("replayed as %+v", a.Task)
			}
		}
	})
}

// TestAReplayThatEndsEarlyCountsWhatItDid on the page where it ended, too.
func TestAReplayThatEndsEarlyCountsWhatItDid(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		g := b.gateway("gw-1")
		g.demand(1)
		for range 3 {
			b.submit(newTask(messages.Low, ""))
			g.end(g.assign(), messages.DeadLetter, func(t *messages.Task) { t.Error = &messages.TaskError{Code: "provider_rejected"} })
		}
		g.demand(0)
		synctest.Wait()
		away, asked := errors.New("away"), 0
		c := *b.client
		c.Entry = func(ctx context.Context, tenant, id string) (*actor.PID, func(), error) {
			if asked++; asked == 3 {
				return nil, nil, away
			}
			return b.client.Entry(ctx, tenant, id)
		}
		if matched, done, err := c.ReplayAll(b.ctx(), persistence.TaskFilter{}, "", false); matched != 2 || done != 2 || !errors.Is(err, away) {
			t.Errorf("%d matched, %d put back, %v", matched, done, err)
		}
	})
}

// TestARequestReplaysATaskOnce: repeated, it puts back what it did not, and leaves
// alone what it did, also where that became a dead letter again. After a day the
// name may be another request's.
func TestARequestReplaysATaskOnce(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		g := b.gateway("gw-1")
		die := func(n int) {
			t.Helper()
			g.demand(1)
			for range n {
				g.end(g.assign(), messages.DeadLetter, func(t *messages.Task) { t.Error = &messages.TaskError{Code: "provider_rejected"} })
			}
			g.demand(0)
			synctest.Wait()
		}
		replay := func(by string, want int) {
			t.Helper()
			for _, dry := range []bool{true, false} {
				if matched, done, err := b.client.ReplayAll(b.ctx(), persistence.TaskFilter{}, by, dry); matched != want || !dry && done != want || err != nil {
					t.Fatalf("replay by %q, dry run %v: %d matched, %d done, %v; want %d", by, dry, matched, done, err, want)
				}
			}
		}
		for range 3 {
			b.submit(newTask(messages.Low, ""))
		}
		die(3)
		replay("a", 3)
		die(3)
		replay("a", 0)
		late := b.submit(newTask(messages.Low, ""))
		die(1)
		replay("a", 1)
		die(1)
		if _, done, err := b.client.Replay(b.ctx(), "default", late.ID, "a"); done || err != nil {
			t.Errorf("one that it has replayed: %v, %v", done, err)
		}
		if row := wantRow(b, late.ID, messages.DeadLetter, 1); row.Replays != 1 {
			t.Errorf("%d replays", row.Replays)
		}
		if _, done, err := b.client.Replay(b.ctx(), "default", late.ID, ""); !done || err != nil {
			t.Errorf("a request without a name: %v, %v", done, err)
		}
		die(1)
		replay("b", 4)
		die(4)
		time.Sleep(24 * time.Hour)
		replay("b", 4)
	})
}

// TestReplayStartsWithoutTheCancelFlag of the life before, whose end was faster
// than the cancel.
func TestReplayStartsWithoutTheCancelFlag(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		g := b.gateway("gw-1")
		g.demand(1)
		task := b.submit(newTask(messages.Low, ""))
		a := g.assign()
		if _, err := b.client.Cancel(b.ctx(), "default", task.ID, "changed my mind"); err != nil {
			t.Fatal(err)
		}
		g.end(a, messages.DeadLetter)
		if row := b.row(task.ID); !row.CancelRequested() {
			t.Fatal("the dead letter has no flag: the test proves nothing")
		}
		g.demand(0)
		if _, _, err := b.client.Replay(b.ctx(), "default", task.ID, ""); err != nil {
			t.Fatal(err)
		}
		if row := wantRow(b, task.ID, messages.Queued, 0); row.CancelRequested() {
			t.Fatal("the replay has the flag of the life before")
		}
		g.demand(1)
		if a := g.assign(); a.Task.ID != task.ID || a.Task.Claim != 2 {
			t.Errorf("assigned %+v", a.Task)
		}
	})
}

// TestCancelAtAGatewayThatIsGone is told truthfully: nobody confirmed it.
func TestCancelAtAGatewayThatIsGone(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		g := b.gateway("gw-1")
		g.demand(2)
		lost, stopping := b.submit(newTask(messages.Low, "")), b.submit(newTask(messages.Low, ""))
		g.assign()
		a := g.assign()
		row := a.Task
		row.State, row.Stopping = messages.Cancelling, messages.StopCancel
		if _, err := b.store.Commit(b.ctx(), []persistence.Op{{
			Update: &persistence.TaskUpdate{Task: row, From: messages.Claimed, FromClaim: 1},
		}}); err != nil {
			t.Fatal(err)
		}
		for _, task := range []messages.Task{lost, stopping} {
			if _, err := b.client.Cancel(b.ctx(), "default", task.ID, "stop"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(75 * time.Second)
		got := wantRow(b, lost.ID, messages.Cancelled, 0)
		if got.Cancel.Confirmed != messages.Unconfirmed {
			t.Fatalf("confirmed: %d, want unconfirmed", got.Cancel.Confirmed)
		}
		wantRow(b, stopping.ID, messages.Cancelling, 1) // its owner ends it
	})
}
