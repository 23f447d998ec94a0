package app

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// A node that shares its store stands by while another one owns the shards: it
// answers what the store alone can answer, refuses the rest with 503, and takes
// over when the other one's lease has ended. The default pool's shard decides
// between two that start at once: whoever gets it takes the rest.

const (
	// standbyRetry is the pause between two tries to take over, and standbyTail
	// that between two looks at the event log meanwhile.
	standbyRetry = 500 * time.Millisecond
	standbyTail  = 200 * time.Millisecond
	// takeOverTimeout bounds one try.
	takeOverTimeout = 15 * time.Second
	tailPage        = 500
)

// startDuty takes over the fleet, or stands by until that succeeds.
func (a *App) startDuty(ctx context.Context) error {
	err := a.takeOver(ctx)
	if err == nil || !a.engine.shared || !passing(err) {
		return err
	}
	a.standBy(ctx, err)
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.wait(run)
	}()
	a.cleanup.add("standby", func(context.Context) error { cancel(); <-done; return nil })
	return nil
}

// passing errors end without anybody's doing.
func passing(err error) bool {
	return errors.Is(err, persistence.ErrOwned) || errors.Is(err, persistence.ErrFenced) ||
		errors.Is(err, persistence.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

// takeOver is one try; what it has taken stays taken for the next one.
func (a *App) takeOver(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, takeOverTimeout)
	defer cancel()
	if err := a.fleet.ensurePool(ctx, messages.DefaultPool); err != nil {
		return err
	}
	if a.sims != nil {
		if err := a.sims(ctx); err != nil {
			return err
		}
	}
	return a.fleet.takeUp(ctx)
}

// wait tries to take over until it has succeeded. Meanwhile it hands the events
// that the owner writes to this node's watchers.
func (a *App) wait(ctx context.Context) {
	tail, try := time.NewTicker(cmp.Or(a.deps.StandbyTail, standbyTail)), time.NewTicker(standbyRetry)
	defer tail.Stop()
	defer try.Stop()
	listen, cancel := context.WithCancel(ctx)
	defer cancel()
	var heard <-chan struct{} // nobody tells: the ticker alone
	if a.helper != nil {
		heard = a.helper.fanout.listen(listen)
	}
	last := a.lastSeq
	for {
		select {
		case <-ctx.Done():
			return
		case <-tail.C:
			last = a.tail(ctx, last)
			continue
		case <-heard:
			last = a.tail(ctx, last)
			continue
		case <-try.C:
		}
		err := a.takeOver(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			a.tail(ctx, last) // what the owner before wrote last
			a.standing.Store(nil)
			a.logger.Info("took over the shards")
			return
		case !passing(err):
			a.fail(err)
			return
		}
		a.standBy(ctx, err)
	}
}

// tail publishes events that another node has written and returns the last one's number.
func (a *App) tail(ctx context.Context, last int64) int64 {
	for {
		page, _, err := a.store.Events(ctx, last, tailPage)
		if err != nil || len(page) == 0 {
			return last // the next look sees them
		}
		a.feed.Publish(page)
		last = page[len(page)-1].Seq
	}
}

// standBy notes and says why this node does no work.
func (a *App) standBy(ctx context.Context, err error) {
	now := messages.Error{
		Code: messages.CodeUnavailable, Message: "this node stands by: the store does not answer",
		NextStep: next.TryAgainIfItLasts, RetryAfter: time.Second, Err: err,
	}
	if errors.Is(err, persistence.ErrOwned) {
		now.Message = "this node stands by: " + a.owner(ctx) + " owns the shards"
		now.NextStep = next.AskThatNode
	}
	if before := a.standing.Swap(&now); before == nil || before.Message != now.Message {
		a.logger.Warn("standing by", slog.String("reason", now.Message))
	}
}

// owner names the node that has the default pool's shard.
func (a *App) owner(ctx context.Context) string {
	rows, err := a.store.Owners(ctx, persistence.ShardScope)
	if err != nil {
		return "another node"
	}
	key := strconv.Itoa(messages.Shard(messages.DefaultPool, persistence.Shards))
	for _, r := range rows {
		if r.Key == key && r.Owner != "" {
			return "node " + r.Owner
		}
	}
	return "another node"
}

// Standby says why this node does no work for now; empty: it works.
func (a *App) Standby() string {
	if e := a.standing.Load(); e != nil {
		return e.Message
	}
	return ""
}

// onDuty is nil when this node does the work.
func (a *App) onDuty() error {
	if e := a.standing.Load(); e != nil {
		return e
	}
	return nil
}

func (a *App) dutyCheck() server.Check {
	if e := a.standing.Load(); e != nil {
		return server.Check{Name: "ownership", Detail: e.Message}
	}
	return server.Check{Name: "ownership", OK: true, Detail: "owns its shards"}
}
