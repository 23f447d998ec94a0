package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
)

// warmth is how a warm-up turn went.
type warmth struct {
	took time.Duration
	err  error // of the turn
	tidy error // its session was not deleted
}

const warmUpMessage = "This is a warm-up turn after a start. Reply with: ok"

// warmUp sends one turn to a process that has had none and waits for its end:
// the first turn costs a gateway 5 to 7 CPU seconds, which should not be those
// of a task. Its session key begins as those of tasks do, so that a warm-up
// whose owner died is stopped as an orphan; it is deleted afterwards. limit
// bounds the turn, call each request after it.
func warmUp(base context.Context, link Link, tenant string, limit, call time.Duration) *warmth {
	began, id := time.Now(), messages.NewID()
	key := messages.SessionKey(tenant, id, 0)
	end := make(chan error, 1)
	// Claims begin at 1, so this is no task's run id.
	err := link.Agent(openclaw.AgentRequest{
		RunID: messages.RunID(id, 0), SessionKey: key, Message: warmUpMessage, Timeout: max(limit, time.Second),
	}, func(a openclaw.AgentAnswer) {
		switch a.Kind {
		case openclaw.AnswerAccepted:
		case openclaw.AnswerFinal:
			end <- nil
		default:
			end <- warmUpError(a)
		}
	})
	if err != nil {
		return &warmth{err: err}
	}
	ctx, cancel := context.WithTimeout(base, limit)
	defer cancel()
	select {
	case err = <-end:
	case <-link.Done():
		return &warmth{err: errors.New("the connection was lost")}
	case <-ctx.Done():
		// It must not keep a slot of the gateway's lane.
		err = errors.Join(errors.New("it did not end in time"), abortKey(base, link, call, key))
	}
	w := &warmth{took: time.Since(began), err: err}
	ctx, cancel = context.WithTimeout(base, call)
	defer cancel()
	_, w.tidy = link.DeleteSession(ctx, key)
	return w
}

func warmUpError(a openclaw.AgentAnswer) error {
	if a.Failure != nil {
		return errors.New(a.Failure.Message)
	}
	return errors.New("it ended as " + a.Kind.String())
}
