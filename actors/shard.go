package actors

import (
	"fmt"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/supervise"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// shard is the parent of all owners of one shard in one epoch: it starts and
// supervises them by kind, and ends with all of them.
type shard struct {
	node      *Node
	committer *actor.PID
	fence     messages.Fence
	kinds     map[string]*supervise.Strategy
	pools     map[string]bool
	gateways  map[string]gateway.Config // as spawned
	ending    map[string]*ending        // pools whose owner is on its way out
	stopping  bool                      // it takes in nobody any more
}

// ending is the way out of a pool's owner.
type ending struct {
	drop dropPool
	next []spawnPool // who follows it
}

func newShard(n *Node, committer *actor.PID, fence messages.Fence) *shard {
	s := &shard{node: n, committer: committer, fence: fence, pools: map[string]bool{}, gateways: map[string]gateway.Config{}, ending: map[string]*ending{}}
	s.kinds = map[string]*supervise.Strategy{
		poolPrefix: supervise.New(supervise.Config{Kind: "pool", Initial: 100 * time.Millisecond, Max: 5 * time.Second, Limit: 5, Window: time.Minute,
			Logger: n.cfg.Logger, Restarts: n.restarts, GiveUp: func(pid *actor.PID, reason any) {
				n.cfg.Fatal(fmt.Errorf("%s failed too often: %v", pid.Id, reason))
			}}),
		gatewayPrefix: supervise.New(supervise.Config{Kind: "gateway", Initial: 500 * time.Millisecond, Max: 30 * time.Second, Limit: 10, Window: 10 * time.Minute,
			Logger: n.cfg.Logger, Restarts: n.restarts, GiveUp: s.quarantine}),
	}
	return s
}

func (s *shard) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case spawnPool:
		if s.stopping {
			m.reply <- ErrNoShard
			return
		}
		if e, ok := s.ending[m.cfg.Pool.ID]; ok {
			e.next = append(e.next, m)
			return
		}
		m.reply <- s.spawnPool(ctx, m.cfg)
	case spawnGateway:
		if s.stopping {
			m.reply <- ErrNoShard
			return
		}
		m.reply <- s.spawnGateway(ctx, m.cfg)
	case dropPool:
		s.dropPool(ctx, m)
	case commit.Done:
		if w, ok := m.Tag.(lastWrite); ok {
			s.poolGone(ctx, w.of, written(m))
		}
	case dispatch.Fenced:
		ctx.Send(ctx.Parent(), lost{s.fence})
	case *actor.Terminated:
		if id, ok := strings.CutPrefix(childName(m.Who), poolPrefix); ok {
			s.poolEnded(ctx, m.Who, id)
		}
		if id, ok := strings.CutPrefix(childName(m.Who), gatewayPrefix); ok {
			s.gatewayEnded(m.Who, id)
		}
	case *actor.Stopping:
		// What was asked for before may still come, and whoever began now would not
		// be stopped: the shard would wait for its end for ever.
		s.stopping = true
		s.leave()
	}
}

// leave takes all owners out of reach, before they end one by one.
func (s *shard) leave() {
	for id := range s.pools {
		s.node.forgetPool(id)
	}
	for id := range s.gateways {
		s.node.forgetGateway(id)
	}
}

func (s *shard) spawnPool(ctx actor.Context, cfg dispatch.Config) error {
	if s.pools[cfg.Pool.ID] {
		return nil
	}
	cfg.Fence = s.fence
	props, err := dispatch.Props(cfg)
	if err != nil {
		return err
	}
	pid, err := ctx.SpawnNamed(props, poolPrefix+cfg.Pool.ID)
	if err == nil {
		s.pools[cfg.Pool.ID] = true
		s.node.keep(s.node.pools, cfg.Pool.ID, pid)
	}
	return err
}

func (s *shard) dropPool(ctx actor.Context, m dropPool) {
	pid, ok := s.node.Pool(m.id)
	if !ok {
		m.reply <- fmt.Errorf("pool %s: %w", m.id, persistence.ErrNotFound)
		return
	}
	s.node.forgetPool(m.id)
	delete(s.pools, m.id)
	s.ending[m.id] = &ending{drop: m}
	ctx.Stop(pid)
}

// poolEnded waits for what the ended owner of a pool had asked for.
func (s *shard) poolEnded(ctx actor.Context, pid *actor.PID, id string) {
	if _, ok := s.ending[id]; !ok {
		return
	}
	s.kinds[poolPrefix].Forget(pid)
	ctx.Send(s.committer, commit.Request{Op: persistence.Op{Fences: []messages.Fence{s.fence}}, ReplyTo: ctx.Self(), Tag: lastWrite{id}})
}

// poolGone tells of the end of a pool's owner, and starts the one that follows it.
func (s *shard) poolGone(ctx actor.Context, id string, err error) {
	e := s.ending[id]
	delete(s.ending, id)
	e.drop.reply <- err
	for _, m := range e.next {
		if s.stopping {
			m.reply <- ErrNoShard
			continue
		}
		m.reply <- s.spawnPool(ctx, m.cfg)
	}
}

func written(d commit.Done) error {
	if d.Err == nil && d.Outcome.Status != persistence.OK {
		return fmt.Errorf("the last write of a pool: %w", persistence.ErrFenced)
	}
	return d.Err
}

// spawnGateway fails with ErrStopping until the end of the last owner was
// told, which is a little later than its name is free.
func (s *shard) spawnGateway(ctx actor.Context, cfg gateway.Config) error {
	if _, ok := s.node.Gateway(cfg.Gateway.ID); ok {
		return ErrStopping
	}
	pid, err := ctx.SpawnNamed(gateway.Props(cfg), gatewayPrefix+cfg.Gateway.ID)
	if err == nil {
		s.gateways[cfg.Gateway.ID] = cfg
		s.node.keep(s.node.gateways, cfg.Gateway.ID, pid)
		s.node.giveUp(cfg.Gateway.ID, false)
	}
	return err
}

func (s *shard) gatewayEnded(pid *actor.PID, id string) {
	delete(s.gateways, id)
	s.kinds[gatewayPrefix].Forget(pid)
	s.node.forgetGateway(id)
	s.node.changed()
}

// HandleFailure lets the strategy of the child's kind decide.
func (s *shard) HandleFailure(system *actor.ActorSystem, parent actor.Supervisor, child *actor.PID, rs *actor.RestartStatistics, reason, message any) {
	name := childName(child)
	for prefix, kind := range s.kinds {
		if strings.HasPrefix(name, prefix) {
			kind.HandleFailure(system, parent, child, rs, reason, message)
			return
		}
	}
	parent.EscalateFailure(reason, message)
}

// quarantine records why a gateway's owner gave up; `gateway restart` starts it again.
func (s *shard) quarantine(pid *actor.PID, reason any) {
	id := strings.TrimPrefix(childName(pid), gatewayPrefix)
	cfg, now := s.gateways[id], messages.Now()
	status := messages.GatewayStatus{
		ID: id, Tenant: cfg.Gateway.Tenant, Owner: cfg.Fence.Owner, Epoch: cfg.Fence.Epoch,
		State: messages.GatewayQuarantined, Since: now,
		Reason:   fmt.Sprintf("its owner inside Dash failed too often: %v", reason),
		NextStep: fmt.Sprintf(next.ReportThenRestartGateway, id),
	}
	s.node.system.Root.Send(s.committer, commit.Request{Op: persistence.Op{
		Fences: []messages.Fence{cfg.Fence}, Gateway: &status,
		Events: []*messages.Event{status.Event(cfg.Gateway.Pool, 0, now)}, // the state before went with its owner
	}})
	s.node.giveUp(id, true)
}
