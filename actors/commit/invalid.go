package commit

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// A store that calls a batch invalid (messages.CodeInvalid) will say so again,
// whenever it is asked. Halves of it are tried, down to the one operation that
// is to blame, so that nothing else waits behind it.

// halving is the search in a batch that the store called invalid.
type halving struct {
	left int // operations at the head of the queue that are still of that batch
	most int // of them in one batch
}

// bound is how many operations the next batch may have.
func (h *halving) bound(most int) int {
	if h.left == 0 {
		return most
	}
	return min(most, h.most, h.left)
}

// refused takes that a batch of n operations, at least two, is invalid.
func (h *halving) refused(n int) { h.left, h.most = max(h.left, n), n/2 }

// passed takes that n operations are durable.
func (h *halving) passed(n int) { h.left = max(0, h.left-n) }

// found takes that one operation was to blame: the rest may be without fault.
func (h *halving) found() {
	h.passed(1)
	h.most = h.left
}

// saidEvery is the least time between two lines of the log about operations
// that cannot be written; the metric counts each.
const saidEvery = time.Minute

// invalid tries a batch in halves, or answers its one operation.
func (c *committer) invalid(ctx actor.Context, batch []Request, err error) {
	if len(batch) > 1 {
		c.halves.refused(len(batch))
		c.pending = c.keep(ctx, append(batch, c.pending...), nil, func(*Request) bool { return true })
		c.next(ctx, parted)
		return
	}
	c.halves.found()
	c.cfg.Metrics.invalid.Inc()
	if now := time.Now(); now.Sub(c.said) >= saidEvery {
		c.said = now
		c.cfg.Logger.Error("the store can never take this operation; it was answered with the error, and the others go on", slog.Any("err", err))
	}
	c.next(ctx, parted)
	answer(ctx, batch[0], persistence.Outcome{}, err)
}

// lawful refuses a batch with a step of a task that its table does not have, as
// a store refuses what it can never take.
func lawful(ops []persistence.Op) error {
	for i := range ops {
		u := ops[i].Update
		if u != nil && u.From != u.Task.State && !messages.Lawful(messages.TaskTransitions, u.From, u.Task.State) {
			return &messages.Error{Code: messages.CodeInvalid,
				Message: fmt.Sprintf("task %s: one that is %s cannot become %s", u.Task.ID, u.From, u.Task.State)}
		}
	}
	return nil
}

func isInvalid(err error) bool { return messages.CodeOf(err) == messages.CodeInvalid }
