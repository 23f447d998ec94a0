package commit

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

func (c *committer) publish(batch []Request, outcomes []persistence.Outcome) {
	n := 0
	for i := range batch {
		if outcomes[i].Status == persistence.OK {
			n += len(batch[i].Op.Events)
		}
	}
	if n == 0 {
		return
	}
	events := make([]*messages.Event, 0, n)
	for i := range batch {
		if outcomes[i].Status == persistence.OK {
			events = append(events, batch[i].Op.Events...)
		}
	}
	c.cfg.Publish(events)
}

func answer(ctx actor.Context, r Request, o persistence.Outcome, err error) {
	d := Done{Tag: r.Tag, Outcome: o, Err: err}
	switch {
	case r.ReplyTo == nil:
	case r.grouped:
		ctx.Send(r.ReplyTo, Dones{d})
	default:
		ctx.Send(r.ReplyTo, d)
	}
}

// answerAll answers a durable batch; who asked by Requests gets one message.
func (c *committer) answerAll(ctx actor.Context, batch []Request, outcomes []persistence.Outcome) {
	groups := map[*actor.PID]Dones{}
	for i, r := range batch {
		if !r.grouped || r.ReplyTo == nil {
			answer(ctx, r, outcomes[i], nil)
			continue
		}
		groups[r.ReplyTo] = append(groups[r.ReplyTo], Done{Tag: r.Tag, Outcome: outcomes[i]})
	}
	for to, dones := range groups {
		ctx.Send(to, dones)
	}
}
