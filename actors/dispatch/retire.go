package dispatch

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/messages"
)

// retire closes and removes what is due. All of it is one turn of the actor:
// what was admitted before it is known, and what comes later finds the session
// ending and waits for that. The writes compare the generation under the fence.
func (b *broker) retire(ctx actor.Context, m RetireSessions) {
	var r Retired
	left := 1
	over := func() {
		if left--; left == 0 {
			reply(m.Reply, r)
		}
	}
	for _, row := range m.Sessions {
		key := sessionID(row.Tenant, row.ID)
		s := b.sessions[key]
		if row.Pool != b.pool.ID || b.opens[key] > 0 || s != nil && (s.busy || len(s.waiting)+len(s.later) > 0) {
			continue
		}
		if s != nil && s.known {
			row = s.row
		}
		next, due := retired(row, m.UnusedSince, m.ClosedSince, b.now)
		if !due {
			continue
		}
		if s == nil || !s.known {
			s = b.session(key)
			b.learn(s, row)
		}
		left++
		b.writeSession(ctx, s, next, true, func(_ actor.Context, err error) {
			switch {
			case err != nil && messages.CodeOf(err) != messages.CodeConflict: // that one was used meanwhile
				r.Err = err
			case err != nil:
			case next.State == messages.SessionRemoved:
				b.forget(s)
				r.Removed++
			default:
				r.Closed++
			}
			over()
		})
	}
	over()
}

// retired is what becomes of a session without open tasks whose time is over.
func retired(row messages.Session, unusedSince, closedSince, now time.Time) (next messages.Session, due bool) {
	next = row
	switch row.State {
	case messages.SessionClosed:
		next.State, next.Reason, due = messages.SessionRemoved, "it was closed long enough", row.UpdatedAt.Before(closedSince)
	case messages.SessionIdle, messages.SessionParked:
		next.State, next.Reason, due = messages.SessionClosed, "nobody used it for long enough", row.UpdatedAt.Before(unusedSince)
	}
	next.NextStep, next.UpdatedAt = "", now
	return next, due
}
