package session

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/supervise"
	"github.com/dash-fleet/dash/messages"
)

// Config of a session actor. The parent is the gateway actor.
type Config struct {
	Committer *actor.PID
	Fence     messages.Fence
	// History returns what is replayed at the start of a new generation.
	History func(ctx context.Context, tenant, session string) (string, error)
	Timing  Timing
	Logger  *slog.Logger
	// Reads has a place for each transcript of the gateway that is read at a time;
	// Hold waits for room to keep n bytes of a claim's replies, Free gives it back.
	// nil: there is room for all.
	Reads chan struct{}
	Hold  func(ctx context.Context, ref messages.ClaimRef, n int) error
	Free  func(ref messages.ClaimRef)
	// Dispatcher runs the actor's turns; nil: protoactor's own.
	Dispatcher actor.Dispatcher
}

// Timing are a session actor's own limits; those of a run are constants of the
// machine.
type Timing struct {
	// Call is the deadline of one read or abort.
	Call time.Duration
	// Unreadable answers in a row make the actor fail, so that it is restarted
	// with growing delays and in the end parked.
	Unreadable int
}

// DefaultTiming is used for zero fields.
var DefaultTiming = Timing{Call: 15 * time.Second, Unreadable: 3}

// Begin gives the actor a run (from the gateway actor): when the last one is
// over, and again after a restart.
type Begin struct {
	Task    *messages.Task // stays as it is
	Session *messages.Session
	History string
	Fresh   bool
	Linked  // the present connection, zero without one
}

// Linked tells of a new connection whose boot id is durable.
type Linked struct {
	Conn   Conn
	BootID string
	Ended  string // the last process that was stopped
	Link   Link
}

func (l Linked) event() Connected { return Connected{Conn: l.Conn, BootID: l.BootID, Ended: l.Ended} }

// Again asks the gateway actor for another Begin, after a restart.
type Again struct{ Ref messages.ClaimRef }

// SendRun asks the gateway actor to write the run's frame. It is answered by
// Sent or NotSent, then by answers of the run.
type SendRun struct {
	Ref     messages.ClaimRef
	Conn    Conn
	Request openclaw.AgentRequest
}

// Track tells the gateway actor that events of another run id belong here.
type Track struct {
	Ref   messages.ClaimRef
	RunID string
}

// Report carries what the run tells the pool's owner while it goes on: exactly
// one is set.
type Report struct {
	Ref     messages.ClaimRef
	Changed *messages.SessionChangedByG
	Proof   *messages.Task
	Trials  *messages.Trials // durable, with one more end of a process
}

// Over says that the run is over, and how; the actor is free for another.
type Over struct {
	Ref      messages.ClaimRef
	Ended    *messages.Ended    // for the pool's owner; nil: nothing to report
	Returned *messages.Returned // likewise
	Delete   string             // key of a throw-away session to be removed
	Fence    Fence              // what may still run; no key: nothing
}

// Attends says that the run has answered and waits for its sub-agents.
type Attends struct {
	Ref       messages.ClaimRef
	SubAgents int
}

// Suspect says that the run's task may be what kills the gateway.
type Suspect struct{ Ref messages.ClaimRef }

// WantAlone asks the gateway actor for Alone.
type WantAlone struct{ Ref messages.ClaimRef }

// Watching says that the run holds no slot any more: its task is HELD.
type Watching struct{ Ref messages.ClaimRef }

// Troubled tells the gateway actor of a failure that should shrink its window.
type Troubled struct {
	Trouble Trouble
	Model   string // that the task names, empty: the gateway's default
}

// Served tells the gateway actor that a model provider answered a run.
type Served struct {
	Provider string
	Claimed  time.Time // when the run was
}

// Props returns the props of a session actor. It has nothing to do until a
// Begin; a restarted one asks its parent for the run that it had.
func Props(cfg Config) *actor.Props {
	if cfg.Timing.Call == 0 {
		cfg.Timing.Call = DefaultTiming.Call
	}
	if cfg.Timing.Unreadable == 0 {
		cfg.Timing.Unreadable = DefaultTiming.Unreadable
	}
	var opts []actor.PropsOption
	if cfg.Dispatcher != nil {
		opts = append(opts, actor.WithDispatcher(cfg.Dispatcher))
	}
	known := &known{}
	return actor.PropsFromProducer(func() actor.Actor {
		return &session{cfg: &cfg, known: known, fences: []messages.Fence{cfg.Fence}}
	}, opts...)
}

// known is what survives a restart of the actor. Only its turns touch it.
type known struct {
	ref  messages.ClaimRef // the run it has, or had last
	life uint64            // grows with every Begin and every restart
}

// session drives one Run after the other: inputs in, effects out.
type session struct {
	cfg        *Config
	known      *known
	fences     []messages.Fence
	ref        messages.ClaimRef
	life       uint64   // results of slow work that name another are void
	d          decision // the run, and what it asked for last
	have       bool
	link       Link
	tracked    string
	watching   bool
	unreadable int
	over       Over // what is known of it so far
	ends       int  // of processes under its task that the gateway actor was told of
	clock      clock
	now        time.Time       // of the input under way
	ctx        context.Context // ends with the run; nil until it is needed
	cancel     context.CancelFunc
}

// The results of slow work, addressed to one life.
type (
	happened struct {
		life  uint64
		event Event
		err   error
	}
	loaded struct {
		life uint64
		send Send
		text string
		err  error
	}
	commitTag struct {
		life uint64
		op   int64
	}
	// agentAnswer comes from the reader of a connection.
	agentAnswer struct {
		ref     messages.ClaimRef
		event   Event // nil: it says nothing new
		trouble Trouble
		served  string // by this provider; empty: not, or by one that the gateway does not name
	}
)

// AgentAnswer wraps an answer for the actor that owns the run.
func AgentAnswer(ref messages.ClaimRef, conn Conn, a openclaw.AgentAnswer) any {
	e, trouble := answer(conn, a)
	m := &agentAnswer{ref: ref, event: e, trouble: trouble}
	if a.Kind == openclaw.AnswerFinal {
		m.served = a.Meta.Provider
	}
	return m
}

func (s *session) Receive(ctx actor.Context) {
	defer supervise.LogPanic(s.cfg.Logger, ctx)
	switch m := ctx.Message().(type) {
	case *actor.Started:
		s.started(ctx)
	case *actor.Stopping, *actor.Restarting:
		s.stop()
	case *Begin:
		s.begin(ctx, m)
	case Linked:
		s.link = m.Link
		s.decide(ctx, m.event())
	case Event: // Disconnected, Sent, NotSent, Alone, RunEnded, Withdrawn, from the gateway actor
		s.decide(ctx, m)
	case *agentAnswer:
		s.answered(ctx, m)
	case messages.StopRun:
		s.decide(ctx, StopRequested{At: messages.Now(), Reason: "cancel requested"})
	case happened:
		s.happened(ctx, m)
	case rung:
		s.rung(ctx, m)
	case loaded:
		s.loaded(ctx, m)
	case commit.Done:
		s.committed(ctx, m)
	}
}

func (s *session) started(ctx actor.Context) {
	root, self := ctx.ActorSystem().Root, ctx.Self()
	s.clock.ring = func() { root.Send(self, rung{of: s}) }
	s.known.life++
	s.life, s.ref = s.known.life, s.known.ref
	if s.life > 1 {
		ctx.Send(ctx.Parent(), Again{Ref: s.ref})
	}
}

func (s *session) stop() {
	s.clock.reset()
	s.endCalls()
}

// calls is the context of slow work for the run; it ends with it.
func (s *session) calls() context.Context {
	if s.ctx == nil {
		s.ctx, s.cancel = context.WithCancel(context.Background())
	}
	return s.ctx
}

func (s *session) endCalls() {
	if s.cancel != nil {
		s.cancel()
		s.ctx, s.cancel = nil, nil
	}
}

// begin starts a run. Whatever may still come of the one before is void: it
// names another life or claim.
func (s *session) begin(ctx actor.Context, b *Begin) {
	if s.have && !s.d.Over() {
		return
	}
	s.endCalls()
	s.clock.reset()
	s.known.life++
	s.known.ref = messages.ClaimRef{Task: b.Task.ID, Claim: b.Task.Claim}
	s.life, s.ref, s.over = s.known.life, s.known.ref, Over{Ref: s.known.ref}
	s.have, s.link, s.tracked, s.watching, s.unreadable = true, b.Link, "", false, 0
	s.ends = b.Task.Trials.Ends()
	s.d.Run = Start(*b.Task, b.Session, b.History, b.Fresh)
	if b.Link != nil {
		s.decide(ctx, b.event())
		return
	}
	s.decide(ctx, Disconnected{})
}

// decide feeds one event to the machine and carries out what it says.
func (s *session) decide(ctx actor.Context, e Event) {
	if !s.have || s.d.Over() {
		return
	}
	if d, ok := e.(Disconnected); ok && d.Conn != 0 {
		s.link = nil
	}
	s.now = time.Now()
	s.d.take(Input{Now: s.now.UTC().Truncate(time.Microsecond), Rand: rand.Float64(), Event: e})
	for _, eff := range s.d.effects {
		s.perform(ctx, eff)
	}
	if id := s.d.rerun(); id != "" && id != s.tracked {
		s.tracked = id
		ctx.Send(ctx.Parent(), Track{Ref: s.ref, RunID: id})
	}
	if t := s.d.Task.Trials; t.Ends() > s.ends {
		s.ends = t.Ends()
		ctx.Send(ctx.Parent(), Report{Ref: s.ref, Trials: t})
	}
	if s.d.Held() && !s.watching {
		s.watching = true
		ctx.Send(ctx.Parent(), Watching{Ref: s.ref})
	}
}

func (s *session) answered(ctx actor.Context, m *agentAnswer) {
	if m.ref != s.ref {
		return
	}
	if m.trouble.Kind != NoTrouble {
		ctx.Send(ctx.Parent(), Troubled{Trouble: m.trouble, Model: s.d.Task.Spec.GetModel()})
	}
	if m.served != "" {
		ctx.Send(ctx.Parent(), Served{Provider: m.served, Claimed: s.d.Task.ClaimedAt})
	}
	if m.event != nil {
		s.decide(ctx, m.event)
	}
}
