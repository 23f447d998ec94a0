// Package fleet brings what runs on this node in line with what the store knows and
// with what the node owns: each row of a pool or gateway whose shard is this node's has
// its owner here, and nothing else has one.
//
// One loop does that, woken by changes and by a timer. Whoever needs a single pool or
// gateway now has the loop's step done for that one at once. A shard that is lost is
// taken again when the store gives it: while another node that lives has it, it stays
// there. The shard of the default pool says which node works.
//
// The Fleet owns one goroutine from Keep to Stop.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/dash-fleet/dash/actors"
	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/supervise"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// Leases are what the node owns.
type Leases interface {
	// Take makes the node the owner of a shard or gateway. ErrOwned: another one is.
	Take(ctx context.Context, scope messages.Scope, key string) (messages.Fence, error)
	// Release gives it up; no error if another node has it by now.
	Release(ctx context.Context, f messages.Fence) error
	// Held are the fences of all that is taken and not known to be lost.
	Held() []messages.Fence
	// Look finds out what was lost; the tree is told of that.
	Look(ctx context.Context, scopes ...messages.Scope) error
}

// Store is what is read of the store.
type Store interface {
	OpenPools(ctx context.Context) ([]string, error)
	OpenTasks(ctx context.Context, pool, after string, limit int) (tasks []messages.Task, more bool, err error)
	Session(ctx context.Context, tenant, id string) (messages.Session, error)
	GatewayStatuses(ctx context.Context) ([]messages.GatewayStatus, error)
}

// Config of a Fleet. All fields are needed.
type Config struct {
	Node   *actors.Node
	Leases Leases
	Store  Store
	Repos  *persistence.Repositories // Gateways, Pools and Tenants
	// Pool and Gateway say how an owner is made.
	Pool    func(messages.Pool) dispatch.Config
	Gateway func(ctx context.Context, g messages.Gateway, f messages.Fence, last messages.GatewayStatus) (gateway.Config, error)
	Boots   *gateway.Boots
	Metrics *dispatch.Metrics
	Logger  *slog.Logger
	// Replaced is called when another node has the shard of the default pool: that one
	// works now.
	Replaced func(error)
}

const (
	lookEvery = 30 * time.Second // pause between two passes that nobody asked for
	// passTimeout bounds one pass, passPause is between two.
	passTimeout = 15 * time.Second
	passPause   = 100 * time.Millisecond
	// After a pass that failed the next one comes after retryFirst, then later and
	// later up to retryMost.
	retryFirst = 500 * time.Millisecond
	retryMost  = 5 * time.Second
)

// Fleet starts and stops the owners of pools and gateways. Its methods are safe for
// concurrent use.
type Fleet struct {
	cfg    Config
	cancel context.CancelFunc
	wait   sync.WaitGroup
	wake   chan struct{} // has room for one: a pass sees all that came before it

	pools     chan struct{} // see ChangePools; taken before turn
	endpoints sync.Mutex    // held while a gateway's URL is compared with the others' and written

	uses  sync.Map // a *poolUse of each pool that has its owner here
	taken sync.Map // numbers of shards that ran here
	away  sync.Map // numbers of shards that another node has; the store's error
	turn  chan struct{}
	// Below: of whoever has the turn.
	all  bool                 // the next pass looks for pools that have nothing but open tasks
	made map[string]time.Time // of gateways that have their owner here, when their row was made
	// Rows with which owners were started and that nobody has read again since.
	unsure map[string]messages.Gateway
	told   bool // of gateways in a pool of another tenant
}

// New is a Fleet that starts nothing by itself before Keep.
func New(cfg Config) *Fleet {
	return &Fleet{cfg: cfg, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1), all: true,
		made: map[string]time.Time{}, unsure: map[string]messages.Gateway{}, pools: make(chan struct{}, 1)}
}

// Wake has the loop look soon. It never blocks.
func (f *Fleet) Wake() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Keep begins to look until Stop.
func (f *Fleet) Keep() {
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	f.wait.Go(func() { f.keep(ctx) })
}

// Stop ends the loop, and leaves what runs as it is.
func (f *Fleet) Stop(context.Context) error {
	if f.cancel != nil {
		f.cancel()
		f.wait.Wait()
	}
	return nil
}

func (f *Fleet) keep(ctx context.Context) {
	t := time.NewTimer(lookEvery)
	defer t.Stop()
	failures, said := 0, ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-f.wake:
		}
		err := f.look(ctx)
		if ctx.Err() != nil {
			return
		}
		if _, away := f.away.Load(messages.Shard(messages.DefaultPool)); away {
			f.cfg.Replaced(fmt.Errorf("another node works now: %w", persistence.ErrFenced))
			return
		}
		if err == nil {
			failures, said = 0, ""
			t.Reset(lookEvery)
		} else {
			failures++
			t.Reset(supervise.Delay(retryFirst, retryMost, failures, rand.Float64()))
			if err.Error() != said {
				said = err.Error()
				f.cfg.Logger.Warn("pools or gateways that should run here do not; they are tried again", slog.Any("err", err))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(passPause):
		}
	}
}

// look is a pass that first finds out what was lost without a write having said so.
func (f *Fleet) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	if err := f.cfg.Leases.Look(ctx, messages.ShardScope); err != nil {
		return err
	}
	if err := f.Claim(ctx); err != nil { // who works is known also when the rows cannot be read
		return err
	}
	return f.TakeUp(ctx)
}

// TakeUp is one pass: it starts what is to run here and stops what is not. What fails
// keeps nothing else from it.
func (f *Fleet) TakeUp(ctx context.Context) error {
	done, err := f.ChangePools(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := f.begin(ctx); err != nil {
		return err
	}
	defer f.end()
	s, err := f.steps(ctx)
	if err != nil {
		return err
	}
	var stops []error
	for _, id := range s.stopPools {
		stops = append(stops, f.stopPool(ctx, id))
	}
	done() // to start what is left takes long, and changes no pool
	err = errors.Join(errors.Join(stops...), f.carryOut(ctx, s), f.catchUp(ctx))
	f.all = err != nil
	return err
}

// ChangePools lets the caller alone change pools' rows, or remove their owners, until
// done, which may be called again.
func (f *Fleet) ChangePools(ctx context.Context) (done func(), err error) {
	select {
	case f.pools <- struct{}{}:
		return sync.OnceFunc(func() { <-f.pools }), nil
	case <-ctx.Done():
		return nil, &messages.Error{
			Code: messages.CodeUnavailable, Message: "pools are being changed by others", NextStep: next.SendSameAgain, RetryAfter: time.Second, Err: ctx.Err(),
		}
	}
}

// steps reads the rows and decides.
func (f *Fleet) steps(ctx context.Context) (steps, error) {
	r, err := f.read(ctx)
	if err != nil {
		return steps{}, err
	}
	now := f.here()
	s := decide(r, now)
	if len(s.stopPools) > 0 && r.open == nil { // what has open tasks stays
		if r.open, err = f.cfg.Store.OpenPools(ctx); err != nil {
			return steps{}, fmt.Errorf("list pools with open tasks: %w", err)
		}
		s = decide(r, now)
	}
	return s, nil
}

// begin waits for the turn.
func (f *Fleet) begin(ctx context.Context) error {
	select {
	case f.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *Fleet) end() { <-f.turn }

// read asks the store. A pass of all also gives pools that have no row to whoever uses them.
func (f *Fleet) read(ctx context.Context) (r rows, err error) {
	if r.gateways, err = f.cfg.Repos.Gateways.List(ctx); err != nil {
		return r, fmt.Errorf("list gateways: %w", err)
	}
	pools, err := f.cfg.Repos.Pools.List(ctx)
	if err != nil {
		return r, fmt.Errorf("list pools: %w", err)
	}
	r.pools = make(map[string]messages.Pool, len(pools))
	for _, p := range pools {
		r.pools[p.ID] = p
	}
	tenants, err := f.cfg.Repos.Tenants.List(ctx)
	if err != nil {
		return r, fmt.Errorf("list tenants: %w", err)
	}
	r.tenants = make(map[string]bool, len(tenants))
	for _, t := range tenants {
		r.tenants[t.ID] = true
	}
	if !f.all && f.complete() {
		return r, nil
	}
	f.all = true
	if r.open, err = f.cfg.Store.OpenPools(ctx); err != nil {
		return r, fmt.Errorf("list pools with open tasks: %w", err)
	}
	return r, f.adoptPools(ctx, &r)
}

// complete reports whether every shard that ever ran here does.
func (f *Fleet) complete() bool { return f.Missing() == 0 }

// Missing counts the shards that ran here and do not any more: their pools and
// gateways answer 503 until this node gets them back.
func (f *Fleet) Missing() (n int) {
	f.taken.Range(func(shard, _ any) bool {
		if _, runs := f.cfg.Node.Shard(shard.(int)); !runs {
			n++
		}
		return true
	})
	return n
}

func (f *Fleet) here() here {
	now := here{pools: map[string]bool{}, gateways: map[string]time.Time{}, gaveUp: f.cfg.Node.GaveUp}
	pools, gateways := f.cfg.Node.Owners()
	for _, id := range pools {
		now.pools[id] = true
	}
	for _, id := range gateways {
		now.gateways[id] = f.made[id]
	}
	f.made = maps.Clone(now.gateways)
	return now
}

func (f *Fleet) carryOut(ctx context.Context, s steps) error {
	var errs []error
	lost := map[int]bool{} // each is told once
	failed := func(id string, err error) {
		if shard := messages.Shard(id); err != nil && !lost[shard] {
			lost[shard] = errors.Is(err, persistence.ErrOwned)
			errs = append(errs, err)
		}
	}
	for _, p := range s.startPools {
		failed(p.ID, f.startPool(ctx, p, true))
	}
	for _, id := range s.removeGateways {
		f.remove(id)
	}
	if len(s.startGateways) == 0 {
		return errors.Join(errs...)
	}
	last, err := f.lastWords(ctx)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	// Who was known to be a process before stays it, whoever connects first.
	for _, g := range s.startGateways {
		if s := last[g.ID]; s.State != messages.GatewayQuarantined {
			f.cfg.Boots.Claim(s.BootID, g.ID, g.Tenant)
		}
	}
	for _, g := range s.startGateways {
		failed(g.ID, f.startGateway(ctx, g, last[g.ID], true))
	}
	return errors.Join(errs...)
}

// Claim takes the shard of the default pool, which decides who works, and starts that
// pool. ErrOwned: another node works.
func (f *Fleet) Claim(ctx context.Context) error {
	if err := f.begin(ctx); err != nil {
		return err
	}
	defer f.end()
	p, _, err := f.PoolConfig(ctx, messages.DefaultPool)
	if err != nil {
		return fmt.Errorf("read pool %s: %w", messages.DefaultPool, err)
	}
	return f.startPool(ctx, p, true)
}

// shard makes sure that the shard of a pool or gateway runs here. Without again one that
// another node had at the last try is not tried.
func (f *Fleet) shard(ctx context.Context, id string, again bool) error {
	shard := messages.Shard(id)
	if _, runs := f.cfg.Node.Shard(shard); runs {
		return nil
	}
	if cause, known := f.away.Load(shard); known && !again {
		return elsewhere(cause.(error))
	}
	if err := f.leave(ctx, shard); err != nil {
		return err
	}
	fence, err := f.cfg.Leases.Take(ctx, messages.ShardScope, strconv.Itoa(shard))
	if errors.Is(err, persistence.ErrOwned) {
		f.away.Store(shard, err)
		err = elsewhere(err)
	}
	if err == nil {
		f.away.Delete(shard)
		err = f.cfg.Node.AddShard(ctx, fence)
	}
	ran := false
	if err == nil {
		_, ran = f.taken.LoadOrStore(shard, true)
	}
	if !again && (err != nil || ran) { // it may have more than what it was wanted for
		f.all = true
		f.Wake()
	}
	return err
}

// leave ends what is left of a shard's last epoch, and gives up its gateways: whoever
// takes the shard takes them, too.
func (f *Fleet) leave(ctx context.Context, shard int) error {
	if err := f.cfg.Node.StopShard(ctx, shard); err != nil {
		return fmt.Errorf("stop shard %d: %w", shard, err)
	}
	for _, held := range f.cfg.Leases.Held() {
		if held.Scope == messages.GatewayScope && messages.Shard(held.Key) == shard {
			if err := f.cfg.Leases.Release(ctx, held); err != nil {
				return err
			}
		}
	}
	return nil
}

// Away refuses what is in a shard that this node does not run because another one has
// it, or had it a moment ago; nil: it is here, or nobody took it yet.
func (f *Fleet) Away(id string) error {
	shard := messages.Shard(id)
	if _, runs := f.cfg.Node.Shard(shard); runs {
		return nil
	}
	if cause, known := f.away.Load(shard); known {
		return elsewhere(cause.(error))
	}
	if _, ran := f.taken.Load(shard); ran {
		return elsewhere(persistence.ErrOwned)
	}
	return nil
}

// ended refuses what found its shard, or its last owner, ending here.
func ended(err error) error {
	if !errors.Is(err, actors.ErrNoShard) && !errors.Is(err, actors.ErrStopping) {
		return err
	}
	return &messages.Error{
		Code: messages.CodeUnavailable, Message: "its last owner on this node is still ending", NextStep: next.SendSameAgain, RetryAfter: time.Second,
		Err: errors.Join(persistence.ErrUnavailable, err),
	}
}

func elsewhere(err error) error {
	return &messages.Error{
		Code: messages.CodeUnavailable, Message: "another node owns this shard now", NextStep: next.SendSameAgain, RetryAfter: time.Second, Err: err,
	}
}
