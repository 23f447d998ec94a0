// Package commit holds the committer: the one actor that writes to a store
// connection. It drains whatever has arrived into one durable batch while the
// last batch is under way, so batches grow with load and nobody waits for a
// timer. It guarantees that operations reach the store, and answers reach
// their senders, in the order in which they were requested.
//
// The actor owns one goroutine that does the blocking Commit; it ends with the
// actor.
package commit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// Request asks for one operation to be made durable.
type Request struct {
	Op persistence.Op
	// FailFast: while the store is down the operation is answered with an
	// error at once, for callers that can tell a client to come back. Without
	// it the operation is kept and tried again until the store has taken it.
	FailFast bool
	// Follows: it stands or falls with one that the sender asked for before. While
	// the outcome of that one is in doubt it waits for it, FailFast or not.
	Follows bool
	ReplyTo *actor.PID // nil: nobody wants to know
	Tag     any        // comes back in Done

	grouped bool      // came in Requests
	came    time.Time // when the committer took it in
}

// Requests asks for several operations that belong together: those that fit
// are in one batch. They are answered by Dones.
type Requests []Request

// Done answers a Request. With Err set nothing is known to be durable; after
// ErrStopped it may be all the same, so the sender has to look.
type Done struct {
	Tag     any
	Outcome persistence.Outcome
	Err     error
}

// Dones answers Requests: what one batch did of them, in order, and of others
// of the same sender.
type Dones []Done

// Store is what the committer needs of a store.
type Store interface {
	Commit(ctx context.Context, batch []persistence.Op) ([]persistence.Outcome, error)
}

// Config of a committer. The zero value of a bound means its default.
type Config struct {
	Store  Store
	Logger *slog.Logger
	// Publish is handed the events of every durable batch in commit order. It
	// must not block.
	Publish func([]*messages.Event)
	Metrics *Metrics
	// MaxBatch bounds one commit, so that its time stays below the store's
	// deadline. Default 2048.
	MaxBatch int
	// MaxPending bounds what may wait; beyond it FailFast requests are refused.
	// The other requests are bounded by their senders (windows). Default 65536.
	MaxPending int
	// Timeout is the deadline of one commit. Default 15 s.
	Timeout time.Duration
	// Dispatcher runs the actor's turns; nil: protoactor's own.
	Dispatcher actor.Dispatcher
}

// ErrBusy: too much waits for the store.
var ErrBusy = fmt.Errorf("%w: too many operations wait for the store", persistence.ErrUnavailable)

// errInDoubt refuses what cannot wait until the outcome of a batch is known.
var errInDoubt = fmt.Errorf("%w: the outcome of the last batch is not known yet", persistence.ErrUnavailable)

// ErrStopped: the committer ended before it knew the operation to be durable.
var ErrStopped = errors.New("committer stopped")

// maxBatchBytes bounds the texts of one batch: results of hundreds of runs that
// ended while the store was away are more than any store takes at once, and the
// same batch would be refused for ever.
const maxBatchBytes = 32 << 20

// retryAfter is the pause between tries while the store is down.
const retryAfter = 200 * time.Millisecond

// Props returns the committer's props.
func Props(cfg Config) *actor.Props {
	if cfg.MaxBatch == 0 {
		cfg.MaxBatch = 2048
	}
	if cfg.MaxPending == 0 {
		cfg.MaxPending = 65536
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 15 * time.Second
	}
	if cfg.Publish == nil {
		cfg.Publish = func([]*messages.Event) {}
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	var opts []actor.PropsOption
	if cfg.Dispatcher != nil {
		opts = append(opts, actor.WithDispatcher(cfg.Dispatcher))
	}
	return actor.PropsFromProducer(func() actor.Actor { return &committer{cfg: cfg} }, opts...)
}

type committer struct {
	life
	cfg     Config
	pending []Request
	batch   []Request // what the worker has, nil when it is idle
	durable []Request // the batch that is being answered
	spare   []Request // room of an earlier batch
	halves  halving
	said    time.Time // when the log was last told of an invalid operation
	work    chan []persistence.Op
	cancel  context.CancelFunc
}

// flushed is the worker's answer; work tells the worker of an earlier
// incarnation from the present one.
type flushed struct {
	work     <-chan []persistence.Op
	outcomes []persistence.Outcome
	err      error
}

// retry ends the pause after a failed commit.
type retry struct{ work <-chan []persistence.Op }

// doubt says that the outcome of the batch under way could not be learned yet.
type doubt struct {
	work <-chan []persistence.Op
	err  error
}

func (c *committer) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		c.start(ctx)
	case Request:
		c.add(ctx, m)
		c.came(ctx, m.FailFast)
	case Requests:
		failFast := false
		for _, r := range m {
			r.grouped = true
			c.add(ctx, r)
			failFast = failFast || r.FailFast
		}
		c.came(ctx, failFast)
	case flushed:
		c.finish(ctx, m)
	case doubt:
		c.doubt(ctx, m)
	case retry:
		if m.work == c.work {
			c.next(ctx, due)
		}
	case *actor.Stopping, *actor.Restarting:
		c.stop(ctx)
	}
}

func (c *committer) start(ctx actor.Context) {
	runCtx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	c.work = make(chan []persistence.Op, 1)
	go c.run(runCtx, c.work, ctx.ActorSystem().Root, ctx.Self())
}

// run commits batch after batch until the channel is closed.
func (c *committer) run(ctx context.Context, work <-chan []persistence.Op, root *actor.RootContext, self *actor.PID) {
	for ops := range work {
		outcomes, err := c.commit(ctx, ops)
		for errors.Is(err, persistence.ErrUnknown) && ctx.Err() == nil {
			// Neither an answer nor a new try would be true: ask for this batch
			// until the store can tell.
			root.Send(self, doubt{work: work, err: err})
			select {
			case <-time.After(retryAfter):
			case <-ctx.Done():
			}
			outcomes, err = c.commit(ctx, ops)
		}
		if err == nil && len(outcomes) != len(ops) {
			err = fmt.Errorf("store answered %d of %d operations", len(outcomes), len(ops))
		}
		root.Send(self, flushed{work: work, outcomes: outcomes, err: err})
	}
}

func (c *committer) commit(ctx context.Context, ops []persistence.Op) ([]persistence.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	if err := lawful(ops); err != nil {
		return nil, err
	}
	return c.cfg.Store.Commit(ctx, ops)
}

func (c *committer) add(ctx actor.Context, r Request) {
	if r.FailFast && len(c.pending) >= c.cfg.MaxPending {
		c.cfg.Metrics.refused.Inc()
		answer(ctx, r, persistence.Outcome{}, ErrBusy)
		return
	}
	if r.FailFast && c.inDoubt && !r.Follows {
		c.cfg.Metrics.refused.Inc()
		answer(ctx, r, persistence.Outcome{}, errInDoubt)
		return
	}
	r.came = time.Now()
	c.pending = append(c.pending, r)
}

func (c *committer) came(ctx actor.Context, failFast bool) {
	in := arrived
	if failFast {
		in = hurried
	}
	c.next(ctx, in)
}

// next carries out what follows from an input.
func (c *committer) next(ctx actor.Context, in input) {
	s := c.on(in, len(c.pending) > 0)
	if s.flush {
		c.flush()
	}
	if s.arm {
		root, self, again := ctx.ActorSystem().Root, ctx.Self(), retry{work: c.work}
		time.AfterFunc(retryAfter, func() { root.Send(self, again) })
	}
	c.watch()
	c.cfg.Metrics.doubts(c.inDoubt)
}

// watch shows how much waits and since when.
func (c *committer) watch() {
	c.cfg.Metrics.pending.Set(float64(len(c.pending) + len(c.batch)))
	switch {
	case len(c.batch) > 0:
		c.cfg.Metrics.since(c.batch[0].came)
	case len(c.pending) > 0:
		c.cfg.Metrics.since(c.pending[0].came)
	default:
		c.cfg.Metrics.since(time.Time{})
	}
}

// flush hands the next batch to the worker, which is idle.
func (c *committer) flush() {
	n := c.fits()
	c.batch = c.pending[:n:n]
	if n == len(c.pending) {
		c.pending, c.spare = c.spare, nil
	} else {
		c.pending = c.pending[n:]
	}
	ops := make([]persistence.Op, n)
	for i := range c.batch {
		ops[i] = c.batch[i].Op
	}
	c.work <- ops
}

// fits is how many operations the next batch has, at least one.
func (c *committer) fits() (n int) {
	size := 0
	for n < min(len(c.pending), c.halves.bound(c.cfg.MaxBatch)) {
		if size += weight(&c.pending[n].Op); n > 0 && size > maxBatchBytes {
			break
		}
		n++
	}
	return n
}

// weight is the size of the texts that an operation may be large by.
func weight(op *persistence.Op) (n int) {
	if op.Insert != nil {
		n += len(op.Insert.Task.Spec.GetMessage())
	}
	if op.Update != nil {
		n += len(op.Update.Task.Result.GetText())
	}
	return n
}

func (c *committer) finish(ctx actor.Context, f flushed) {
	if f.work != c.work {
		return
	}
	batch := c.batch
	c.batch = nil
	switch {
	case f.err != nil && isInvalid(f.err):
		c.invalid(ctx, batch, f.err)
		return
	case f.err != nil:
		c.failed(ctx, batch, f.err)
		return
	}
	c.halves.passed(len(batch))
	if c.down {
		c.cfg.Logger.Info("store takes writes again")
	}
	c.durable = batch
	c.next(ctx, taken) // what has arrived is under way while this batch is answered
	c.publish(batch, f.outcomes)
	c.answerAll(ctx, batch, f.outcomes)
	clear(batch) // nobody is kept alive by an old batch
	c.durable, c.spare = nil, batch[:0]
}

// doubt refuses from now on who cannot wait; the batch itself waits, and what
// follows from an operation of it.
func (c *committer) doubt(ctx actor.Context, d doubt) {
	if d.work != c.work {
		return
	}
	if !c.inDoubt {
		c.cfg.Metrics.failed.Inc()
		c.cfg.Logger.Error("the outcome of a batch is unknown; submits are answered 503 until the store can tell", slog.Any("err", d.err))
	}
	c.halves = halving{}
	c.pending = c.keep(ctx, c.pending, errInDoubt, func(r *Request) bool { return !r.FailFast || r.Follows })
	c.next(ctx, doubted)
}

// failed answers what cannot wait and keeps the rest at the head of the queue, in order.
func (c *committer) failed(ctx actor.Context, batch []Request, err error) {
	c.cfg.Metrics.failed.Inc()
	if !c.down {
		c.cfg.Logger.Error("store refuses writes; submits are answered 503 until it recovers", slog.Any("err", err))
	}
	c.halves = halving{}
	c.pending = c.keep(ctx, append(batch, c.pending...), err, func(r *Request) bool { return !r.FailFast })
	c.next(ctx, refused)
}

// keep returns what may wait of a list, and answers the rest.
func (c *committer) keep(ctx actor.Context, list []Request, err error, waits func(*Request) bool) []Request {
	kept := make([]Request, 0, len(list))
	for _, r := range list {
		if !waits(&r) {
			answer(ctx, r, persistence.Outcome{}, err)
			continue
		}
		clearSeq(r.Op.Events)
		kept = append(kept, r)
	}
	return kept
}

func clearSeq(events []*messages.Event) {
	for _, e := range events {
		e.Seq = 0
	}
}

func (c *committer) stop(ctx actor.Context) {
	for _, r := range slices.Concat(c.durable, c.batch, c.pending) {
		answer(ctx, r, persistence.Outcome{}, ErrStopped)
	}
	c.durable, c.batch, c.pending = nil, nil, nil
	c.watch()
	close(c.work)
	c.cancel()
}
