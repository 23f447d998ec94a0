package dispatch

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

func unixMicro(us int64) time.Time { return time.UnixMicro(us).UTC() }

// withSession runs f when the session's row is known and nothing is under way
// on it; a session that the store does not have is answered as not found.
func (b *broker) withSession(ctx actor.Context, tenant, id string, m any, to chan<- SessionReply, f func(s *session)) {
	s := b.session(sessionID(tenant, id))
	s.used = b.now
	switch {
	case !s.known:
		s.waiting = append(s.waiting, func(ctx actor.Context, err error) {
			if err == nil && !s.known {
				err = refuse(messages.CodeNotFound, "there is no such session", next.CheckIDAndTenant)
			}
			if err != nil {
				reply(to, SessionReply{Err: err})
				return
			}
			b.command(ctx, m)
		})
		if !s.busy {
			b.reloadSession(tenant, id)
		}
	case s.busy:
		if len(s.later) >= maxLater {
			reply(to, SessionReply{Err: &messages.Error{Code: messages.CodeUnavailable,
				Message: "too many requests wait for this session", NextStep: next.TryAgain, RetryAfter: repeatEvery}})
			return
		}
		s.later = append(s.later, m)
	default:
		f(s)
	}
}

func wrongSessionState(s *session, what string) SessionReply {
	return SessionReply{Session: s.row, Err: refuse(messages.CodeWrongState,
		"a session that is "+s.row.State.String()+" cannot be "+what, next.ReadSessionAgain)}
}

func (b *broker) closeSession(ctx actor.Context, m CloseSession) {
	b.withSession(ctx, m.Tenant, m.Session, m, m.Reply, func(s *session) {
		switch {
		case s.row.State == messages.SessionClosed:
			reply(m.Reply, SessionReply{Session: s.row})
			return
		case b.opens[s.key] > 0:
			reply(m.Reply, SessionReply{Session: s.row, Err: refuse(messages.CodeWrongState,
				"the session has tasks that have not ended", next.CancelOrWait)})
			return
		case !messages.Lawful(messages.SessionTransitions, s.row.State, messages.SessionClosed):
			reply(m.Reply, wrongSessionState(s, "closed"))
			return
		}
		next := s.row
		next.State, next.UpdatedAt = messages.SessionClosed, b.now
		b.writeSession(ctx, s, next, true, func(_ actor.Context, err error) {
			reply(m.Reply, SessionReply{Session: s.row, Err: err})
			b.sessionIdle(s.key)
		})
	})
}

func (b *broker) unpark(ctx actor.Context, m UnparkSession) {
	b.withSession(ctx, m.Tenant, m.Session, m, m.Reply, func(s *session) {
		if s.row.State != messages.SessionParked {
			reply(m.Reply, wrongSessionState(s, "resumed"))
			return
		}
		next := b.renewed(s, s.row.Gateway, "resumed by an operator")
		next.Restarts = 0
		b.writeSession(ctx, s, next, true, func(_ actor.Context, err error) {
			reply(m.Reply, SessionReply{Session: s.row, Err: err})
		})
	})
}

// moveSession binds the session to another gateway: at once when nothing runs,
// else it becomes MOVING and tickSessions ends the move.
func (b *broker) moveSession(ctx actor.Context, m MoveSession) {
	b.withSession(ctx, m.Tenant, m.Session, m, m.Reply, func(s *session) {
		answer := func(_ actor.Context, err error) { reply(m.Reply, SessionReply{Session: s.row, Err: err}) }
		if m.Gateway != "" {
			if g := b.gates[m.Gateway]; g == nil || g.pid == nil {
				answer(ctx, refuse(messages.CodeNotFound, "the pool has no gateway "+m.Gateway, next.ListGateways))
				return
			} else if !g.awaySince(b.now).IsZero() {
				answer(ctx, refuse(messages.CodeWrongState, "the gateway "+m.Gateway+" cannot be reached now, so the session would wait for it", next.ChooseOtherGateway))
				return
			}
		}
		if s.row.State == messages.SessionParked || s.row.State == messages.SessionClosed {
			reply(m.Reply, wrongSessionState(s, "moved"))
			return
		}
		flight := b.arb.Flight(s.key)
		if flight == nil {
			b.writeSession(ctx, s, b.renewed(s, m.Gateway, "moved"), true, answer)
			return
		}
		e := flight.Owner.(*entry)
		if e.busy {
			b.wait(e, m, func(err error) { answer(ctx, err) })
			return
		}
		next := s.row
		next.State, next.Gateway, next.UpdatedAt, next.Reason = messages.SessionMoving, m.Gateway, b.now, "moves when the running turn has ended"
		s.force = m.Force
		b.writeSession(ctx, s, next, true, func(ctx actor.Context, err error) {
			answer(ctx, err)
			if err == nil && m.Force {
				b.finishMove(ctx, s, b.arb.Flight(s.key))
			}
		})
	})
}

// finishMove ends a move: when the turn is over, or by force at the deadline.
func (b *broker) finishMove(ctx actor.Context, s *session, flight *Item) {
	if s.busy || s.row.State != messages.SessionMoving {
		return
	}
	if flight == nil {
		b.writeSession(ctx, s, b.renewed(s, s.row.Gateway, "moved"), false, nil)
		return
	}
	e := flight.Owner.(*entry)
	if !s.force && b.now.Sub(s.row.UpdatedAt) < moveWithin {
		return
	}
	b.withdraw(ctx, b.gate(e.row.Gateway), e, "moved", s.row.Gateway)
}
