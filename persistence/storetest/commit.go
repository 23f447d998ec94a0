package storetest

import (
	"context"
	"errors"
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

var commitTests = map[string]func(*testing.T, Engine){
	"insert keeps every field":             insertKeepsFields,
	"update replaces the mutable fields":   updateReplaces,
	"insert of a taken id is a conflict":   insertTakenID,
	"idempotency key":                      idempotencyKey,
	"idempotency key in one batch":         idempotencyInBatch,
	"idempotency key is asked for":         idempotencyAsked,
	"update compares state and claim":      updateCompares,
	"unknown task is missing":              unknownIsMissing,
	"cancel sets the flag once":            cancelOnce,
	"cancel flag survives updates":         cancelSurvives,
	"unless cancelled":                     unlessCancelled,
	"clear cancel":                         clearCancel,
	"failed op leaves its neighbours":      neighbours,
	"later ops see earlier ones":           laterSeeEarlier,
	"an op is all or nothing":              allOrNothing,
	"an op without meaning is refused":     withoutMeaning,
	"fence must hold":                      fenceMustHold,
	"context":                              endedContext,
	"empty batch":                          func(t *testing.T, e Engine) { must(t, e) },
	"text that is not UTF-8":               notUTF8,
	"texts of all kinds":                   texts,
	"gateway status is the last written":   gatewayStatus,
	"ping":                                 ping,
	"restart keeps all":                    restartKeeps,
	"replay of a dead letter":              replay,
	"max seq grows also by updates":        maxSeq,
	"conflict carries the row of its turn": conflictRow,
}

func updateReplaces(t *testing.T, e Engine) {
	a := newTask()
	must(t, e, insert(a))
	b := claimed(a, "gw-1")
	b.Seq, b.Generation, b.BootID, b.ObservedRunID, b.Replays = a.Seq+100, 3, "boot", "run-x", 4
	b.ReplayedBy, b.ReplayedAt = "a-request", messages.Now()
	b.DueAt, b.NotAfter, b.StartedAt = messages.Now(), messages.Now(), messages.Now()
	b.Stopping, b.Cancel.Confirmed = messages.StopDeadline, messages.Unconfirmed
	b.Error = &messages.TaskError{Code: "c", Message: "m", Retryable: true}
	must(t, e, update(b, messages.Queued, 0))
	stored(t, e, b)
	c := b
	c.State, c.Gateway, c.BootID, c.Error, c.DueAt = messages.Queued, "", "", nil, a.DueAt
	must(t, e, update(c, messages.Claimed, 1))
	stored(t, e, c)
	if n, err := Count(t.Context(), e.Store(), persistence.TaskFilter{Code: "c"}); err != nil || n != 0 {
		t.Errorf("the error of before is still found: %d, %v", n, err)
	}
	d := ended(claimed(c, "gw-2"), messages.Succeeded)
	must(t, e, update(d, messages.Queued, 1))
	stored(t, e, d)
	// What never changes after submit is not taken from an update.
	f := d
	f.Spec, f.Class, f.CreatedAt, f.Session = &messages.TaskSpec{Message: "other"}, messages.Low, f.CreatedAt.Add(1e9), "s-9"
	must(t, e, update(f, messages.Succeeded, 2))
	stored(t, e, d)
}

func idempotencyAsked(t *testing.T, e Engine) {
	a, b := newTask(), newTask()
	must(t, e, keyed(a, "k", "body"))
	ask := func(key string) persistence.Op {
		op := keyed(b, key, "body")
		op.Session = &persistence.SessionWrite{Session: messages.Session{Tenant: b.Tenant, ID: b.ID, Pool: b.Pool}, FromGeneration: -2}
		return op
	}
	out := one(t, e, ask("k"), persistence.Duplicate)
	if same(t, out.Current, &a); !out.SameBody {
		t.Error("same body was not recognised")
	}
	one(t, e, ask("new"), persistence.Conflict)
	if _, err := e.Store().Task(t.Context(), "", b.ID); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("the question was stored as a task: %v", err)
	}
	if _, err := e.Store().Session(t.Context(), b.Tenant, b.ID); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("the question was stored as a session: %v", err)
	}
	must(t, e, keyed(b, "new", "body"))
}

func updateCompares(t *testing.T, e Engine) {
	a := newTask()
	must(t, e, insert(a))
	b := claimed(a, "gw")
	same(t, one(t, e, update(b, messages.RetryWait, 0), persistence.Conflict).Current, &a)
	same(t, one(t, e, update(b, messages.Queued, 1), persistence.Conflict).Current, &a)
	must(t, e, update(b, messages.Queued, 0))
	same(t, one(t, e, update(b, messages.Queued, 0), persistence.Conflict).Current, &b)
	c := ended(b, messages.Succeeded)
	must(t, e, update(c, messages.Claimed, 1))
	same(t, one(t, e, update(ended(b, messages.DeadLetter), messages.Claimed, 1), persistence.Conflict).Current, &c)
}

func unknownIsMissing(t *testing.T, e Engine) {
	a := newTask()
	one(t, e, update(a, messages.Queued, 0), persistence.Missing)
	one(t, e, cancel(a, "r"), persistence.Missing)
	must(t, e, insert(a))
	b := a
	b.Tenant = "acme"
	one(t, e, cancel(b, "r"), persistence.Missing)
	if _, err := e.Store().Task(t.Context(), "acme", a.ID); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("task of another tenant: %v", err)
	}
}

func neighbours(t *testing.T, e Engine) {
	a, b, c := newTask(), newTask(), newTask()
	must(t, e, insert(b))
	out := commit(t, e, insert(a), update(b, messages.Running, 5), insert(b), insert(c), update(newTask(), messages.Queued, 0))
	want := []persistence.Status{persistence.OK, persistence.Conflict, persistence.Conflict, persistence.OK, persistence.Missing}
	for i, o := range out {
		if o.Status != want[i] {
			t.Errorf("op %d: %v, want %v", i, o.Status, want[i])
		}
	}
	stored(t, e, a)
	stored(t, e, b)
	stored(t, e, c)
}

func laterSeeEarlier(t *testing.T, e Engine) {
	a := newTask()
	b := claimed(a, "gw")
	c := b
	c.State = messages.Running
	d := ended(c, messages.Succeeded)
	must(t, e, insert(a), update(b, messages.Queued, 0), update(c, messages.Claimed, 1), update(d, messages.Running, 1))
	stored(t, e, d)
	if open, _, err := e.Store().OpenTasks(t.Context(), "default", "", 10); err != nil || len(open) != 0 {
		t.Errorf("open %v, %v", ids(open), err)
	}
}

func allOrNothing(t *testing.T, e Engine) {
	a := newTask()
	a.Session = "s"
	session := persistence.SessionWrite{Session: messages.Session{Tenant: "default", ID: "s", Pool: "default", State: messages.SessionBusy}, FromGeneration: 5}
	op := insert(a)
	op.Session = &session
	op.Events = []*messages.Event{a.Event(0, messages.Now(), "")}
	op.Gateway = &messages.GatewayStatus{ID: "gw"}
	one(t, e, op, persistence.Conflict)
	if _, err := e.Store().Task(t.Context(), "", a.ID); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("task of a failed op: %v", err)
	}
	if list, err := e.Store().GatewayStatuses(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("status of a failed op: %v, %v", list, err)
	}
	if seq, err := e.Store().LastSeq(t.Context()); err != nil || seq != 0 || op.Events[0].Seq != 0 {
		t.Errorf("event of a failed op: last %d, given %d, %v", seq, op.Events[0].Seq, err)
	}
	must(t, e, insert(a))
	up := update(claimed(a, "gw"), messages.Queued, 0)
	up.Session = &session
	same(t, one(t, e, up, persistence.Conflict).Current, &a)
	stop := cancel(a, "stop")
	stop.Session = &session
	same(t, one(t, e, stop, persistence.Conflict).Current, &a)
	bad := update(claimed(a, "gw"), messages.Running, 3)
	bad.Session = &persistence.SessionWrite{Session: session.Session, FromGeneration: -1}
	one(t, e, bad, persistence.Conflict)
	if _, err := e.Store().Session(t.Context(), "default", "s"); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("session of a failed op: %v", err)
	}
	stored(t, e, a)
}

func withoutMeaning(t *testing.T, e Engine) {
	a, b := newTask(), newTask()
	op := insert(a)
	op.Cancel = &persistence.CancelRequest{Tenant: "default", Task: a.ID}
	nameless, homeless := newTask(), newTask()
	nameless.ID, homeless.Tenant = "", ""
	for what, op := range map[string]persistence.Op{
		"an insert and a cancel": op, "a task without an id": insert(nameless), "a task without a tenant": insert(homeless),
	} {
		if _, err := e.Store().Commit(t.Context(), []persistence.Op{insert(b), op}); messages.CodeOf(err) != messages.CodeInvalid {
			t.Errorf("an op with %s: %v", what, err)
		}
	}
	if _, err := e.Store().Task(t.Context(), "", b.ID); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("something of a failed batch was kept: %v", err)
	}
}

func fenceMustHold(t *testing.T, e Engine) {
	shard, gw := take(t, e, messages.ShardScope, "1", "n-1"), take(t, e, messages.GatewayScope, "1", "n-2")
	op := func(fences ...messages.Fence) persistence.Op {
		o := insert(newTask())
		o.Fences = fences
		return o
	}
	must(t, e, op(shard), op(shard, gw))
	for name, bend := range map[string]func(*messages.Fence){
		"epoch before": func(f *messages.Fence) { f.Epoch-- }, "epoch after": func(f *messages.Fence) { f.Epoch++ },
		"owner": func(f *messages.Fence) { f.Owner = "n-2" }, "no owner": func(f *messages.Fence) { f.Owner = "" },
		"key": func(f *messages.Fence) { f.Key = "2" }, "scope": func(f *messages.Fence) { f.Scope = messages.GatewayScope },
	} {
		f := shard
		bend(&f)
		out := commit(t, e, op(f), op(shard), op(gw, f))
		if out[0].Status != persistence.Fenced || out[1].Status != persistence.OK || out[2].Status != persistence.Fenced {
			t.Errorf("wrong %s: %v", name, out)
		}
	}
	if err := e.Store().Release(t.Context(), shard); err != nil {
		t.Fatal(err)
	}
	one(t, e, op(shard), persistence.Fenced)
	empty := shard
	empty.Owner = ""
	one(t, e, op(empty), persistence.Fenced)
}

func endedContext(t *testing.T, e Engine) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	a := newTask()
	if _, err := e.Store().Commit(ctx, []persistence.Op{insert(a)}); !errors.Is(err, context.Canceled) {
		t.Errorf("commit: %v", err)
	}
	if _, err := e.Store().Task(t.Context(), "", a.ID); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("kept under an ended context: %v", err)
	}
	if _, err := e.Store().Task(ctx, "", a.ID); !errors.Is(err, context.Canceled) {
		t.Errorf("task: %v", err)
	}
	if _, _, err := e.Store().Tasks(ctx, persistence.TaskFilter{}, "", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("tasks: %v", err)
	}
	must(t, e, insert(a))
}

func gatewayStatus(t *testing.T, e Engine) {
	a := messages.GatewayStatus{
		ID: "gw-b", Tenant: "default", Owner: "n", Epoch: 3, State: messages.GatewayReady, Reason: "r", NextStep: "s", BootID: "b", Version: "v",
		Window: 4, Running: 2, Restarts: 1, PID: 77, Since: messages.Now(),
	}
	b := messages.GatewayStatus{ID: "gw-a", Tenant: "acme"}
	c := a
	c.State, c.Running = messages.GatewayDraining, 1
	must(t, e, persistence.Op{Gateway: &a}, persistence.Op{Gateway: &b}, persistence.Op{Gateway: &c})
	got, err := e.Store().GatewayStatuses(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, []messages.GatewayStatus{b, c})
}

func ping(t *testing.T, e Engine) {
	if err := e.Store().Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func restartKeeps(t *testing.T, e Engine) {
	a, b := newTask(), newTask()
	b.Session = "s"
	s := messages.Session{Tenant: "default", ID: "s", Pool: "default", Gateway: "gw", Generation: 2, Replay: true, State: messages.SessionBusy, Reason: "r",
		NextStep: "n", Restarts: 3, Labels: map[string]string{"a": "b"}, CreatedAt: messages.Now(), UpdatedAt: messages.Now()}
	must(t, e, insert(a), persistence.Op{Insert: &persistence.TaskInsert{Task: b}, Events: []*messages.Event{b.Event(0, messages.Now(), "")},
		Session: &persistence.SessionWrite{Session: s, AnyGeneration: true}, Gateway: &messages.GatewayStatus{ID: "gw"}})
	e.Restart(t)
	stored(t, e, a)
	stored(t, e, b)
	got, err := e.Store().Session(t.Context(), "default", "s")
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, s)
	if n, err := e.Store().LastSeq(t.Context()); err != nil || n != 1 {
		t.Errorf("last seq %d, %v", n, err)
	}
	if n, err := e.Store().MaxSeq(t.Context(), "default"); err != nil || n != max(a.Seq, b.Seq) {
		t.Errorf("max seq %d, %v", n, err)
	}
	must(t, e, update(claimed(a, "gw"), messages.Queued, 0))
	if list, err := e.Store().GatewayStatuses(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("statuses %v, %v", list, err)
	}
}

func replay(t *testing.T, e Engine) {
	a := newTask()
	dead := ended(claimed(a, "gw"), messages.DeadLetter)
	must(t, e, insert(a), update(dead, messages.Queued, 0))
	b := dead
	b.State, b.Error, b.FinishedAt, b.Seq = messages.Queued, nil, a.FinishedAt, a.Seq+1000
	must(t, e, update(b, messages.DeadLetter, 1))
	stored(t, e, b)
	open, _, err := e.Store().OpenTasks(t.Context(), "default", "", 10)
	if err != nil {
		t.Fatal(err)
	}
	same(t, open, []messages.Task{b})
	if n, err := Count(t.Context(), e.Store(), persistence.TaskFilter{Code: dead.Error.Code}); err != nil || n != 0 {
		t.Errorf("the error of the life before is still found: %d, %v", n, err)
	}
}

func maxSeq(t *testing.T, e Engine) {
	want := func(pool string, n int64) {
		t.Helper()
		if got, err := e.Store().MaxSeq(t.Context(), pool); err != nil || got != n {
			t.Fatalf("max seq of %s: %d, %v, want %d", pool, got, err, n)
		}
	}
	want("default", 0)
	a := newTask()
	a.Seq = 5
	b := a
	b.Seq = 9
	must(t, e, insert(a))
	want("default", 5)
	must(t, e, update(b, messages.Queued, 0))
	want("default", 9)
	c := newTask()
	c.Seq, c.Pool = 3, "p2"
	d := newTask()
	d.Seq, d.ID = 99, a.ID // refused: must not count
	commit(t, e, insert(c), insert(d))
	want("default", 9)
	want("p2", 3)
	must(t, e, update(a, messages.Queued, 0)) // never shrinks
	e.Restart(t)
	want("default", 9)
}

func conflictRow(t *testing.T, e Engine) {
	a := newTask()
	b := claimed(a, "gw")
	c := b
	c.State = messages.Running
	must(t, e, insert(a))
	out := commit(t, e, update(b, messages.Queued, 0), update(b, messages.Queued, 0), update(c, messages.Claimed, 1))
	same(t, out[1].Current, &b)
	stored(t, e, c)
}
