package dispatch

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// session is what the pool knows of an agent session.
type session struct {
	key   string // tenant NUL id
	row   messages.Session
	known bool // row is the stored one
	busy  bool // a write or read of it is under way
	// history of generation historyOf, empty when the generation needs none.
	history   string
	historyOf int64 // -1: not loaded
	used      time.Time
	force     bool                         // a move under way does not wait for the running turn
	ending    bool                         // the write under way closes or removes it
	waiting   []func(actor.Context, error) // those who wait for known
	later     []any                        // commands that wait for the operation under way
}

// session returns the session, which may be unknown yet and then runs nothing.
func (b *broker) session(key string) *session {
	s := b.sessions[key]
	if s == nil {
		tenant, id, _ := strings.Cut(key, "\x00")
		s = &session{key: key, row: messages.Session{Tenant: tenant, ID: id}, historyOf: -1, used: b.now}
		b.sessions[key] = s
		b.bind(s)
	}
	return s
}

// bind tells the arbiter where the session lives and whether it may run.
func (b *broker) bind(s *session) {
	able := s.known && !s.busy && (s.row.State == messages.SessionIdle || s.row.State == messages.SessionBusy)
	b.arb.Bind(s.key, s.row.Gateway, !able)
}

// learn makes row the state of the session in memory.
func (b *broker) learn(s *session, row messages.Session) {
	if s.known && row.Generation != s.row.Generation {
		s.history, s.historyOf = "", -1
	}
	s.row, s.known, s.used = row, true, b.now
	b.bind(s)
}

// sessionChanged takes over what a gateway's owner made durable.
func (b *broker) sessionChanged(_ actor.Context, row *messages.Session) {
	if row.Pool != b.pool.ID {
		b.stale("session_of_other_pool")
		return
	}
	s := b.session(sessionID(row.Tenant, row.ID))
	switch {
	case s.known && row.Generation < s.row.Generation:
		b.stale("session_old_generation")
	case s.busy:
		// The write under way will conflict and the row be read again, or it
		// came later and knows better.
	default:
		b.learn(s, *row)
	}
}

// sessionWrite returns the write of the session's next row with its events.
// The session runs nothing until sessionWritten.
func (b *broker) sessionWrite(s *session, next messages.Session) (*persistence.SessionWrite, []*messages.Event) {
	s.busy = true
	w := &persistence.SessionWrite{Session: next, FromGeneration: s.row.Generation}
	if next.State == s.row.State && next.Generation == s.row.Generation && next.Gateway == s.row.Gateway {
		return w, nil
	}
	from := s.row.State
	switch {
	case from == next.State, messages.Lawful(messages.SessionTransitions, from, next.State):
	case from == messages.SessionParked && next.State == messages.SessionIdle:
		between := next
		between.State = messages.SessionRecovering
		return w, []*messages.Event{between.Event(from, b.now), next.Event(messages.SessionRecovering, b.now)}
	default: // a bug: the session stays in its state
		b.s.Metrics.refusedSteps.Inc()
		b.s.Logger.Error("session refused a step that its table does not have", slog.String("session", s.row.ID),
			slog.String("from", from.String()), slog.String("to", next.State.String()))
		next.State, w.Session.State = from, from
	}
	return w, []*messages.Event{next.Event(from, b.now)}
}

func (b *broker) sessionWritten(s *session, w *persistence.SessionWrite, ok bool) {
	s.busy = false
	if ok {
		s.ending = false
		h, of := s.history, s.historyOf
		b.learn(s, w.Session)
		if of == w.Session.Generation {
			s.history, s.historyOf = h, of
		}
	} else {
		b.reloadSession(s.row.Tenant, s.row.ID)
	}
	b.bind(s)
}

// writeSession writes a session by itself. then runs when it is over.
func (b *broker) writeSession(ctx actor.Context, s *session, next messages.Session, failFast bool, then func(actor.Context, error)) {
	w, events := b.sessionWrite(s, next)
	s.ending = next.State == messages.SessionClosed || next.State == messages.SessionRemoved
	b.bind(s)
	op := persistence.Op{Fences: b.s.fences, Session: w, Events: events}
	b.request(op, failFast, func(ctx actor.Context, d commit.Done) {
		ok := d.Err == nil && d.Outcome.Status == persistence.OK
		b.sessionWritten(s, w, ok)
		if d.Err == nil && d.Outcome.Status == persistence.Fenced {
			b.fenced(ctx, "")
		}
		if then != nil {
			var err error
			if !ok {
				err = interpret(d.Outcome, d.Err)
			}
			then(ctx, err)
		}
		if !s.busy { // else its row is being read, and they are told then
			b.sessionFound(ctx, s, nil)
		}
	})
}

func (b *broker) sessionLater(ctx actor.Context, s *session) {
	later := s.later
	s.later = nil
	for _, m := range later {
		b.command(ctx, m)
	}
}

// renewed is the session in a new generation, free or bound to a gateway.
func (b *broker) renewed(s *session, gateway, reason string) messages.Session {
	next := s.row
	next.Generation++
	next.Gateway, next.Replay, next.State = gateway, true, messages.SessionIdle
	next.Reason, next.NextStep, next.UpdatedAt = reason, "", b.now
	return next
}

// admit takes a new task into the order, or answers a dispatcher whether the
// session may take it. A session that nobody knows is created first.
func (b *broker) admit(ctx actor.Context, in *intake, to *actor.PID) {
	if in.Task.Session == "" {
		b.arrive(ctx, in)
		return
	}
	var labels map[string]string
	b.open(ctx, in.Task.Tenant, in.Task.Session, labels, func(ctx actor.Context, s *session, _ bool, err error) {
		if err == nil {
			err = accepts(&s.row)
		}
		if err == nil && !in.replay {
			b.arrive(ctx, in)
			return
		}
		ctx.Send(to, admitted{in: in, err: err})
	})
}

// accepts returns why a session takes no task, nil when it does.
func accepts(row *messages.Session) error {
	switch row.State {
	case messages.SessionClosed:
		return refuse(messages.CodeWrongState, "the session is closed", next.NewSessionID)
	case messages.SessionParked:
		return refuse(messages.CodeSessionParked, "the session is parked: "+row.Reason, fmt.Sprintf(next.ResumeSession, messages.SessionArgument(row.Tenant, row.ID)))
	}
	return nil
}

// open finds a session in memory, in the store, or creates it.
func (b *broker) open(ctx actor.Context, tenant, id string, labels map[string]string, then func(actor.Context, *session, bool, error)) {
	s := b.session(sessionID(tenant, id))
	s.used = b.now
	if s.known && !s.ending {
		then(ctx, s, false, nil)
		return
	}
	s.waiting = append(s.waiting, func(ctx actor.Context, err error) {
		if err != nil || s.known {
			then(ctx, s, false, err)
			return
		}
		b.create(ctx, s, labels, then)
	})
	if !s.busy {
		b.reloadSession(tenant, id)
	}
}

// create makes a session that the store does not have.
func (b *broker) create(ctx actor.Context, s *session, labels map[string]string, then func(actor.Context, *session, bool, error)) {
	if s.busy { // somebody else creates it in this turn
		s.waiting = append(s.waiting, func(ctx actor.Context, err error) { then(ctx, s, false, err) })
		return
	}
	s.busy = true
	row := messages.Session{
		Tenant: s.row.Tenant, ID: s.row.ID, Pool: b.pool.ID, State: messages.SessionIdle, Labels: labels,
		Generation: messages.FirstGeneration(b.now), CreatedAt: b.now, UpdatedAt: b.now,
	}
	op := persistence.Op{
		Fences:  b.s.fences,
		Session: &persistence.SessionWrite{Session: row, FromGeneration: -1},
		Events:  []*messages.Event{row.Event(0, b.now)},
	}
	b.request(op, true, func(ctx actor.Context, d commit.Done) {
		s.busy = false
		switch {
		case d.Err == nil && d.Outcome.Status == persistence.OK:
			b.learn(s, row)
			s.historyOf = row.Generation
			then(ctx, s, true, nil)
			b.sessionFound(ctx, s, nil)
		case d.Err == nil && d.Outcome.Status == persistence.Conflict:
			// Another pool or an earlier try was faster.
			s.waiting = append(s.waiting, func(ctx actor.Context, err error) { then(ctx, s, false, err) })
			b.reloadSession(row.Tenant, row.ID)
		default:
			err := interpret(d.Outcome, d.Err)
			then(ctx, s, false, err)
			b.sessionFound(ctx, s, err)
		}
	})
}

// reloadSession reads the stored row; the session runs nothing meanwhile.
func (b *broker) reloadSession(tenant, id string) {
	s := b.session(sessionID(tenant, id))
	if s.busy {
		return
	}
	s.busy = true
	b.bind(s)
	b.s.read(b.self, func(rctx readContext) any {
		row, err := b.s.Store.Session(rctx, tenant, id)
		return again{func(ctx actor.Context) { b.sessionRead(ctx, s, row, err) }}
	})
}

func (b *broker) sessionRead(ctx actor.Context, s *session, row messages.Session, err error) {
	s.busy, s.ending = false, false
	switch {
	case err == nil && row.Pool != b.pool.ID:
		err = refuse(messages.CodeWrongPool, "the session belongs to pool "+row.Pool, next.NameThatPool)
		b.sessionFound(ctx, s, err)
		return
	case err == nil:
		if !s.known || row.Generation >= s.row.Generation {
			b.learn(s, row)
		}
	case errors.Is(err, persistence.ErrNotFound):
		err, s.known = nil, false // those who wait create it
		if b.arb.Open(s.key) > 0 && len(s.waiting) == 0 {
			// Tasks name a session without a row: the row is made again.
			b.create(ctx, s, nil, func(actor.Context, *session, bool, error) {})
			return
		}
	default:
		err = unavailable(err)
		if b.arb.Open(s.key) > 0 {
			b.s.after(storeRetry, b.self, again{func(actor.Context) { b.reloadSession(s.row.Tenant, s.row.ID) }})
		}
	}
	b.bind(s)
	b.sessionFound(ctx, s, err)
}

// sessionFound tells those who waited for the session's row.
func (b *broker) sessionFound(ctx actor.Context, s *session, err error) {
	waiting := s.waiting
	s.waiting = nil
	for _, f := range waiting {
		f(ctx, err)
	}
	b.sessionLater(ctx, s)
	b.sessionIdle(s.key)
}

// sessionIdle forgets a session that nobody needs in memory: unknown to the
// store, or closed.
func (b *broker) sessionIdle(key string) {
	s := b.sessions[key]
	if s == nil || s.busy || len(s.waiting)+len(s.later) > 0 || b.arb.Open(key) > 0 {
		return
	}
	if !s.known || s.row.State == messages.SessionClosed {
		b.forget(s)
	}
}

func (b *broker) forget(s *session) {
	b.arb.Unbind(s.key)
	delete(b.sessions, s.key)
}

// idleAfter is how long a session without tasks stays in memory.
const idleAfter = time.Hour

// tickSessions ends moves, frees sessions whose gateway takes no work, and
// records that a session is idle again.
func (b *broker) tickSessions(ctx actor.Context) {
	for key, s := range b.sessions {
		if !s.known || s.busy {
			if !s.known && !s.busy && b.arb.Open(key) > 0 {
				b.reloadSession(s.row.Tenant, s.row.ID)
			}
			continue
		}
		flight := b.arb.Flight(key)
		switch {
		case s.row.State == messages.SessionMoving:
			b.finishMove(ctx, s, flight)
		case flight != nil:
		case s.row.State == messages.SessionBusy && b.arb.Open(key) == 0:
			next := s.row
			next.State, next.UpdatedAt = messages.SessionIdle, b.now
			b.writeSession(ctx, s, next, false, nil)
		case s.row.State == messages.SessionSuspended && b.now.Sub(s.row.UpdatedAt) >= b.pool.Away():
			// A run that nobody could stop may still go on under the old key; the
			// new generation has another one.
			b.writeSession(ctx, s, b.renewed(s, "", "a run at its former gateway could not be stopped"), false, nil)
		case b.arb.Head(key) != nil && s.row.Gateway != "" && s.row.State != messages.SessionParked && b.stuck(s):
			b.writeSession(ctx, s, b.renewed(s, "", "its gateway takes no work"), false, nil)
		case b.arb.Open(key) == 0 && b.now.Sub(s.used) > idleAfter:
			b.forget(s)
		}
	}
}

// stuck reports whether the session's gateway has offered nothing for longer
// than the pool waits for a gateway.
func (b *broker) stuck(s *session) bool {
	g := b.gate(s.row.Gateway)
	return g.gone || !g.closed.IsZero() && b.now.Sub(g.closed) >= b.pool.Away()
}
