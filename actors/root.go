package actors

import (
	"log/slog"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/actors/supervise"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// root is the top actor: it keeps the committer up, and starts and ends shards.
type root struct {
	node      *Node
	committer *actor.PID
	restarts  *supervise.Strategy // of the committer
	shards    map[string]*branch
}

// branch is a shard as its parent knows it.
type branch struct {
	fence  messages.Fence
	pid    *actor.PID
	ending bool
	stops  []chan<- error // who waits for its end
	next   []addShard     // what follows it
}

// lastWrite is the tag of an operation that is written behind all that the actors
// of a shard, or a pool's owner in it, asked for.
type lastWrite struct{ of string }

func (n *Node) newRoot() *root {
	return &root{node: n, shards: map[string]*branch{}, restarts: supervise.New(supervise.Config{
		Kind: "committer", Initial: 50 * time.Millisecond, Max: 5 * time.Second, Window: time.Minute, Logger: n.cfg.Logger, Restarts: n.restarts,
	})}
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
	case addShard:
		r.addShard(ctx, m)
	case stopShard:
		r.stopShard(ctx, m)
	case lost:
		r.lost(ctx, m.fence)
	case *actor.Terminated:
		r.ended(ctx, m.Who)
	case commit.Done:
		if w, ok := m.Tag.(lastWrite); ok {
			r.gone(ctx, w.of, m.Err)
		}
	}
}

func (r *root) addShard(ctx actor.Context, m addShard) {
	switch b := r.shards[m.fence.Key]; {
	case b == nil:
		m.reply <- r.spawn(ctx, m.fence)
	case b.ending:
		b.next = append(b.next, m)
	case b.fence != m.fence:
		m.reply <- errOtherEpoch
	default:
		m.reply <- nil
	}
}

func (r *root) spawn(ctx actor.Context, fence messages.Fence) error {
	props := actor.PropsFromProducer(func() actor.Actor { return newShard(r.node, r.committer, fence) })
	pid, err := ctx.SpawnNamed(props, shardPrefix+fence.Key)
	if err == nil {
		r.shards[fence.Key] = &branch{fence: fence, pid: pid}
		r.node.keepShard(fence, pid)
	}
	return err
}

func (r *root) stopShard(ctx actor.Context, m stopShard) {
	b := r.shards[m.key]
	if b == nil {
		m.reply <- nil
		return
	}
	b.stops = append(b.stops, m.reply)
	r.end(ctx, b)
}

// lost ends a shard that another epoch has now: whatever it still wrote would be fenced.
func (r *root) lost(ctx actor.Context, fence messages.Fence) {
	b := r.shards[fence.Key]
	if b == nil || b.ending || b.fence != fence {
		return
	}
	r.node.cfg.Logger.Warn("shard lost: its pools and gateways stop here", slog.String("shard", fence.Key), slog.Int64("epoch", fence.Epoch))
	r.end(ctx, b)
	r.node.changed()
}

func (r *root) end(ctx actor.Context, b *branch) {
	if b.ending {
		return
	}
	b.ending = true
	r.node.leaveShard(b.fence.Key)
	ctx.Stop(b.pid)
}

// ended waits for what the actors of an ended shard had asked for.
func (r *root) ended(ctx actor.Context, pid *actor.PID) {
	key, ok := strings.CutPrefix(childName(pid), shardPrefix)
	if b := r.shards[key]; ok && b != nil {
		ctx.Send(r.committer, commit.Request{Op: persistence.Op{Fences: []messages.Fence{b.fence}}, ReplyTo: ctx.Self(), Tag: lastWrite{key}})
	}
}

// gone tells of the end of a shard, and starts the one that follows it. That its
// last write was fenced says the same as that it was written: none comes behind it.
func (r *root) gone(ctx actor.Context, key string, err error) {
	b := r.shards[key]
	delete(r.shards, key)
	for _, reply := range b.stops {
		reply <- err
	}
	for _, m := range b.next {
		r.addShard(ctx, m)
	}
	r.node.changed() // until now its owners may have seemed to run
}

// HandleFailure restarts the committer. A shard that fails is given up like a
// lost one, and whoever wants it adds it again.
func (r *root) HandleFailure(system *actor.ActorSystem, parent actor.Supervisor, child *actor.PID, rs *actor.RestartStatistics, reason, message any) {
	name := childName(child)
	if name == committerName {
		r.restarts.HandleFailure(system, parent, child, rs, reason, message)
		return
	}
	b := r.shards[strings.TrimPrefix(name, shardPrefix)]
	if b == nil {
		parent.EscalateFailure(reason, message)
		return
	}
	r.node.cfg.Logger.Error("shard failed", slog.String("shard", b.fence.Key), slog.Any("reason", reason))
	if !b.ending {
		b.ending = true
		r.node.leaveShard(b.fence.Key)
	}
	parent.StopChildren(child)
	r.node.changed()
}

func childName(pid *actor.PID) string {
	return pid.Id[strings.LastIndexByte(pid.Id, '/')+1:]
}
