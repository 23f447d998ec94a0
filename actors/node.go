package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/supervise"
	"github.com/dash-fleet/dash/actors/workers"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// Config of a node's tree.
type Config struct {
	Commit commit.Config
	Logger *slog.Logger
	// Fatal is called once when the tree cannot be kept up; the process should
	// end so that others, or its next life, take over.
	Fatal      func(error)
	Registerer prometheus.Registerer // may be nil
}

// Node is a running tree. Its methods are safe for concurrent use.
type Node struct {
	cfg      Config
	system   *actor.ActorSystem
	root     *actor.PID
	restarts *prometheus.CounterVec
	workers  *workers.Pool

	mu       sync.RWMutex
	pools    map[string]*actor.PID
	gateways map[string]*actor.PID
	gone     map[string]chan struct{} // closed at the end of a gateway whose name is waited for

	committer *actor.PID
}

// Requests to the root; each is answered on its channel.
type (
	spawnPool struct {
		cfg   dispatch.Config
		reply chan<- error
	}
	spawnGateway struct {
		cfg   gateway.Config
		reply chan<- error
	}
	dropPool struct {
		id    string
		reply chan<- error
	}
	ready struct{ reply chan<- *actor.PID }
)

const (
	committerName = "committer"
	poolPrefix    = "pool-"
	gatewayPrefix = "gateway-"
)

// Start spawns the root and the committer.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	system := actor.NewActorSystem(actor.WithDeadLetterRequestLogging(false), actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		return slog.New(slog.DiscardHandler) // what matters is logged by our own strategy
	}))
	n := &Node{cfg: cfg, system: system, pools: map[string]*actor.PID{}, gateways: map[string]*actor.PID{}, gone: map[string]chan struct{}{},
		restarts: supervise.NewCounter(cfg.Registerer), workers: workers.New()}
	n.cfg.Commit.Dispatcher = n.workers
	// The root does nothing that can fail; if it does, the tree is not what it
	// was and the process's next life rebuilds it from the store.
	guardian := actor.NewOneForOneStrategy(0, 0, func(reason any) actor.Directive {
		cfg.Fatal(fmt.Errorf("root of the supervision tree: %v", reason))
		return actor.StopDirective
	})
	props := actor.PropsFromProducer(func() actor.Actor { return n.newRoot() }, actor.WithGuardian(guardian))
	root, err := system.Root.SpawnNamed(props, "root")
	if err != nil {
		return nil, fmt.Errorf("spawn root: %w", err)
	}
	n.root = root
	up := make(chan *actor.PID, 1)
	system.Root.Send(root, ready{reply: up})
	select {
	case n.committer = <-up:
		return n, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Root sends messages from outside of the tree.
func (n *Node) Root() *actor.RootContext { return n.system.Root }

// Committer is the actor that writes to the store.
func (n *Node) Committer() *actor.PID { return n.committer }

// Restarts is dash_actor_restarts_total.
func (n *Node) Restarts() *prometheus.CounterVec { return n.restarts }

// AddPool starts the owner of a pool.
func (n *Node) AddPool(ctx context.Context, cfg dispatch.Config) error {
	cfg.Dispatcher = n.workers
	reply := make(chan error, 1)
	return n.add(ctx, spawnPool{cfg: cfg, reply: reply}, reply)
}

// RemovePool ends the owner of a pool. When it returns without error, all that the
// owner had asked for is written, its fence held until then, and nothing more
// comes of it. With an error its end goes on, and an AddPool waits for that.
// Requests that are with the owner get no answer; whoever calls makes sure that
// there are none.
func (n *Node) RemovePool(ctx context.Context, id string) error {
	reply := make(chan error, 1)
	return n.add(ctx, dropPool{id: id, reply: reply}, reply)
}

// AddGateway starts the owner of a gateway. If one of that id is still
// stopping, it waits for its end.
func (n *Node) AddGateway(ctx context.Context, cfg gateway.Config) error {
	cfg.Dispatcher = n.workers
	for {
		reply := make(chan error, 1)
		err := n.add(ctx, spawnGateway{cfg: cfg, reply: reply}, reply)
		if !errors.Is(err, errStopping) {
			return err
		}
		select {
		case <-n.gatewayGone(cfg.Gateway.ID):
		case <-ctx.Done():
			return fmt.Errorf("gateway %s is still stopping: %w", cfg.Gateway.ID, ctx.Err())
		}
	}
}

func (n *Node) add(ctx context.Context, m any, reply <-chan error) error {
	n.system.Root.Send(n.root, m)
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// nobody is where messages to unknown owners go; nothing lives there.
var nobody = actor.NewPID("nonhost", "nobody")

// Pool returns the owner of a pool; ok is false if this node has none.
func (n *Node) Pool(id string) (pid *actor.PID, ok bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	pid, ok = n.pools[id]
	if !ok {
		return nobody, false
	}
	return pid, true
}

// Gateway returns the owner of a gateway; ok is false if this node has none.
func (n *Node) Gateway(id string) (pid *actor.PID, ok bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	pid, ok = n.gateways[id]
	return pid, ok
}

// keep remembers an owner. It runs on the root's turn, as does the forgetting,
// so that the owner of yesterday cannot take that of today along.
func (n *Node) keep(owners map[string]*actor.PID, id string, pid *actor.PID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	owners[id] = pid
}

func (n *Node) forgetPool(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.pools, id)
}

// gatewayGone is closed when the node has no gateway of that id.
func (n *Node) gatewayGone(id string) <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	gone := n.gone[id]
	if gone == nil {
		gone = make(chan struct{})
		if _, there := n.gateways[id]; !there {
			close(gone)
			return gone
		}
		n.gone[id] = gone
	}
	return gone
}

func (n *Node) forgetGateway(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.gateways, id)
	if gone, waited := n.gone[id]; waited {
		close(gone)
		delete(n.gone, id)
	}
}

// Stop ends the tree, all parts at once: what is not durable by then is read
// back by the next life. Processes of managed gateways go on.
func (n *Node) Stop(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The future's own limit is 10 s.
		if err := n.system.Root.StopFuture(n.root).Wait(); err != nil && !errors.Is(err, actor.ErrDeadLetter) {
			n.cfg.Logger.Warn("supervision tree did not stop in time", slog.Any("err", err))
		}
		n.system.Shutdown()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// root is the top actor: it spawns and supervises by kind.
type root struct {
	node      *Node
	committer *actor.PID
	kinds     map[string]*supervise.Strategy
	gateways  map[string]gateway.Config // as spawned
	fences    map[string]messages.Fence
	ending    map[string]*ending // pools whose owner is on its way out
}

// ending is the way out of a pool's owner.
type ending struct {
	drop dropPool
	next []spawnPool // who follows it
}

// lastWrite is the tag of the operation that is written behind all that a pool's
// owner asked for.
type lastWrite struct{ pool string }

func (n *Node) newRoot() *root {
	strategy := func(kind string, initial, limit time.Duration, count int, window time.Duration, giveUp func(*actor.PID, any)) *supervise.Strategy {
		return supervise.New(supervise.Config{Kind: kind, Initial: initial, Max: limit, Limit: count, Window: window,
			GiveUp: giveUp, Logger: n.cfg.Logger, Restarts: n.restarts})
	}
	r := &root{node: n, gateways: map[string]gateway.Config{}, fences: map[string]messages.Fence{}, ending: map[string]*ending{}}
	r.kinds = map[string]*supervise.Strategy{
		committerName: strategy("committer", 50*time.Millisecond, 5*time.Second, 0, time.Minute, nil),
		poolPrefix: strategy("pool", 100*time.Millisecond, 5*time.Second, 5, time.Minute, func(pid *actor.PID, reason any) {
			n.cfg.Fatal(fmt.Errorf("%s failed too often: %v", pid.Id, reason))
		}),
		gatewayPrefix: strategy("gateway", 500*time.Millisecond, 30*time.Second, 10, 10*time.Minute, r.quarantine),
	}
	return r
}

func (r *root) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		pid, err := ctx.SpawnNamed(commit.Props(r.node.cfg.Commit), committerName)
		if err != nil {
			panic(err)
		}
		r.committer = pid
	case ready:
		m.reply <- r.committer
	case spawnPool:
		if e, ok := r.ending[m.cfg.Pool.ID]; ok {
			e.next = append(e.next, m)
			return
		}
		m.reply <- r.spawnPool(ctx, m.cfg)
	case spawnGateway:
		m.reply <- r.spawnGateway(ctx, m.cfg)
	case dropPool:
		r.dropPool(ctx, m)
	case commit.Done:
		if w, ok := m.Tag.(lastWrite); ok {
			r.poolGone(ctx, w.pool, written(m))
		}
	case dispatch.Fenced:
		r.node.cfg.Fatal(fmt.Errorf("pool %s has another owner: %w", m.Pool, persistence.ErrFenced))
	case *actor.Terminated:
		if id, ok := strings.CutPrefix(childName(m.Who), poolPrefix); ok {
			r.poolEnded(ctx, m.Who, id)
		}
		if id, ok := strings.CutPrefix(childName(m.Who), gatewayPrefix); ok {
			delete(r.gateways, id)
			r.kinds[gatewayPrefix].Forget(m.Who)
			r.node.forgetGateway(id)
		}
	}
}

func (r *root) spawnPool(ctx actor.Context, cfg dispatch.Config) error {
	props, err := dispatch.Props(cfg)
	if err != nil {
		return err
	}
	pid, err := ctx.SpawnNamed(props, poolPrefix+cfg.Pool.ID)
	if err == nil {
		r.fences[cfg.Pool.ID] = cfg.Fence
		r.node.keep(r.node.pools, cfg.Pool.ID, pid)
	}
	return err
}

func (r *root) dropPool(ctx actor.Context, m dropPool) {
	pid, ok := r.node.Pool(m.id)
	if !ok {
		m.reply <- fmt.Errorf("pool %s: %w", m.id, persistence.ErrNotFound)
		return
	}
	r.node.forgetPool(m.id)
	r.ending[m.id] = &ending{drop: m}
	ctx.Stop(pid)
}

// poolEnded waits for what the ended owner of a pool had asked for.
func (r *root) poolEnded(ctx actor.Context, pid *actor.PID, id string) {
	if _, ok := r.ending[id]; !ok {
		return
	}
	r.kinds[poolPrefix].Forget(pid)
	ctx.Send(r.committer, commit.Request{
		Op: persistence.Op{Fences: []messages.Fence{r.fences[id]}}, ReplyTo: ctx.Self(), Tag: lastWrite{id},
	})
}

// poolGone tells of the end of a pool's owner, and starts the one that follows it.
func (r *root) poolGone(ctx actor.Context, id string, err error) {
	e := r.ending[id]
	delete(r.ending, id)
	delete(r.fences, id)
	e.drop.reply <- err
	for _, m := range e.next {
		m.reply <- r.spawnPool(ctx, m.cfg)
	}
}

func written(d commit.Done) error {
	if d.Err == nil && d.Outcome.Status != persistence.OK {
		return fmt.Errorf("the last write of a pool: %w", persistence.ErrFenced)
	}
	return d.Err
}

var errStopping = errors.New("the last owner is still stopping")

// spawnGateway fails with errStopping until the end of the last owner was
// told, which is a little later than its name is free.
func (r *root) spawnGateway(ctx actor.Context, cfg gateway.Config) error {
	if _, ok := r.node.Gateway(cfg.Gateway.ID); ok {
		return errStopping
	}
	pid, err := ctx.SpawnNamed(gateway.Props(cfg), gatewayPrefix+cfg.Gateway.ID)
	if err == nil {
		r.gateways[cfg.Gateway.ID] = cfg
		r.node.keep(r.node.gateways, cfg.Gateway.ID, pid)
	}
	return err
}

// HandleFailure lets the strategy of the child's kind decide.
func (r *root) HandleFailure(system *actor.ActorSystem, parent actor.Supervisor, child *actor.PID, rs *actor.RestartStatistics, reason, message any) {
	name := childName(child)
	for prefix, s := range r.kinds {
		if strings.HasPrefix(name, prefix) {
			s.HandleFailure(system, parent, child, rs, reason, message)
			return
		}
	}
	parent.EscalateFailure(reason, message)
}

// quarantine records why a gateway's owner gave up; `gateway restart` starts it again.
func (r *root) quarantine(pid *actor.PID, reason any) {
	id := strings.TrimPrefix(childName(pid), gatewayPrefix)
	cfg, now := r.gateways[id], messages.Now()
	status := messages.GatewayStatus{
		ID: id, Tenant: cfg.Gateway.Tenant, Owner: cfg.Fence.Owner, Epoch: cfg.Fence.Epoch,
		State: messages.GatewayQuarantined, Since: now,
		Reason:   fmt.Sprintf("its owner inside Dash failed too often: %v", reason),
		NextStep: fmt.Sprintf(next.ReportThenRestartGateway, id),
	}
	r.node.system.Root.Send(r.committer, commit.Request{Op: persistence.Op{
		Fences: []messages.Fence{cfg.Fence}, Gateway: &status,
		Events: []*messages.Event{status.Event(cfg.Gateway.Pool, 0, now)}, // the state before went with its owner
	}})
}

func childName(pid *actor.PID) string {
	return pid.Id[strings.LastIndexByte(pid.Id, '/')+1:]
}
