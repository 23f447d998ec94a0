package dispatch

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// inquiry asks the store whether a submit that is about to be refused is the
// repetition of one that was accepted.
type inquiry struct {
	in     *intake
	reason string
	err    error // the refusal, unless the key is known
}

// turnAway refuses an intake. The repetition of an accepted submit gets its
// task all the same: it takes no place.
//
// The question is an insert that can not be kept, for it comes with a session
// that does not fit: the store checks the key first, and behind all inserts
// that are under way.
func (d *dispatcher) turnAway(ctx actor.Context, in *intake, reason string, err error) {
	if in.replay || in.IdemKey == "" {
		d.refuse(in.reply, reason, err)
		return
	}
	t := &in.Task
	op := persistence.Op{
		Fences:  d.s.fences,
		Insert:  &in.TaskInsert,
		Session: &persistence.SessionWrite{Session: messages.Session{Tenant: t.Tenant, ID: t.ID, Pool: t.Pool}, FromGeneration: noGeneration},
	}
	ctx.Send(d.s.Committer, commit.Request{Op: op, FailFast: true, ReplyTo: ctx.Self(), Tag: &inquiry{in: in, reason: reason, err: err}})
}

// noGeneration is one that no stored session has, and not the -1 of a session
// that is not stored.
const noGeneration = -2

func (d *dispatcher) known(p *inquiry, m commit.Done) {
	if m.Err == nil && m.Outcome.Status == persistence.Duplicate {
		reply(p.in.reply, d.s.notEnqueued(p.in, m))
		return
	}
	d.refuse(p.in.reply, p.reason, p.err)
}
