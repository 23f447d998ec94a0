package cluster

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// A node that shares its store stands by while another one owns the shards: it
// answers what the store alone can answer, refuses the rest with 503, and takes
// over when the other one's lease has ended. The default pool's shard decides
// between two that start at once: whoever gets it takes the rest.

const (
	// standbyRetry is the pause between two tries to take over.
	standbyRetry = 500 * time.Millisecond
	// standbyProof is the pause between two looks whether this node could work.
	standbyProof = 5 * time.Second
	// takeOverTimeout bounds one try.
	takeOverTimeout = 15 * time.Second
)

// Tasks finds those at gateways.
type Tasks interface {
	Tasks(ctx context.Context, f persistence.TaskFilter, cursor string, limit int) ([]messages.Task, string, error)
}

// DutyConfig is what a Duty needs of its node.
type DutyConfig struct {
	Lease    *Lease
	Home     Home
	Tasks    Tasks
	Gateways persistence.Gateways
	Logger   *slog.Logger
	// TakeOver is one try to take the work; what it has taken stays taken for the next one.
	TakeOver func(context.Context) error
	// TookOver is called when a try has succeeded.
	TookOver func()
	// Unfit says why this node could not work if it had to; nil: it could.
	Unfit func(context.Context) error
	// Busy counts those of these gateways that this node keeps and that hold runs.
	Busy func(ctx context.Context, bound []messages.Gateway) int
	// Fail ends this life of the node.
	Fail func(error)
}

// Duty is whether this node does the work of the fleet or stands by. It owns one
// goroutine from Start to Stop, where the store is shared.
type Duty struct {
	cfg      DutyConfig
	standing atomic.Pointer[messages.Error] // why the node only stands by; nil: it works
	yields   atomic.Bool
	cancel   context.CancelFunc
	done     chan struct{}

	// Of the one goroutine, and of Start before it.
	census   census
	courtesy courtesy
	before   string // the node that worked when this one last stood by
}

// NewDuty is that of a node that has its lease.
func NewDuty(cfg DutyConfig) *Duty { return &Duty{cfg: cfg} }

// Start takes over the fleet, or stands by until that succeeds.
func (d *Duty) Start(ctx context.Context) error {
	err := d.takeOver(ctx)
	shared := d.cfg.Lease.cfg.Shared
	if err != nil && (!shared || !Passing(err)) {
		return err
	}
	if err == nil {
		d.tookOver()
	} else {
		d.standBy(ctx, err)
	}
	if !shared {
		return nil
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d.cancel, d.done = cancel, make(chan struct{})
	go func() {
		defer close(d.done)
		if err == nil || d.wait(run) {
			d.watchHomes(run)
		}
	}()
	return nil
}

// Stop ends the tries and looks; what the node owns it still has.
func (d *Duty) Stop(context.Context) error {
	if d.cancel != nil {
		d.cancel()
		<-d.done
	}
	return nil
}

// Standing says why the node does no work for now; nil: it works.
func (d *Duty) Standing() *messages.Error { return d.standing.Load() }

// Stand keeps the node from its work for another reason, for good or until a
// take-over.
func (d *Duty) Stand(why *messages.Error) { d.standing.Store(why) }

// Yields is true while gateways that only this node reaches must get no new work,
// because it hands over.
func (d *Duty) Yields() bool { return d.yields.Load() }

// Passing errors end without anybody's doing.
func Passing(err error) bool {
	return errors.Is(err, persistence.ErrOwned) || errors.Is(err, persistence.ErrFenced) ||
		errors.Is(err, persistence.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

// takeOver is one try, unless a better home is to go first.
func (d *Duty) takeOver(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, takeOverTimeout)
	defer cancel()
	if d.cfg.Lease.cfg.Shared {
		owner, alive := d.cfg.Lease.Worker(ctx)
		if owner != "" && owner != d.self() {
			d.before = owner
		}
		better, err := d.betterHome(ctx, false)
		if err != nil {
			better = ""
		}
		if d.courtesy.waits(better, owner == "" || !alive, time.Now()) {
			return &yieldError{to: better}
		}
	}
	return d.cfg.TakeOver(ctx)
}

func (d *Duty) self() string { return d.cfg.Lease.cfg.Self.ID }

// wait tries to take over until it has succeeded, or ctx ends.
func (d *Duty) wait(ctx context.Context) (works bool) {
	try, proof := time.NewTicker(standbyRetry), time.NewTicker(standbyProof)
	defer try.Stop()
	defer proof.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-proof.C:
			if err := d.unfit(ctx); err != nil {
				d.cfg.Fail(err)
				return false
			}
			continue
		case <-try.C:
		}
		err := d.takeOver(ctx)
		switch {
		case ctx.Err() != nil:
			return false
		case err == nil:
			d.standing.Store(nil)
			d.tookOver()
			return true
		case !Passing(err):
			d.cfg.Fail(err)
			return false
		}
		d.standBy(ctx, err)
	}
}

func (d *Duty) unfit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, TTL)
	defer cancel()
	return d.cfg.Unfit(ctx)
}

// tookOver says who works now, and who did before.
func (d *Duty) tookOver() {
	d.cfg.TookOver()
	if !d.cfg.Lease.cfg.Shared {
		return
	}
	attrs := []any{slog.String("node", d.self())}
	if d.before != "" {
		attrs = append(attrs, slog.String("from", d.before))
	}
	d.cfg.Logger.Info("this node is active", attrs...)
}

// standBy notes and says why this node does no work.
func (d *Duty) standBy(ctx context.Context, err error) {
	now := messages.Error{
		Code: messages.CodeStandby, Message: "this node is on standby: the store does not answer",
		NextStep: next.TryAgainIfItLasts, RetryAfter: time.Second, Err: err,
	}
	var yield *yieldError
	switch {
	case errors.As(err, &yield):
		now.Message = "this node is on standby: it lets node " + d.cfg.Lease.Named(yield.to) + ", the home of more gateways or of runs that no node reads, go first"
		now.NextStep = next.TryAgain
	case errors.Is(err, persistence.ErrOwned):
		ask, cancel := context.WithTimeout(ctx, TTL)
		owner, _ := d.cfg.Lease.Worker(ask)
		cancel()
		now.Message = "this node is on standby: node " + d.cfg.Lease.Named(owner) + " is active"
		now.NextStep = next.AskThatNode
	}
	if before := d.standing.Swap(&now); before == nil || before.Message != now.Message {
		d.cfg.Logger.Warn("standing by", slog.String("reason", now.Message))
	}
}

// watchHomes looks for a better home while this node works.
func (d *Duty) watchHomes(ctx context.Context) {
	t := time.NewTicker(handOverLook)
	defer t.Stop()
	var h handing
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		to, err := d.betterHome(ctx, true)
		if err != nil {
			continue // the lease tells of a store that is away
		}
		yields, calm := h.look(to, time.Now())
		switch was := d.yields.Swap(yields); {
		case yields && !was:
			d.cfg.Logger.Info("handing over to the home of more gateways, when the runs at this node's own have ended", slog.String("node", to))
		case was && !yields:
			d.cfg.Logger.Info("not handing over for now: this node's own gateways get work again")
		}
		if calm && d.busy(ctx) == 0 {
			d.cfg.Logger.Info("handing over", slog.String("node", to))
			d.cfg.Fail(ErrHandOver)
			return
		}
	}
}

// betterHome looks at the nodes that the newest renewal saw. While this node
// works, the runs of its own home are read.
func (d *Duty) betterHome(ctx context.Context, works bool) (string, error) {
	nodes, _ := d.cfg.Lease.Nodes()
	if len(nodes) < 2 {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, TTL)
	defer cancel()
	bound, err := d.census.rows(ctx, d.cfg.Gateways)
	if err != nil {
		return "", err
	}
	return d.cfg.Home.better(d.self(), nodes, bound, func(h Home) bool {
		return !(works && h == d.cfg.Home) && d.census.unread(ctx, d.cfg.Tasks, h)
	}), nil
}

// busy counts gateways with runs that the next node cannot reach. They get no
// others meanwhile, see Yields.
func (d *Duty) busy(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, TTL)
	defer cancel()
	bound, err := d.census.rows(ctx, d.cfg.Gateways)
	if err != nil {
		return 1 // nobody knows
	}
	return d.cfg.Busy(ctx, bound)
}

// yieldError: a better home is to take what is free first.
type yieldError struct{ to string }

func (e *yieldError) Error() string { return "node " + e.to + " goes first" }
func (e *yieldError) Unwrap() error { return persistence.ErrOwned }

// Worker is the id of the node that has the default pool's shard, and whether
// its lease was valid when this node last looked; empty: nobody has it.
func (l *Lease) Worker(ctx context.Context) (id string, alive bool) {
	rows, err := l.cfg.Store.Owners(ctx, messages.ShardScope)
	if err != nil {
		return "", false
	}
	key := strconv.Itoa(messages.Shard(messages.DefaultPool))
	nodes, _ := l.Nodes()
	for _, r := range rows {
		if r.Key == key {
			return r.Owner, slices.ContainsFunc(nodes, func(n messages.Node) bool { return n.ID == r.Owner })
		}
	}
	return "", false
}

// Named is a node's id with its address, as far as that is known.
func (l *Lease) Named(id string) string {
	nodes, _ := l.Nodes()
	for _, n := range nodes {
		if n.ID == id && n.Addr != "" {
			return id + " at " + n.Addr
		}
	}
	return cmp.Or(id, "unknown")
}
