package dispatch

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// crash makes one actor of the pool panic on its turn.
func (b *bench) crash(class messages.Class) {
	b.system.Root.Send(b.pool, again{func(ctx actor.Context) {
		if class == 0 {
			panic("a bug in the arbiter actor")
		}
		ctx.Send(ctx.Actor().(*broker).classes[class], admitted{})
	}})
}

// worker is a gateway's owner that runs what it gets and keeps the rules of
// the mailbox: it drops repeated claims and tells only what is durable.
type worker struct {
	b      *bench
	id     string
	window int
	pid    *actor.PID
	rng    *rand.Rand
	seen   map[messages.ClaimRef]bool
	runs   map[messages.ClaimRef]bool

	mu     sync.Mutex
	starts map[string][]int64 // task -> claims that were executed
	most   int
}

type (
	workerDone   struct{ task messages.Task }
	workerDemand struct{}
)

func (b *bench) worker(id string, window int, seed uint64) *worker {
	w := &worker{
		b: b, id: id, window: window, rng: rand.New(rand.NewPCG(seed, 1)),
		seen: map[messages.ClaimRef]bool{}, runs: map[messages.ClaimRef]bool{}, starts: map[string][]int64{},
	}
	b.system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor { return w }))
	return w
}

func (w *worker) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		w.pid = ctx.Self()
		w.demand(ctx)
		w.later(messages.DemandInterval, workerDemand{})
	case workerDemand:
		w.demand(ctx)
		w.later(messages.DemandInterval, workerDemand{})
	case *messages.Assign:
		ref := messages.ClaimRef{Task: m.Task.ID, Claim: m.Task.Claim}
		if w.seen[ref] {
			return
		}
		w.seen[ref], w.runs[ref] = true, true
		w.mu.Lock()
		w.starts[ref.Task] = append(w.starts[ref.Task], ref.Claim)
		w.most = max(w.most, len(w.runs))
		w.mu.Unlock()
		w.later(time.Duration(1+w.rng.IntN(40))*time.Millisecond, workerDone{m.Task})
	case workerDone:
		w.done(ctx, m.task)
	}
}

func (w *worker) done(ctx actor.Context, t messages.Task) {
	end := t
	end.State, end.StartedAt, end.FinishedAt = messages.Succeeded, messages.Now(), messages.Now()
	out, err := w.b.store.Commit(context.Background(), []persistence.Op{{
		Update: &persistence.TaskUpdate{Task: end, From: messages.Claimed, FromClaim: t.Claim},
		Events: []*messages.Event{end.Event(messages.Claimed, end.FinishedAt, "")},
	}})
	if err != nil {
		w.later(20*time.Millisecond, workerDone{t})
		return
	}
	delete(w.runs, messages.ClaimRef{Task: t.ID, Claim: t.Claim})
	if out[0].Status == persistence.OK {
		ctx.Send(w.b.pool, &messages.Ended{Task: end})
	}
	w.demand(ctx)
}

func (w *worker) demand(ctx actor.Context) {
	ctx.Request(w.b.pool, messages.Demand{
		Gateway: w.id, Tenant: "default", Pool: "default", Owner: "node-1", Epoch: 1, Window: w.window,
		Running: slices.Collect(maps.Keys(w.runs)),
	})
}

func (w *worker) later(d time.Duration, m any) {
	root, pid := w.b.system.Root, w.pid
	time.AfterFunc(d, func() { root.Send(pid, m) })
}

// persist submits until it is told that the task is durable.
func (b *bench) persist(t messages.Task, key string) {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, _, err := b.client.Submit(ctx, "default", Submit{Task: t, IdemKey: key, IdemHash: []byte("h")})
		cancel()
		if err == nil {
			return
		}
		if c := messages.CodeOf(err); c != messages.CodeUnavailable && c != messages.CodeTimeout {
			b.Errorf("submit: %v", err)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestCrashesLoseAndDoubleNothing restarts the group again and again while
// clients submit, gateways run, and the store fails now and then.
func TestCrashesLoseAndDoubleNothing(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			play(t, nil, func(t *testing.T, b *bench) { crashes(t, b, seed) })
		})
	}
}

func crashes(t *testing.T, b *bench, seed uint64) {
	const clients, each = 8, 60
	rng := rand.New(rand.NewPCG(seed, 2))
	workers := []*worker{b.worker("gw-1", 3, seed), b.worker("gw-2", 5, seed+100)}
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := range each {
				session := ""
				if i%3 == 0 {
					session = fmt.Sprintf("s-%d", c)
				}
				b.persist(newTask(messages.Classes[(c+i)%4], session), fmt.Sprintf("%d-%d", c, i))
			}
		})
	}
	for range 25 {
		time.Sleep(time.Duration(20+rng.IntN(120)) * time.Millisecond)
		switch rng.IntN(4) {
		case 0:
			b.store.set(func(m *memory) { m.err = persistence.ErrUnavailable })
			time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond)
			b.store.set(func(m *memory) { m.err = nil })
		case 1:
			b.crash(messages.Classes[rng.IntN(4)])
		default:
			b.crash(0)
		}
	}
	wg.Wait()
	time.Sleep(2 * time.Minute) // sweeps and repeated claims included
	synctest.Wait()
	rows := b.store.rows(func(*messages.Task) bool { return true })
	if len(rows) != clients*each {
		t.Errorf("%d tasks, want %d", len(rows), clients*each)
	}
	for _, row := range rows {
		runs := slices.Concat(workers[0].starts[row.ID], workers[1].starts[row.ID])
		if row.State != messages.Succeeded || row.Claim != 1 || len(runs) != 1 {
			t.Errorf("task %s is %s with claim %d and was executed by claims %v", row.ID, row.State, row.Claim, runs)
		}
	}
	for _, w := range workers {
		if w.most > w.window {
			t.Errorf("gateway %s held %d at once, its window is %d", w.id, w.most, w.window)
		}
	}
	if s := b.stats(); s.Open != 0 || s.Gateways[0].InFlight != 0 || s.Gateways[1].InFlight != 0 {
		t.Errorf("at rest: %+v", s)
	}
	for _, c := range b.stats().Classes {
		if c.Bytes != 0 || c.Queued != 0 || c.Admitted != 0 {
			t.Errorf("at rest: %+v", c)
		}
	}
	sessionOrder(t, b)
}

// sessionOrder checks in the log that no session had two tasks at once and
// that inside a session and class tasks were claimed in order.
func sessionOrder(t *testing.T, b *bench) {
	busy := map[string]string{}
	last := map[string]int64{}
	for _, e := range b.store.events {
		c := e.GetTask()
		if c == nil || c.Session == "" {
			continue
		}
		switch c.State {
		case "claimed":
			if other := busy[c.Session]; other != "" {
				t.Errorf("session %s: %s claimed while %s runs", c.Session, e.Subject, other)
			}
			busy[c.Session] = e.Subject
			if key := c.Session + c.Class; c.QueueSeq < last[key] {
				t.Errorf("session %s: seq %d claimed after %d", c.Session, c.QueueSeq, last[key])
			} else {
				last[key] = c.QueueSeq
			}
		case "succeeded":
			delete(busy, c.Session)
		}
	}
}

// TestStrictOrderOverOneSlot: 400 tasks of random classes that wait for a busy
// gateway are claimed strictly by class, and in order inside each.
func TestStrictOrderOverOneSlot(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		rng := rand.New(rand.NewPCG(7, 7))
		for range 400 {
			b.submit(newTask(messages.Classes[rng.IntN(4)], ""))
		}
		b.worker("gw-1", 1, 1)
		b.eventually("all ran", func() bool { return b.stats().Open == 0 })
		var class string
		var seq int64
		claims := 0
		order := map[string]int{"critical": 1, "high": 2, "medium": 3, "low": 4}
		for _, e := range b.store.events {
			if c := e.GetTask(); c != nil && c.State == "claimed" {
				claims++
				if order[c.Class] < order[class] || c.Class == class && c.QueueSeq < seq {
					t.Fatalf("%s %d after %s %d", c.Class, c.QueueSeq, class, seq)
				}
				class, seq = c.Class, c.QueueSeq
			}
		}
		if claims != 400 {
			t.Fatalf("%d claims", claims)
		}
	})
}

func TestReadsBackAndServes(t *testing.T) {
	t.Parallel()
	store := newMemory()
	var ops []persistence.Op
	for i := range 5000 {
		task := newTask(messages.Low, "")
		task.Pool, task.State, task.Seq, task.CreatedAt = "default", messages.Queued, int64(i+1), messages.Now()
		switch {
		case i == 0:
			task.State, task.Claim, task.Gateway = messages.Claimed, 1, "gw-1"
		case i == 1:
			task.State, task.DueAt = messages.RetryWait, messages.Now()
		case i == 2:
			task.Cancel.RequestedAt = messages.Now() // the owner before died between flag and act
		}
		ops = append(ops, persistence.Op{Insert: &persistence.TaskInsert{Task: task}})
	}
	if _, err := store.Commit(t.Context(), ops); err != nil {
		t.Fatal(err)
	}
	b := openBench(t, store, nil)
	task := b.submit(newTask(messages.Low, "")) // waits until the pool serves
	if task.Seq != 5001 {
		t.Fatalf("seq %d, want 5001", task.Seq)
	}
	first := ops[0].Insert.Task.ID
	g := b.gateway("gw-1")
	g.running[messages.ClaimRef{Task: first, Claim: 1}] = true // else the claim is given to it again after a second
	g.demand(2)
	if a := g.assign(); a.Task.ID != ops[1].Insert.Task.ID {
		t.Fatalf("assigned seq %d, want the retry", a.Task.Seq)
	}
	none2(g) // the claim read back holds the other slot
	b.eventually("the flag is acted on", func() bool { return b.row(ops[2].Insert.Task.ID).State == messages.Cancelled })
	g.end(&messages.Assign{Task: b.row(first)}, messages.Succeeded)
	if a := g.assign(); a.Task.Seq != 4 {
		t.Fatalf("assigned seq %d, want 4", a.Task.Seq)
	}
}

// none2 is none outside a bubble: the pool has answered a later request.
func none2(g *fakeGateway) {
	g.b.Helper()
	g.b.stats()
	select {
	case m := <-g.got:
		if a, ok := m.(*messages.Assign); ok {
			g.b.Fatalf("assigned %s", a.Task.ID)
		}
	default:
	}
}
