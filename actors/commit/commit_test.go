package commit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/go-cmp/cmp"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// gated is a store whose commits wait to be let through, one by one.
type gated struct {
	let chan error // the next commit's result
	in  chan []persistence.Op

	mu  sync.Mutex
	seq int64
}

func newGated() *gated {
	return &gated{let: make(chan error), in: make(chan []persistence.Op, 100)}
}

func (g *gated) Commit(ctx context.Context, batch []persistence.Op) ([]persistence.Outcome, error) {
	g.in <- batch
	select {
	case err := <-g.let:
		if err != nil {
			return nil, err
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]persistence.Outcome, len(batch))
	for i, op := range batch {
		out[i].Status = persistence.OK
		if op.Cancel != nil { // stands for an op whose compare fails
			out[i].Status = persistence.Conflict
			continue
		}
		for _, e := range op.Events {
			g.seq++
			e.Seq = g.seq
		}
	}
	return out, nil
}

type fixture struct {
	t         *testing.T
	store     *gated
	system    *actor.ActorSystem
	pid       *actor.PID
	me        *actor.PID
	done      chan commit.Done
	published chan []*messages.Event
}

func start(t *testing.T, change func(*commit.Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, store: newGated(), done: make(chan commit.Done, 100), published: make(chan []*messages.Event, 100)}
	f.system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
	cfg := commit.Config{Store: f.store, Logger: slog.New(slog.DiscardHandler), Publish: func(e []*messages.Event) { f.published <- e }}
	if change != nil {
		change(&cfg)
	}
	f.pid = f.system.Root.Spawn(commit.Props(cfg))
	f.me = f.system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		if d, ok := c.Message().(commit.Done); ok {
			f.done <- d
		}
	}))
	t.Cleanup(func() {
		_ = f.system.Root.StopFuture(f.pid).Wait() // its own limit is 10 s
		f.system.Shutdown()
	})
	return f
}

func (f *fixture) request(tag string, failFast bool) {
	f.system.Root.Send(f.pid, commit.Request{ReplyTo: f.me, Tag: tag, FailFast: failFast,
		Op: persistence.Op{Events: []*messages.Event{{Subject: tag}}}})
}

func get[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

func subjects(ops []persistence.Op) (out []string) {
	for _, op := range ops {
		out = append(out, op.Events[0].Subject)
	}
	return out
}

func TestBatchGrowsWhileTheLastOneIsUnderWay(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.request("a", true)
	get(t, f.store.in, "the first batch")
	for _, tag := range []string{"b", "c", "d"} {
		f.request(tag, true)
	}
	f.store.let <- nil
	if diff := cmp.Diff(subjects(get(t, f.store.in, "the second batch")), []string{"b", "c", "d"}); diff != "" {
		t.Errorf("second batch (-got +want):\n%s", diff)
	}
	f.store.let <- nil
	for _, want := range []string{"a", "b", "c", "d"} {
		if d := get(t, f.done, "answer"); d.Tag != want || d.Err != nil || d.Outcome.Status != persistence.OK {
			t.Fatalf("answer = %+v, want %s", d, want)
		}
	}
	if e := get(t, f.published, "events"); len(e) != 1 || e[0].Seq != 1 {
		t.Errorf("published %v", e)
	}
}

func TestSkippedOpsPublishNothing(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.system.Root.Send(f.pid, commit.Request{ReplyTo: f.me, Tag: "x", Op: persistence.Op{
		Cancel: &persistence.CancelRequest{}, Events: []*messages.Event{{Subject: "x"}}}})
	get(t, f.store.in, "the batch")
	f.store.let <- nil
	if d := get(t, f.done, "answer"); d.Outcome.Status != persistence.Conflict {
		t.Fatalf("answer = %+v", d)
	}
	select {
	case e := <-f.published:
		t.Fatalf("published %v of a skipped op", e)
	default:
	}
	// Its neighbours in a batch are published without it.
	requests := commit.Requests{}
	for _, subject := range []string{"a", "skipped", "b"} {
		r := commit.Request{Op: persistence.Op{Events: []*messages.Event{{Subject: subject}}}}
		if subject == "skipped" {
			r.Op.Cancel = &persistence.CancelRequest{}
		}
		requests = append(requests, r)
	}
	f.system.Root.Send(f.pid, requests)
	get(t, f.store.in, "the mixed batch")
	f.store.let <- nil
	var got []string
	for _, e := range get(t, f.published, "its events") {
		got = append(got, e.Subject)
	}
	if diff := cmp.Diff(got, []string{"a", "b"}); diff != "" {
		t.Errorf("published (-got +want):\n%s", diff)
	}
}

// TestStoreDown: who can tell a client is told at once; the rest is kept in
// order and written when the store is back.
func TestStoreDown(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.request("result-1", false)
	get(t, f.store.in, "the first batch")
	f.request("submit", true)
	f.request("result-2", false)
	full := errors.New("disk full")
	f.store.let <- full
	if d := get(t, f.done, "refusal"); d.Tag != "submit" || !errors.Is(d.Err, full) {
		t.Fatalf("first answer = %+v, want the submit's refusal", d)
	}
	if diff := cmp.Diff(subjects(get(t, f.store.in, "the retry")), []string{"result-1", "result-2"}); diff != "" {
		t.Errorf("retry (-got +want):\n%s", diff)
	}
	f.store.let <- nil
	for _, want := range []string{"result-1", "result-2"} {
		if d := get(t, f.done, want); d.Tag != want || d.Err != nil {
			t.Fatalf("answer = %+v, want %s", d, want)
		}
	}
	f.request("submit-2", true)
	get(t, f.store.in, "work as before")
	f.store.let <- nil
	if d := get(t, f.done, "submit-2"); d.Err != nil {
		t.Fatalf("after recovery: %v", d.Err)
	}
}

// TestRecoveryNeedsNobody: a failed batch that held nothing but fail-fast
// operations leaves nothing to try again. What comes afterwards and may wait is
// written all the same, without anybody who is in a hurry.
func TestRecoveryNeedsNobody(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.request("submit", true)
	get(t, f.store.in, "the first batch")
	f.store.let <- errors.New("store is away")
	if d := get(t, f.done, "refusal"); d.Err == nil {
		t.Fatalf("answer = %+v", d)
	}
	time.Sleep(3 * commit.RetryAfter) // a pause that was armed is over, with nothing to write
	f.request("result", false)
	get(t, f.store.in, "the result")
	f.store.let <- errors.New("still away")
	get(t, f.store.in, "the result's second try")
	f.store.let <- nil
	if d := get(t, f.done, "result"); d.Tag != "result" || d.Err != nil {
		t.Fatalf("answer = %+v", d)
	}
}

// TestUnknownOutcome: while nobody knows what became of a batch, it is asked
// for again, the same slice, and nobody gets an answer that may be false; who
// comes now is refused at once.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.request("submit", true)
	first := get(t, f.store.in, "the first batch")
	f.store.let <- fmt.Errorf("connection lost: %w", persistence.ErrUnknown)
	again := get(t, f.store.in, "the same batch")
	if &first[0] != &again[0] {
		t.Error("the batch was built anew, the store cannot know it again")
	}
	f.request("late", true)
	if d := get(t, f.done, "refusal"); d.Tag != "late" || !errors.Is(d.Err, persistence.ErrUnavailable) {
		t.Fatalf("first answer = %+v, want the refusal of the late one", d)
	}
	f.store.let <- fmt.Errorf("still down: %w", persistence.ErrUnknown)
	get(t, f.store.in, "the same batch")
	f.store.let <- nil
	if d := get(t, f.done, "answer"); d.Tag != "submit" || d.Err != nil || d.Outcome.Status != persistence.OK {
		t.Fatalf("answer = %+v", d)
	}
	f.request("next", true)
	get(t, f.store.in, "work as before")
	f.store.let <- nil
	if d := get(t, f.done, "next"); d.Err != nil {
		t.Fatalf("after recovery: %v", d.Err)
	}
}

// TestDoubtRefusesWhoQueues: who cannot wait and is not in the batch whose
// outcome is unknown is told at once, also when it came before the doubt.
func TestDoubtRefusesWhoQueues(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.request("submit", true)
	get(t, f.store.in, "the first batch")
	f.request("queued", true)
	f.request("result", false)
	f.store.let <- fmt.Errorf("connection lost: %w", persistence.ErrUnknown)
	if d := get(t, f.done, "refusal"); d.Tag != "queued" || !errors.Is(d.Err, persistence.ErrUnavailable) {
		t.Fatalf("first answer = %+v, want the refusal of the queued one", d)
	}
	get(t, f.store.in, "the same batch")
	f.store.let <- nil
	get(t, f.store.in, "what may wait")
	f.store.let <- nil
	for _, want := range []string{"submit", "result"} {
		if d := get(t, f.done, want); d.Tag != want || d.Err != nil {
			t.Fatalf("answer = %+v, want %s", d, want)
		}
	}
}

// TestOldest: the age counts from the arrival of the oldest operation, over
// all tries, and ends with its answer.
func TestOldest(t *testing.T) {
	t.Parallel()
	m := commit.NewMetrics(nil)
	f := start(t, func(c *commit.Config) { c.Metrics = m })
	if got := m.Oldest(); got != 0 {
		t.Errorf("nothing waits for %v", got)
	}
	began := time.Now()
	f.request("result", false)
	get(t, f.store.in, "the first try")
	f.request("later", false)
	f.store.let <- errors.New("away")
	get(t, f.store.in, "the second try")
	if got, most := m.Oldest(), time.Since(began); got < commit.RetryAfter || got > most {
		t.Errorf("the oldest waits for %v, want %v to %v", got, commit.RetryAfter, most)
	}
	f.store.let <- nil
	get(t, f.done, "the first answer")
	get(t, f.done, "the second answer")
	for deadline := time.Now().Add(10 * time.Second); m.Oldest() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("all is answered, and the oldest waits for %v", m.Oldest())
		}
	}
}

func TestTooMuchWaits(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *commit.Config) { c.MaxPending = 1 })
	f.request("a", true)
	get(t, f.store.in, "the first batch")
	f.request("b", true)
	f.request("c", true)
	if d := get(t, f.done, "refusal"); d.Tag != "c" || !errors.Is(d.Err, commit.ErrBusy) || !errors.Is(d.Err, persistence.ErrUnavailable) {
		t.Fatalf("answer = %+v", d)
	}
	f.store.let <- nil
	get(t, f.store.in, "the second batch")
	f.store.let <- nil
}

func TestStopAnswersWhatWaits(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.request("a", false)
	get(t, f.store.in, "the batch")
	f.request("b", false)
	f.system.Root.Poison(f.pid) // after what is in the mailbox
	for range 2 {
		if d := get(t, f.done, "answer"); !errors.Is(d.Err, commit.ErrStopped) {
			t.Fatalf("answer = %+v", d)
		}
	}
}

// TestPanicLosesNoAnswer: whoever waits hears of it, also if the committer
// fails over the batch that it was about to answer.
func TestPanicLosesNoAnswer(t *testing.T) {
	t.Parallel()
	first := true
	f := start(t, func(c *commit.Config) {
		c.Publish = func([]*messages.Event) {
			if first {
				first = false
				panic("a watcher's bug")
			}
		}
	})
	f.request("a", false)
	get(t, f.store.in, "the batch")
	f.request("b", false)
	f.store.let <- nil
	for _, want := range []string{"a", "b"} {
		if d := get(t, f.done, want); d.Tag != want || !errors.Is(d.Err, commit.ErrStopped) {
			t.Fatalf("answer = %+v, want %s stopped", d, want)
		}
	}
	f.request("c", false)
	get(t, f.store.in, "work as before")
	f.store.let <- nil
	if d := get(t, f.done, "c"); d.Err != nil {
		t.Fatalf("after the restart: %v", d.Err)
	}
}

// What is asked for together is written together and answered together, in order.
func TestRequestsShareABatch(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	answers := make(chan commit.Dones, 10)
	probe := f.system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		if d, ok := c.Message().(commit.Dones); ok {
			answers <- d
		}
	}))
	var both commit.Requests
	for _, tag := range []string{"insert", "claim"} {
		both = append(both, commit.Request{ReplyTo: probe, Tag: tag, FailFast: true,
			Op: persistence.Op{Events: []*messages.Event{{Subject: tag}}}})
	}
	f.system.Root.Send(f.pid, both)
	if diff := cmp.Diff(subjects(get(t, f.store.in, "the batch")), []string{"insert", "claim"}); diff != "" {
		t.Errorf("batch (-got +want):\n%s", diff)
	}
	f.store.let <- nil
	got := get(t, answers, "the answers")
	if len(got) != 2 || got[0].Tag != "insert" || got[1].Tag != "claim" || got[0].Err != nil || got[1].Err != nil {
		t.Fatalf("answers %+v", got)
	}
	// A store that is down answers them one by one, in order too.
	f.system.Root.Send(f.pid, both)
	get(t, f.store.in, "the second batch")
	f.store.let <- errors.New("disk full")
	for _, want := range []string{"insert", "claim"} {
		if d := get(t, answers, "a refusal"); len(d) != 1 || d[0].Tag != want || d[0].Err == nil {
			t.Fatalf("answer %+v, want a refusal of %s", d, want)
		}
	}
}
