package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/supervise"
	"github.com/dash-fleet/dash/actors/workers"
	"github.com/dash-fleet/dash/messages"
)

// Config of a node's tree.
type Config struct {
	Commit commit.Config
	Logger *slog.Logger
	// Fatal is called once when the tree cannot be kept up; the process should
	// end so that others, or its next life, take over.
	Fatal func(error)
	// Changed is called when owners ended of which nobody asked it, as those of a
	// lost shard do. It must not block. May be nil.
	Changed    func()
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
	shards   map[string]running
	pools    map[string]*actor.PID
	gateways map[string]*actor.PID
	gaveUp   map[string]bool          // gateways whose owner failed too often
	gone     map[string]chan struct{} // closed at the end of a gateway whose name is waited for

	committer *actor.PID
}

// running is a shard that takes owners.
type running struct {
	fence messages.Fence
	pid   *actor.PID
	left  chan struct{} // closed when it takes no more
}

// Requests to the root and to shards; each is answered on its channel.
type (
	addShard struct {
		fence messages.Fence
		reply chan<- error
	}
	stopShard struct {
		key   string
		reply chan<- error
	}
	lost      struct{ fence messages.Fence }
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
	shardPrefix   = "shard-"
	poolPrefix    = "pool-"
	gatewayPrefix = "gateway-"
)

var (
	// ErrNoShard: the node does not have the shard, or has it no longer.
	ErrNoShard = errors.New("this node does not own the shard")
	// ErrStopping: the last owner has not ended yet.
	ErrStopping   = errors.New("the last owner is still stopping")
	errOtherEpoch = errors.New("the shard runs in another epoch")
)

// Start spawns the root and the committer.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	system := actor.NewActorSystem(actor.WithDeadLetterRequestLogging(false), actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		return slog.New(slog.DiscardHandler) // what matters is logged by our own strategy
	}))
	n := &Node{cfg: cfg, system: system, shards: map[string]running{}, pools: map[string]*actor.PID{}, gateways: map[string]*actor.PID{},
		gaveUp: map[string]bool{}, gone: map[string]chan struct{}{},
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

// Tell sends a message to an owner; one that has ended does not get it.
func (n *Node) Tell(pid *actor.PID, m any) { n.system.Root.Send(pid, m) }

// Committer is the actor that writes to the store.
func (n *Node) Committer() *actor.PID { return n.committer }

// Restarts is dash_actor_restarts_total.
func (n *Node) Restarts() *prometheus.CounterVec { return n.restarts }

// AddShard makes the node run a shard under a fence that the store gave it. Its
// pools and gateways are added one by one. It waits for the end of an earlier epoch
// that is being stopped.
func (n *Node) AddShard(ctx context.Context, fence messages.Fence) error {
	reply := make(chan error, 1)
	return n.ask(ctx, n.root, addShard{fence: fence, reply: reply}, reply, nil)
}

// StopShard ends the owners of a shard's pools and gateways, and nothing else. When it
// returns without error, all that they had asked for is written, or was fenced, and
// nothing more comes of them; there may have been none. With an error their end goes on,
// and an AddShard waits for it. Processes of managed gateways, and the runs there, go on.
func (n *Node) StopShard(ctx context.Context, shard int) error {
	reply := make(chan error, 1)
	return n.ask(ctx, n.root, stopShard{key: strconv.Itoa(shard), reply: reply}, reply, nil)
}

// Lost ends what runs under a fence that does not hold any more: a shard with its
// pools and gateways, or one gateway. It does not wait for the end.
func (n *Node) Lost(f messages.Fence) {
	if f.Scope == messages.ShardScope {
		n.system.Root.Send(n.root, lost{f})
	} else if pid, ok := n.Gateway(f.Key); ok {
		n.system.Root.Send(pid, gateway.Lost{Epoch: f.Epoch})
	}
}

// Shard returns the fence under which the node runs a shard; ok is false if it does not.
func (n *Node) Shard(shard int) (fence messages.Fence, ok bool) {
	s, ok := n.running(shard)
	return s.fence, ok
}

func (n *Node) running(shard int) (s running, ok bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	s, ok = n.shards[strconv.Itoa(shard)]
	return s, ok
}

// Left is closed when the node lets go of the shard of a pool or gateway, or has done
// so: an owner there may end without an answer to what it was asked.
func (n *Node) Left(id string) <-chan struct{} {
	if s, ok := n.running(messages.Shard(id)); ok {
		return s.left
	}
	return closed
}

// closed is closed.
var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// AddPool starts the owner of a pool in its shard, whose fence it gets; one that runs
// goes on. ErrNoShard: the node does not have that shard.
func (n *Node) AddPool(ctx context.Context, cfg dispatch.Config) error {
	cfg.Dispatcher = n.workers
	return n.inShard(ctx, cfg.Pool.ID, func(reply chan<- error) any { return spawnPool{cfg: cfg, reply: reply} })
}

// RemovePool ends the owner of a pool. When it returns without error, all that the
// owner had asked for is written, its fence held until then, and nothing more
// comes of it. With an error its end goes on, and an AddPool waits for that.
// Requests that are with the owner get no answer; whoever calls makes sure that
// there are none.
func (n *Node) RemovePool(ctx context.Context, id string) error {
	return n.inShard(ctx, id, func(reply chan<- error) any { return dropPool{id: id, reply: reply} })
}

// AddGateway starts the owner of a gateway in its shard. ErrStopping: there is one of
// that id, see GatewayGone. ErrNoShard: the node does not have that shard.
func (n *Node) AddGateway(ctx context.Context, cfg gateway.Config) error {
	cfg.Dispatcher = n.workers
	return n.inShard(ctx, cfg.Gateway.ID, func(reply chan<- error) any { return spawnGateway{cfg: cfg, reply: reply} })
}

// inShard asks the shard of a pool or gateway.
func (n *Node) inShard(ctx context.Context, id string, request func(reply chan<- error) any) error {
	s, ok := n.running(messages.Shard(id))
	if !ok {
		return ErrNoShard
	}
	reply := make(chan error, 1)
	return n.ask(ctx, s.pid, request(reply), reply, s.left)
}

func (n *Node) ask(ctx context.Context, to *actor.PID, m any, reply <-chan error, left <-chan struct{}) error {
	n.system.Root.Send(to, m)
	select {
	case err := <-reply:
		return err
	case <-left:
		return ErrNoShard
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

// Owners lists the ids of the pools and gateways that have their owner here.
func (n *Node) Owners() (pools, gateways []string) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return slices.Collect(maps.Keys(n.pools)), slices.Collect(maps.Keys(n.gateways))
}

// GaveUp reports whether the last owner of a gateway failed too often: only an
// operator has another one started.
func (n *Node) GaveUp(id string) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.gaveUp[id]
}

func (n *Node) giveUp(id string, up bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gaveUp[id] = up
}

func (n *Node) changed() {
	if n.cfg.Changed != nil {
		n.cfg.Changed()
	}
}

func (n *Node) keepShard(f messages.Fence, pid *actor.PID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.shards[f.Key] = running{fence: f, pid: pid, left: make(chan struct{})}
}

func (n *Node) leaveShard(key string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.shards[key].left)
	delete(n.shards, key)
}

// keep remembers an owner. It runs on its shard's turn, as does the forgetting,
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

// GatewayGone is closed when the node has no gateway of that id.
func (n *Node) GatewayGone(id string) <-chan struct{} {
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
