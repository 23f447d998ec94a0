package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// leaseTTL is how long a node is believed to live without a renewal; it is
// renewed five times as often.
const leaseTTL = 2 * time.Second

// leaseSafety is the part of a lease that a node trusts by its own clock,
// counted from before the renewal was sent.
const leaseSafety = leaseTTL * 9 / 10

// leaseSaid is the pause between two log lines about a lease that stays away.
const leaseSaid = 10 * time.Second

// lease is the node's claim to be alive, and what it owns by that.
type lease struct {
	mu     sync.Mutex
	until  time.Time // believed valid until then
	sent   time.Time // when the newest renewal was sent that the store has taken
	doubt  bool      // the lease ended in between, and nobody looked yet who owns what now
	fences map[string]messages.Fence
	nodes  []messages.Node // with a valid lease, as the newest renewal saw them
}

// renewed notes that the store has taken a renewal, and reports whether the
// lease may have ended before it: then it is valid only after certain.
func (l *lease) renewed(sent time.Time, nodes []messages.Node) (doubt bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes = nodes
	if !l.sent.IsZero() && time.Since(l.sent) > leaseSafety {
		l.doubt = true
	}
	l.sent = sent
	if !l.doubt {
		l.until = sent.Add(leaseSafety)
	}
	return l.doubt
}

// certain ends the doubt: nobody took over meanwhile, and until the newest
// renewal ends nobody can.
func (l *lease) certain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doubt = false
	l.until = l.sent.Add(leaseSafety)
}

// others are the nodes that the newest renewal saw, this one among them, and
// when that was. The list is not to be changed.
func (l *lease) others() ([]messages.Node, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nodes, l.sent
}

func (l *lease) valid() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.until)
}

func (l *lease) hold(f messages.Fence) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fences == nil {
		l.fences = map[string]messages.Fence{}
	}
	l.fences[fmt.Sprint(f.Scope, "/", f.Key)] = f
}

func (l *lease) held() []messages.Fence {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]messages.Fence, 0, len(l.fences))
	for _, f := range l.fences {
		out = append(out, f)
	}
	return out
}

// startLease takes the node's lease and keeps it. With the embedded store the
// process holds the file's lock, so nobody can take over while it lives and a
// missed renewal only shows in the log.
func (a *App) startLease(ctx context.Context) error {
	sent := time.Now()
	nodes, err := a.store.Renew(ctx, a.self(), leaseTTL)
	if err != nil {
		return fmt.Errorf("take node lease: %w", err)
	}
	a.lease.renewed(sent, nodes)
	if err := a.refuseTwin(ctx, nodes); err != nil {
		return err
	}
	run, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.keepLease(run)
	}()
	a.cleanup.add("lease", func(ctx context.Context) error {
		cancel()
		<-done
		return a.release(ctx)
	})
	return nil
}

// keepLease renews until ctx ends. A node that was without a valid lease looks
// whether somebody has taken over before it goes on: its writes would be fenced
// anyway, but it is to say so and stop.
func (a *App) keepLease(ctx context.Context) {
	t := time.NewTicker(leaseTTL / 5)
	defer t.Stop()
	failing, said := false, time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := a.renewLease(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, persistence.ErrFenced):
			a.fail(err)
			return
		case err != nil && (!failing || time.Since(said) > leaseSaid):
			said = time.Now()
			a.logger.Warn("node lease was not renewed", slog.Any("err", err))
		case err == nil && failing:
			a.logger.Info("node lease is renewed again")
		}
		failing = err != nil
	}
}

// renewLease gives the store a quarter of the lease to answer. A lease that has
// ended already is not in a hurry: a slow store or a busy machine must not keep
// the node without one for ever.
func (a *App) renewLease(ctx context.Context) error {
	patience := leaseTTL / 4
	if !a.lease.valid() {
		patience = leaseTTL
	}
	rctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	sent := time.Now()
	nodes, err := a.store.Renew(rctx, a.self(), leaseTTL)
	if err != nil {
		return err
	}
	if !a.lease.renewed(sent, nodes) {
		return nil
	}
	octx, stop := context.WithTimeout(ctx, leaseTTL/2)
	defer stop()
	if err := a.stillOwns(octx); err != nil {
		return fmt.Errorf("look who owns what: %w", err)
	}
	a.lease.certain()
	return nil
}

// stillOwns is ErrFenced if another node has taken what this one holds.
func (a *App) stillOwns(ctx context.Context) error {
	for _, scope := range []messages.Scope{messages.ShardScope, messages.GatewayScope} {
		rows, err := a.store.Owners(ctx, scope)
		if err != nil {
			return err
		}
		now := make(map[string]messages.Ownership, len(rows))
		for _, r := range rows {
			now[r.Key] = r
		}
		for _, f := range a.lease.held() {
			if r, ok := now[f.Key]; f.Scope == scope && ok && (r.Owner != f.Owner || r.Epoch != f.Epoch) {
				return fmt.Errorf("node %s took over while the lease of this one had ended: %w", r.Owner, persistence.ErrFenced)
			}
		}
	}
	return nil
}

// release gives up what the node owns, so that the next one need not wait for
// the lease to end.
func (a *App) release(ctx context.Context) error {
	if !a.engine.shared {
		return nil
	}
	for _, f := range a.lease.held() {
		err := a.store.Release(ctx, f)
		if err != nil && !errors.Is(err, persistence.ErrFenced) {
			return fmt.Errorf("give up what this node owns: %w", err)
		}
	}
	return a.endLease(ctx)
}

// live is false when another node may have taken what this one owns.
func (a *App) live() bool { return !a.engine.shared || a.lease.valid() }

func (a *App) leaseCheck() server.Check {
	if !a.live() {
		return server.Check{Name: "lease", Detail: "the node's lease has not been renewed in time; another node may take over"}
	}
	return server.Check{Name: "lease", OK: true, Detail: "valid"}
}

func (a *App) self() messages.Node {
	return messages.Node{ID: a.nodeID, Addr: a.addr, Region: a.cfg.Region, Version: a.deps.Version, Sees: 1, Home: a.home.id}
}

// own takes what the node is to own and returns the fence for its writes.
func (a *App) own(ctx context.Context, scope messages.Scope, key string) (messages.Fence, error) {
	if a.rebuilding.Load() {
		// It starts anew: what it took now it would only give back.
		return messages.Fence{}, fmt.Errorf("take %s while the store is rebuilt: %w", key, persistence.ErrUnavailable)
	}
	f, err := a.store.Take(ctx, scope, key, a.nodeID)
	if err != nil {
		return f, fmt.Errorf("take %s: %w", key, err)
	}
	a.lease.hold(f)
	return f, nil
}

func (a *App) ownPool(ctx context.Context, pool string) (messages.Fence, error) {
	return a.own(ctx, messages.ShardScope, strconv.Itoa(messages.Shard(pool)))
}
