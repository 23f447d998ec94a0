package session

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/supervise"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// Config of a session actor. The parent is the gateway actor.
type Config struct {
	Committer *actor.PID
	Fence     persistence.Fence
	// History returns what is replayed at the start of a new generation.
	History func(ctx context.Context, tenant, session string) (string, error)
	Timing  Timing
	Logger  *slog.Logger
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

// Begin gives the actor its run (from the gateway actor), at its start and
// after each restart.
type Begin struct {
	Task    messages.Task
	Session *messages.Session
	History string
	Fresh   bool
	// Conn, BootID and Link are of the present connection, zero without one.
	Conn   Conn
	BootID string
	Link   Link
}

// Linked tells of a new connection whose boot id is durable.
type Linked struct {
	Conn   Conn
	BootID string
	Link   Link
}

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

// Report carries what the run tells the pool's owner: exactly one is set.
type Report struct {
	Ref      messages.ClaimRef
	Ended    *messages.Ended
	Returned *messages.Returned
	Changed  *messages.SessionChangedByG
	Proof    *messages.Task
}

// Delete asks for the removal of a throw-away session.
type Delete struct{ Key string }

// Over says that the run needs its actor no more.
type Over struct{ Ref messages.ClaimRef }

// Watching says that the run holds no slot any more: its task is HELD.
type Watching struct{ Ref messages.ClaimRef }

// Troubled tells the gateway actor of a failure that should shrink its window.
type Troubled struct{ Trouble Trouble }

// Props returns the props of the actor for one claim. A restarted actor asks
// its parent for the run again.
func Props(cfg Config, ref messages.ClaimRef) *actor.Props {
	if cfg.Timing.Call == 0 {
		cfg.Timing.Call = DefaultTiming.Call
	}
	if cfg.Timing.Unreadable == 0 {
		cfg.Timing.Unreadable = DefaultTiming.Unreadable
	}
	var incarnations atomic.Uint64
	var opts []actor.PropsOption
	if cfg.Dispatcher != nil {
		opts = append(opts, actor.WithDispatcher(cfg.Dispatcher))
	}
	return actor.PropsFromProducer(func() actor.Actor {
		return &session{cfg: cfg, ref: ref, inc: incarnations.Add(1), timers: map[TimerKind]*armed{}}
	}, opts...)
}

// session drives one Run: inputs in, effects out.
type session struct {
	cfg        Config
	ref        messages.ClaimRef
	inc        uint64
	run        Run
	have       bool
	link       Link
	tracked    string
	watching   bool
	unreadable int
	timers     map[TimerKind]*armed
	cancel     context.CancelFunc
	ctx        context.Context
}

type armed struct {
	timer *time.Timer
	n     uint64
}

// The results of slow work, addressed to one incarnation.
type (
	happened struct {
		inc   uint64
		event Event
		err   error
	}
	fired struct {
		inc, n uint64
		kind   TimerKind
	}
	loaded struct {
		inc  uint64
		send Send
		text string
		err  error
	}
	commitTag struct {
		inc uint64
		op  int64
	}
	// agentAnswer comes from the reader of a connection.
	agentAnswer struct {
		conn Conn
		a    openclaw.AgentAnswer
	}
)

// AgentAnswer wraps an answer for the actor that owns the run.
func AgentAnswer(conn Conn, a openclaw.AgentAnswer) any { return agentAnswer{conn: conn, a: a} }

func (s *session) Receive(ctx actor.Context) {
	defer supervise.LogPanic(s.cfg.Logger, ctx)
	switch m := ctx.Message().(type) {
	case *actor.Started:
		s.started(ctx)
	case *actor.Stopping, *actor.Restarting:
		s.stop()
	case Begin:
		s.begin(ctx, m)
	case Linked:
		s.link = m.Link
		s.decide(ctx, Connected{Conn: m.Conn, BootID: m.BootID})
	case Event: // Disconnected, Sent, NotSent, RunEnded, Withdrawn, from the gateway actor
		s.decide(ctx, m)
	case agentAnswer:
		s.answered(ctx, m)
	case messages.StopRun:
		s.decide(ctx, StopRequested{At: messages.Now(), Reason: "cancel requested"})
	case happened:
		s.happened(ctx, m)
	case fired:
		s.fired(ctx, m)
	case loaded:
		s.loaded(ctx, m)
	case commit.Done:
		s.committed(ctx, m)
	}
}

func (s *session) started(ctx actor.Context) {
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if s.inc > 1 {
		ctx.Send(ctx.Parent(), Again{Ref: s.ref})
	}
}

func (s *session) stop() {
	s.cancel()
	for _, t := range s.timers {
		t.timer.Stop()
	}
}

func (s *session) begin(ctx actor.Context, b Begin) {
	if s.have {
		return
	}
	s.have = true
	s.link = b.Link
	s.run = Start(b.Task, b.Session, b.History, b.Fresh)
	if b.Link != nil {
		s.decide(ctx, Connected{Conn: b.Conn, BootID: b.BootID})
		return
	}
	s.decide(ctx, Disconnected{})
}

// decide feeds one event to the machine and carries out what it says.
func (s *session) decide(ctx actor.Context, e Event) {
	if !s.have || s.run.Over() {
		return
	}
	if d, ok := e.(Disconnected); ok && d.Conn != 0 {
		s.link = nil
	}
	next, effects := Decide(s.run, Input{Now: messages.Now(), Rand: rand.Float64(), Event: e})
	s.run = next
	for _, eff := range effects {
		s.perform(ctx, eff)
	}
	if id := s.run.tracked(); id != messages.RunID(s.ref.Task, s.ref.Claim) && id != s.tracked {
		s.tracked = id
		ctx.Send(ctx.Parent(), Track{Ref: s.ref, RunID: id})
	}
	if s.run.Held() && !s.watching {
		s.watching = true
		ctx.Send(ctx.Parent(), Watching{Ref: s.ref})
	}
}

func (s *session) perform(ctx actor.Context, eff Effect) {
	switch e := eff.(type) {
	case Send:
		s.send(ctx, e)
	case ReadSession:
		s.ask(ctx, e.Conn, s.cfg.Timing.Call, func(c context.Context, l Link) (Event, error) { return read(c, l, e.Conn, e.Key) })
	case Wait:
		s.ask(ctx, e.Conn, e.Timeout+s.cfg.Timing.Call, func(c context.Context, l Link) (Event, error) { return wait(c, l, e) })
	case Abort:
		s.ask(ctx, e.Conn, s.cfg.Timing.Call, func(c context.Context, l Link) (Event, error) { return abort(c, l, e) })
	case Arm:
		s.arm(ctx, e)
	case Disarm:
		s.disarm(e.Timer)
	case Commit:
		s.commit(ctx, e)
	case Ended:
		ctx.Send(ctx.Parent(), Report{Ref: s.ref, Ended: &e.Ended})
	case Returned:
		ctx.Send(ctx.Parent(), Report{Ref: s.ref, Returned: &e.Returned})
	case SessionChanged:
		ctx.Send(ctx.Parent(), Report{Ref: s.ref, Changed: &e.SessionChangedByG})
	case Proof:
		ctx.Send(ctx.Parent(), Report{Ref: s.ref, Proof: &e.Task})
	case Fence:
		s.fence(ctx, e.Key)
	case DeleteSession:
		ctx.Send(ctx.Parent(), Delete{Key: e.Key})
	case Release:
		ctx.Send(ctx.Parent(), Over{Ref: s.ref})
	default:
		panic(fmt.Sprintf("session: unknown effect %T", eff))
	}
}

// send hands the frame to the gateway actor, which writes all frames in the
// order of their claims. A new generation starts with the session's history.
func (s *session) send(ctx actor.Context, e Send) {
	if !e.Replay || e.History != "" || s.run.Task.Session == "" {
		s.write(ctx, e, e.History)
		return
	}
	root, self, inc := ctx.ActorSystem().Root, ctx.Self(), s.inc
	tenant, id := s.run.Task.Tenant, s.run.Task.Session
	go func() {
		c, cancel := context.WithTimeout(s.ctx, s.cfg.Timing.Call)
		defer cancel()
		text, err := s.cfg.History(c, tenant, id)
		root.Send(self, loaded{inc: inc, send: e, text: text, err: err})
	}()
}

func (s *session) loaded(ctx actor.Context, m loaded) {
	if m.inc != s.inc {
		return
	}
	if m.err != nil {
		s.cfg.Logger.Warn("session history cannot be read; the run waits for it",
			slog.String("task", s.ref.Task), slog.Any("err", m.err))
		s.decide(ctx, NotSent{Conn: m.send.Conn})
		return
	}
	s.write(ctx, m.send, m.text)
}

func (s *session) write(ctx actor.Context, e Send, history string) {
	message := e.Message
	if history != "" {
		message = history + "\n\n" + e.Message
	}
	ctx.Send(ctx.Parent(), SendRun{Ref: s.ref, Conn: e.Conn, Request: openclaw.AgentRequest{
		RunID: e.RunID, SessionKey: e.SessionKey, Message: message, Model: e.Model, Timeout: max(e.Timeout, time.Second),
	}})
}

// ask does one slow question on its own goroutine, at most one at a time by
// the machine's rules.
func (s *session) ask(ctx actor.Context, conn Conn, limit time.Duration, question func(context.Context, Link) (Event, error)) {
	root, self, inc, link := ctx.ActorSystem().Root, ctx.Self(), s.inc, s.link
	if link == nil {
		ctx.Send(self, happened{inc: inc, event: AskFailed{Conn: conn}})
		return
	}
	go func() {
		c, cancel := context.WithTimeout(s.ctx, limit)
		defer cancel()
		e, err := question(c, link)
		if err != nil {
			e = AskFailed{Conn: conn}
		}
		root.Send(self, happened{inc: inc, event: e, err: err})
	}()
}

func (s *session) happened(ctx actor.Context, m happened) {
	if m.inc != s.inc {
		return
	}
	if m.err == nil || !unreadable(m.err) {
		s.unreadable = 0
	} else if s.unreadable++; s.unreadable >= s.cfg.Timing.Unreadable {
		panic(fmt.Errorf("session of task %s cannot be read at its gateway: %w", s.ref.Task, m.err))
	}
	if m.event != nil {
		s.decide(ctx, m.event)
	}
}

func (s *session) answered(ctx actor.Context, m agentAnswer) {
	e, trouble := answer(m.conn, m.a)
	if trouble != NoTrouble {
		ctx.Send(ctx.Parent(), Troubled{Trouble: trouble})
	}
	if e != nil {
		s.decide(ctx, e)
	}
}

// fence stops a session that must not go on, as well as it can now; the
// gateway actor does it again on every new connection.
func (s *session) fence(ctx actor.Context, key string) {
	link, logger, limit := s.link, s.cfg.Logger, s.cfg.Timing.Call
	if link == nil {
		return
	}
	go func() {
		c, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if _, err := link.AbortSession(c, key, "", true); err != nil {
			logger.Info("session will be fenced on the next connection", slog.String("session_key", key), slog.Any("err", err))
		}
	}()
}

func (s *session) arm(ctx actor.Context, e Arm) {
	root, self, inc := ctx.ActorSystem().Root, ctx.Self(), s.inc
	a := s.timers[e.Timer]
	if a == nil {
		a = &armed{}
		s.timers[e.Timer] = a
	} else {
		a.timer.Stop()
	}
	a.n++
	n := a.n
	a.timer = time.AfterFunc(e.After, func() { root.Send(self, fired{inc: inc, n: n, kind: e.Timer}) })
}

func (s *session) disarm(k TimerKind) {
	if a := s.timers[k]; a != nil {
		a.timer.Stop()
		a.n++
	}
}

func (s *session) fired(ctx actor.Context, m fired) {
	if a := s.timers[m.kind]; m.inc == s.inc && a != nil && a.n == m.n {
		s.decide(ctx, Fired{Timer: m.kind})
	}
}

func (s *session) commit(ctx actor.Context, e Commit) {
	op := persistence.Op{
		Fences: []persistence.Fence{s.cfg.Fence},
		Update: &persistence.TaskUpdate{Task: e.Task, From: e.From, FromClaim: e.FromClaim},
	}
	now := messages.Now()
	if e.Task.State != e.From || e.Task.Claim != e.FromClaim {
		op.Events = append(op.Events, e.Task.Event(e.From, now, e.Reason))
	}
	if e.Session != nil {
		op.Session = &persistence.SessionWrite{Session: *e.Session, FromGeneration: e.FromGeneration}
		op.Events = append(op.Events, e.Session.Event(0, now))
	}
	ctx.Send(s.cfg.Committer, commit.Request{Op: op, ReplyTo: ctx.Self(), Tag: commitTag{inc: s.inc, op: e.Op}})
}

func (s *session) committed(ctx actor.Context, d commit.Done) {
	tag, ok := d.Tag.(commitTag)
	if !ok || tag.inc != s.inc {
		return
	}
	c := Committed{Op: tag.op, Current: d.Outcome.Current}
	switch {
	case d.Err != nil:
		c.Status = CommitFailed
	case d.Outcome.Status == persistence.OK:
		c.Status = CommitOK
	case d.Outcome.Status == persistence.Fenced:
		c.Status = CommitFenced
	default:
		c.Status = CommitConflict
	}
	s.decide(ctx, c)
}
