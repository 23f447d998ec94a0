package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// Props returns the props of a pool's root actor. Its supervisor restarts the
// whole group with it: the failure of a child is passed upward. Clients and
// gateway owners send to the root; what arrives while the pool reads itself
// back is kept (at most 65,536 messages) and delivered in order.
func Props(cfg Config) (*actor.Props, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	incarnations := &atomic.Uint64{}
	return cfg.props(func() actor.Actor {
		return &group{cfg: cfg, incarnation: incarnations.Add(1)}
	}), nil
}

// group is the root of a pool: it reads the pool back, owns the children, and
// hands messages on.
type group struct {
	cfg         Config
	incarnation uint64
	s           *shared
	cancel      context.CancelFunc
	arbiter     *actor.PID
	classes     [numClasses]*actor.PID
	serving     bool
	stash       []stashed
	began       time.Time
}

type stashed struct {
	message any
	sender  *actor.PID
}

// barrier is the tag of the operation that proves that everything an earlier
// incarnation asked for has been written, and that the fence holds.
type barrier struct{ incarnation uint64 }

// raise asks for the barrier again after the store was down.
type raise struct{ incarnation uint64 }

// serves tells the root that the arbiter has read everything back.
type serves struct{ tasks int }

// fencedOut tells the root that a write was fenced.
type fencedOut struct{}

func (g *group) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		g.start(ctx)
	case *actor.Stopping, *actor.Restarting:
		g.stop()
	case *actor.Stopped, *actor.Terminated:
	case commit.Done:
		g.barrierDown(ctx, m)
	case raise:
		if m.incarnation == g.incarnation {
			g.raiseBarrier(ctx)
		}
	case serves:
		g.serve(ctx, m)
	case fencedOut:
		g.fenced(ctx)
	default:
		g.route(ctx, m)
	}
}

// HandleFailure makes the group fail as one: its own supervisor decides.
func (g *group) HandleFailure(_ *actor.ActorSystem, self actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, message any) {
	g.cfg.Logger.Warn("part of a pool failed, the pool is read back from the store", slog.String("pool", g.cfg.Pool.ID),
		slog.String("actor", child.Id), slog.Any("reason", reason))
	self.EscalateFailure(reason, message)
}

func (g *group) start(ctx actor.Context) {
	g.began = time.Now()
	runCtx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	g.s = &shared{Config: g.cfg, ctx: runCtx, root: ctx.Self(), send: ctx.ActorSystem().Root, seq: &atomic.Int64{},
		fences: []messages.Fence{g.cfg.Fence}, loads: &[numClasses]load{}, reads: make(chan struct{}, maxReads)}
	g.raiseBarrier(ctx)
}

func (g *group) raiseBarrier(ctx actor.Context) {
	ctx.Send(g.cfg.Committer, commit.Request{
		Op: persistence.Op{Fences: []messages.Fence{g.cfg.Fence}}, ReplyTo: ctx.Self(), Tag: barrier{g.incarnation},
	})
}

func (g *group) barrierDown(ctx actor.Context, d commit.Done) {
	if b, ok := d.Tag.(barrier); !ok || b.incarnation != g.incarnation || g.arbiter != nil {
		return
	}
	switch {
	case d.Err != nil:
		g.s.after(storeRetry, ctx.Self(), raise{g.incarnation})
	case d.Outcome.Status == persistence.Fenced:
		g.fenced(ctx)
	default:
		g.spawn(ctx)
	}
}

func (g *group) spawn(ctx actor.Context) {
	for _, c := range messages.Classes {
		g.classes[c] = ctx.Spawn(g.cfg.props(func() actor.Actor { return newDispatcher(g.s, c) }))
	}
	classes := g.classes
	g.arbiter = ctx.Spawn(g.cfg.props(func() actor.Actor { return newBroker(g.s, classes) }))
	for _, c := range messages.Classes {
		ctx.Send(g.classes[c], meet{arbiter: g.arbiter})
	}
	go g.s.load(g.arbiter)
}

func (g *group) serve(ctx actor.Context, m serves) {
	g.serving = true
	g.cfg.Logger.Info("pool serves", slog.String("pool", g.cfg.Pool.ID), slog.Int("tasks", m.tasks),
		slog.Int("kept_messages", len(g.stash)), slog.Duration("after", time.Since(g.began)))
	for _, m := range g.stash {
		if to := g.target(m.message); to != nil {
			ctx.RequestWithCustomSender(to, m.message, m.sender)
		}
	}
	g.stash = nil
}

func (g *group) route(ctx actor.Context, m any) {
	if set, ok := m.(SetPool); ok {
		g.cfg.Pool = set.Pool
	}
	if g.serving {
		if to := g.target(m); to != nil {
			ctx.Forward(to)
		}
		return
	}
	if len(g.stash) >= maxStash {
		g.cfg.Metrics.stashed.Inc()
		turnAway(m)
		return
	}
	g.stash = append(g.stash, stashed{message: m, sender: ctx.Sender()})
}

// target is the child that handles a message.
func (g *group) target(m any) *actor.PID {
	var c messages.Class
	switch m := m.(type) {
	case *Submit:
		c = m.Task.Class
	case Replay:
		c = m.Task.Class
	default:
		return g.arbiter
	}
	if !c.Valid() {
		turnAway(m)
		return nil
	}
	return g.classes[c]
}

func (g *group) fenced(ctx actor.Context) {
	g.cfg.Logger.Warn("pool has another owner and stops here", slog.String("pool", g.cfg.Pool.ID), slog.String("shard", g.cfg.Fence.Key))
	if ctx.Parent() != nil {
		ctx.Send(ctx.Parent(), Fenced{Pool: g.cfg.Pool.ID})
	}
	ctx.Stop(ctx.Self())
}

func (g *group) stop() {
	if g.cancel != nil {
		g.cancel()
	}
	for _, m := range g.stash {
		turnAway(m.message)
	}
	g.stash = nil
}

// turnAway answers a command that the pool cannot take.
func turnAway(m any) {
	err := &messages.Error{
		Code: messages.CodeUnavailable, Message: "the pool is starting and takes no requests yet",
		NextStep: next.SendSameAgain, RetryAfter: time.Second,
	}
	switch m := m.(type) {
	case *Submit:
		if !m.Task.Class.Valid() {
			err = refuse(messages.CodeInvalid, "the task has no valid priority", next.UsePriority)
		}
		reply(m.Reply, SubmitReply{Err: err})
	case Replay:
		reply(m.Reply, SubmitReply{Err: err})
	case Cancel:
		reply(m.Reply, TaskReply{Err: err})
	case Release:
		reply(m.Reply, TaskReply{Err: err})
	case OpenSession:
		reply(m.Reply, SessionReply{Err: err})
	case CloseSession:
		reply(m.Reply, SessionReply{Err: err})
	case MoveSession:
		reply(m.Reply, SessionReply{Err: err})
	case UnparkSession:
		reply(m.Reply, SessionReply{Err: err})
	case RetireSessions:
		reply(m.Reply, Retired{Err: err})
	case SetPool:
		reply[error](m.Reply, err)
	}
}

// taskPage, sessionPage and loadEnd carry the pool's rows to the arbiter.
type (
	taskPage    struct{ tasks []messages.Task }
	sessionPage struct{ sessions []messages.Session }
	loadEnd     struct{ seq int64 }
)

// load reads the pool back page by page and tries again while the store is down.
func (s *shared) load(to *actor.PID) {
	for after, more := "", true; more; {
		page, ok := attempt(s, func(ctx context.Context) (p taskPage, err error) {
			p.tasks, more, err = s.Store.OpenTasks(ctx, s.Pool.ID, after, loadPage)
			return p, err
		})
		if !ok {
			return
		}
		s.send.Send(to, page)
		if more {
			after = page.tasks[len(page.tasks)-1].ID
		}
	}
	for after := ""; ; {
		page, ok := attempt(s, func(ctx context.Context) ([]messages.Session, error) {
			return s.Store.Sessions(ctx, "", s.Pool.ID, after, loadPage)
		})
		if !ok {
			return
		}
		s.send.Send(to, sessionPage{page})
		if len(page) < loadPage {
			break
		}
		after = persistence.SessionPlace(page[len(page)-1])
	}
	seq, ok := attempt(s, func(ctx context.Context) (int64, error) { return s.Store.MaxSeq(ctx, s.Pool.ID) })
	if ok {
		s.send.Send(to, loadEnd{seq})
	}
}

// attempt calls f until it succeeds; false: the incarnation ended.
func attempt[T any](s *shared, f func(context.Context) (T, error)) (T, bool) {
	for {
		ctx, cancel := context.WithTimeout(s.ctx, readTimeout)
		v, err := f(ctx)
		cancel()
		if err == nil {
			return v, true
		}
		if s.ctx.Err() != nil || errors.Is(err, context.Canceled) {
			return v, false
		}
		s.Logger.Warn("pool cannot be read, trying again", slog.String("pool", s.Pool.ID), slog.Any("err", err))
		select {
		case <-s.ctx.Done():
			return v, false
		case <-time.After(storeRetry):
		}
	}
}
