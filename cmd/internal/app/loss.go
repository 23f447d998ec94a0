package app

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/dash-fleet/dash/cluster"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// ErrStartAnew ends a node whose store was rebuilt under it: what its actors
// know is void. Starting it again, in the same process or another, is all that
// is needed.
var ErrStartAnew = errors.New("the store was rebuilt after a loss of data; the node restarts")

// StartsAnew reports whether a node that ended with err is to be started again
// at once: its store was rebuilt, or another node has taken over and this one
// is to stand by.
func StartsAnew(err error) bool {
	return errors.Is(err, ErrStartAnew) || errors.Is(err, persistence.ErrFenced) || errors.Is(err, cluster.ErrHandOver)
}

const (
	lossLook  = 200 * time.Millisecond // pause between two looks for a loss
	lossRetry = time.Second            // pause between two tries to rebuild
)

// recoverLoss rebuilds a store that is found with less than it had before
// anything relies on it.
func (a *App) recoverLoss(ctx context.Context) error {
	if a.engine.Loss == nil || a.engine.Loss.Lost() == nil {
		return nil
	}
	return a.engine.Loss.Recover(ctx)
}

// watchLoss rebuilds the store when it loses data under the running node, and
// then ends the node with ErrStartAnew.
func (a *App) watchLoss() {
	if a.engine.Loss == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.awaitLoss(ctx)
	}()
	a.cleanup.add("loss watch", func(context.Context) error { cancel(); <-done; return nil })
}

func (a *App) awaitLoss(ctx context.Context) {
	t := time.NewTicker(lossLook)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := a.engine.Loss.Lost()
		if err == nil {
			continue
		}
		a.rebuilding.Store(true)
		a.duty.Stand(&messages.Error{
			Code: messages.CodeUnavailable, Message: "the store has lost data, and this node rebuilds what is known of it",
			NextStep: next.SubmitAgainLogNames, RetryAfter: lossRetry, Err: err,
		})
		for ctx.Err() == nil {
			if err := a.engine.Loss.Recover(ctx); err == nil {
				a.fail(ErrStartAnew)
				return
			} else if ctx.Err() == nil {
				a.logger.Error("the store could not be rebuilt yet", slog.Any("err", err))
			}
			select {
			case <-ctx.Done():
			case <-time.After(lossRetry):
			}
		}
		return
	}
}

// durabilityCheck is on /health: a store that may lose accepted work says so.
func (a *App) durabilityCheck() server.Check {
	c := server.Check{Name: "durability", OK: true, Detail: "accepted work survives a crash of the store"}
	var accepted []string
	if a.engine.Loss != nil {
		if err := a.engine.Loss.Lost(); err != nil {
			return server.Check{Name: "durability", Detail: err.Error()}
		}
		if w := a.engine.Loss.Window(); w > 0 {
			accepted = append(accepted, "accepted with --redis-accept-loss: a crash of the Redis server may lose up to "+w.String()+" of accepted work")
		}
	}
	if a.engine.Settings != nil {
		d := a.engine.Settings()
		if d.Wrong != nil {
			return server.Check{Name: "durability", Detail: "PostgreSQL: " + d.Wrong.Problem + "; " + d.Wrong.Next}
		}
		if d.Raised != "" {
			c.Detail += "; " + d.Raised
		}
		if d.Accepted != "" {
			accepted = append(accepted, "accepted with --postgres-accept-loss: "+d.Accepted)
		}
	}
	if accepted != nil {
		c.Detail = strings.Join(accepted, "; ")
	}
	return c
}
