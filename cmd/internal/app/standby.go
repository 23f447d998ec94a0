package app

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/dash-fleet/dash/cmd/internal/secrets"
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
	// standbyRetry is the pause between two tries to take over.
	standbyRetry = 500 * time.Millisecond
	// standbyProof is the pause between two looks whether this node's keys open
	// the secrets of all gateways.
	standbyProof = 5 * time.Second
	// takeOverTimeout bounds one try.
	takeOverTimeout = 15 * time.Second
)

// startDuty takes over the fleet, or stands by until that succeeds.
func (a *App) startDuty(ctx context.Context) error {
	err := a.takeOver(ctx)
	if err != nil && (!a.engine.Shared || !passing(err)) {
		return err
	}
	if !a.engine.Shared {
		a.fleet.Keep()
		return nil
	}
	if err == nil {
		a.tookOver()
		a.watchDuty(ctx, nil)
		return nil
	}
	a.standBy(ctx, err)
	a.watchDuty(ctx, a.wait)
	return nil
}

// watchDuty stands by, and then looks for a better home while this node works.
func (a *App) watchDuty(ctx context.Context, standBy func(context.Context) bool) {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if standBy == nil || standBy(run) {
			a.watchHomes(run)
		}
	}()
	a.cleanup.add("standby", func(context.Context) error { cancel(); <-done; return nil })
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
	if owner, _ := a.worker(ctx); owner != "" && owner != a.nodeID {
		a.before = owner
	}
	if who, wait := a.courteous(ctx); wait {
		return &yieldError{to: who}
	}
	if err := a.fleet.Claim(ctx); err != nil {
		return err
	}
	if a.sims != nil {
		if err := a.sims(ctx); err != nil {
			return err
		}
	}
	if err := a.secrets.Reseal(ctx); err != nil {
		return err
	}
	return a.fleet.TakeUp(ctx)
}

// wait tries to take over until it has succeeded, or ctx ends.
func (a *App) wait(ctx context.Context) (works bool) {
	try := time.NewTicker(standbyRetry)
	defer try.Stop()
	proof := time.NewTicker(standbyProof)
	defer proof.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-proof.C:
			var wrong *secrets.Error
			if err := a.secrets.Check(ctx); errors.As(err, &wrong) {
				a.fail(err)
				return false
			}
			continue
		case <-try.C:
		}
		err := a.takeOver(ctx)
		switch {
		case ctx.Err() != nil:
			return false
		case err == nil:
			a.standing.Store(nil)
			a.tookOver()
			return true
		case !passing(err):
			a.fail(err)
			return false
		}
		a.standBy(ctx, err)
	}
}

// tookOver keeps up what was taken, and says who works now, and who did before.
func (a *App) tookOver() {
	a.fleet.Keep()
	attrs := []any{slog.String("node", a.nodeID)}
	if a.before != "" {
		attrs = append(attrs, slog.String("from", a.before))
	}
	a.logger.Info("this node does the work", attrs...)
}

// standBy notes and says why this node does no work.
func (a *App) standBy(ctx context.Context, err error) {
	now := messages.Error{
		Code: messages.CodeStandby, Message: "this node stands by: the store does not answer",
		NextStep: next.TryAgainIfItLasts, RetryAfter: time.Second, Err: err,
	}
	var yield *yieldError
	switch {
	case errors.As(err, &yield):
		now.Message = "this node stands by: it lets node " + a.named(yield.to) + ", the home of more gateways or of runs that nobody reads, go first"
		now.NextStep = next.TryAgain
	case errors.Is(err, persistence.ErrOwned):
		owner, _ := a.worker(ctx)
		now.Message = "this node stands by: node " + a.named(owner) + " does the work"
		now.NextStep = next.AskThatNode
	}
	if before := a.standing.Swap(&now); before == nil || before.Message != now.Message {
		a.logger.Warn("standing by", slog.String("reason", now.Message))
	}
}

// worker is the id of the node that has the default pool's shard, and whether
// its lease was valid when this node last looked; empty: nobody has it.
func (a *App) worker(ctx context.Context) (id string, alive bool) {
	rows, err := a.store.Owners(ctx, messages.ShardScope)
	if err != nil {
		return "", false
	}
	key := strconv.Itoa(messages.Shard(messages.DefaultPool))
	nodes, _ := a.lease.Nodes()
	for _, r := range rows {
		if r.Key == key {
			return r.Owner, slices.ContainsFunc(nodes, func(n messages.Node) bool { return n.ID == r.Owner })
		}
	}
	return "", false
}

// named is a node's id with its address, as far as that is known.
func (a *App) named(id string) string {
	nodes, _ := a.lease.Nodes()
	for _, n := range nodes {
		if n.ID == id && n.Addr != "" {
			return id + " at " + n.Addr
		}
	}
	return cmp.Or(id, "unknown")
}

// nodeName takes the incarnation off a node's id.
func nodeName(id string) string { return id[:max(0, len(id)-incarnation-1)] }

// incarnation is the length of the random end of a node's id.
const incarnation = 12

// yieldError: a better home is to take what is free first.
type yieldError struct{ to string }

func (e *yieldError) Error() string { return "node " + e.to + " goes first" }
func (e *yieldError) Unwrap() error { return persistence.ErrOwned }

// advertised is the address at which other machines find the API: of a listener
// on all addresses it is the host's name.
func advertised(at net.Addr) string {
	host, port, err := net.SplitHostPort(at.String())
	if err != nil {
		return at.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		if name, err := os.Hostname(); err == nil {
			host = name
		}
	}
	return net.JoinHostPort(host, port)
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
