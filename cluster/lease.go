// Package cluster is what a node knows of itself among others: its lease, and
// what it owns by that.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// TTL is how long a node is believed to live without a renewal; it is renewed
// five times as often.
const TTL = 2 * time.Second

// safety is the part of a lease that a node trusts by its own clock, counted
// from before the renewal was sent.
const safety = TTL * 9 / 10

// saidEvery is the pause between two log lines about a lease that stays away.
const saidEvery = 10 * time.Second

// Config of a Lease.
type Config struct {
	Store persistence.Leases
	Self  messages.Node
	// Shared: another process can take over. Without it the process holds the
	// store's lock, and a missed renewal only shows in the log.
	Shared bool
	Logger *slog.Logger
	// Lost is called when another node has taken what this one held.
	Lost func(error)
}

// Lease is the node's claim to be alive, and what it owns by that. Its methods
// are safe for concurrent use. It owns one goroutine from Keep to Stop.
type Lease struct {
	cfg    Config
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu     sync.Mutex
	until  time.Time // believed valid until then
	sent   time.Time // when the newest renewal was sent that the store has taken
	doubt  bool      // the lease ended in between, and nobody looked yet who owns what now
	fences map[string]messages.Fence
	nodes  []messages.Node // with a valid lease, as the newest renewal saw them
}

// New is a lease that is taken with the first Renew.
func New(cfg Config) *Lease { return &Lease{cfg: cfg} }

// Renew writes the node's row. It returns the nodes whose lease is valid.
func (l *Lease) Renew(ctx context.Context) ([]messages.Node, error) {
	sent := time.Now()
	nodes, err := l.cfg.Store.Renew(ctx, l.cfg.Self, TTL)
	if err != nil {
		return nil, fmt.Errorf("renew node lease: %w", err)
	}
	l.renewed(sent, nodes)
	return nodes, nil
}

// Keep begins to renew until Stop.
func (l *Lease) Keep() {
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.wait.Go(func() { l.keep(ctx) })
}

// Stop ends the renewals and gives up what the node owns, so that the next one
// need not wait for the lease to end.
func (l *Lease) Stop(ctx context.Context) error {
	l.cancel()
	l.wait.Wait()
	if !l.cfg.Shared {
		return nil
	}
	for _, f := range l.held() {
		err := l.cfg.Store.Release(ctx, f)
		if err != nil && !errors.Is(err, persistence.ErrFenced) {
			return fmt.Errorf("give up what this node owns: %w", err)
		}
	}
	return l.End(ctx)
}

// End lets the lease end now, so that the node's next life need not wait.
func (l *Lease) End(ctx context.Context) error {
	if _, err := l.cfg.Store.Renew(ctx, l.cfg.Self, time.Microsecond); err != nil {
		return fmt.Errorf("end the lease: %w", err)
	}
	return nil
}

// Take makes the node the owner and returns the fence for its writes; see
// persistence.Leases.
func (l *Lease) Take(ctx context.Context, scope messages.Scope, key string) (messages.Fence, error) {
	f, err := l.cfg.Store.Take(ctx, scope, key, l.cfg.Self.ID)
	if err == nil {
		l.hold(f)
	}
	return f, err // it says what was to be taken
}

// Live is false when another node may have taken what this one owns.
func (l *Lease) Live() bool { return !l.cfg.Shared || l.valid() }

// Nodes are the nodes that the newest renewal saw, this one among them, and
// when that was. The list is not to be changed.
func (l *Lease) Nodes() ([]messages.Node, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nodes, l.sent
}

func (l *Lease) valid() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.until)
}

// renewed notes that the store has taken a renewal, and reports whether the
// lease may have ended before it: then it is valid only after certain.
func (l *Lease) renewed(sent time.Time, nodes []messages.Node) (doubt bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes = nodes
	if !l.sent.IsZero() && time.Since(l.sent) > safety {
		l.doubt = true
	}
	l.sent = sent
	if !l.doubt {
		l.until = sent.Add(safety)
	}
	return l.doubt
}

// certain ends the doubt: nobody took over meanwhile, and until the newest
// renewal ends nobody can.
func (l *Lease) certain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doubt = false
	l.until = l.sent.Add(safety)
}

func (l *Lease) hold(f messages.Fence) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fences == nil {
		l.fences = map[string]messages.Fence{}
	}
	l.fences[fmt.Sprint(f.Scope, "/", f.Key)] = f
}

func (l *Lease) held() []messages.Fence {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]messages.Fence, 0, len(l.fences))
	for _, f := range l.fences {
		out = append(out, f)
	}
	return out
}

// keep renews until ctx ends. A node that was without a valid lease looks
// whether somebody has taken over before it goes on: its writes would be fenced
// anyway, but it is to say so and stop.
func (l *Lease) keep(ctx context.Context) {
	t := time.NewTicker(TTL / 5)
	defer t.Stop()
	failing, said := false, time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := l.extend(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, persistence.ErrFenced):
			l.cfg.Lost(err)
			return
		case err != nil && (!failing || time.Since(said) > saidEvery):
			said = time.Now()
			l.cfg.Logger.Warn("node lease was not renewed", slog.Any("err", err))
		case err == nil && failing:
			l.cfg.Logger.Info("node lease is renewed again")
		}
		failing = err != nil
	}
}

// extend gives the store a quarter of the lease to answer. A lease that has
// ended already is not in a hurry: a slow store or a busy machine must not keep
// the node without one for ever.
func (l *Lease) extend(ctx context.Context) error {
	patience := TTL / 4
	if !l.valid() {
		patience = TTL
	}
	rctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	sent := time.Now()
	nodes, err := l.cfg.Store.Renew(rctx, l.cfg.Self, TTL)
	if err != nil {
		return err
	}
	if !l.renewed(sent, nodes) {
		return nil
	}
	octx, stop := context.WithTimeout(ctx, TTL/2)
	defer stop()
	if err := l.stillOwns(octx); err != nil {
		return fmt.Errorf("look who owns what: %w", err)
	}
	l.certain()
	return nil
}

// stillOwns is ErrFenced if another node has taken what this one holds.
func (l *Lease) stillOwns(ctx context.Context) error {
	for _, scope := range []messages.Scope{messages.ShardScope, messages.GatewayScope} {
		rows, err := l.cfg.Store.Owners(ctx, scope)
		if err != nil {
			return err
		}
		now := make(map[string]messages.Ownership, len(rows))
		for _, r := range rows {
			now[r.Key] = r
		}
		for _, f := range l.held() {
			if r, ok := now[f.Key]; f.Scope == scope && ok && (r.Owner != f.Owner || r.Epoch != f.Epoch) {
				return fmt.Errorf("node %s took over while the lease of this one had ended: %w", r.Owner, persistence.ErrFenced)
			}
		}
	}
	return nil
}
