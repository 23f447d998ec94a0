// Package cluster is what a node knows of itself among others: its lease and what it
// owns by that, whether it works or stands by, and of which gateways it is the home.
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
	// Lost is called once for each fence that holds no more: another node has taken
	// what it protects, or took it in between. It must not block.
	Lost func(messages.Fence)
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
	for _, f := range l.Held() {
		if err := l.Release(ctx, f); err != nil {
			return err
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

// Release gives up one thing. What another node has by now is given up already.
func (l *Lease) Release(ctx context.Context, f messages.Fence) error {
	err := l.cfg.Store.Release(ctx, f)
	if err == nil || errors.Is(err, persistence.ErrFenced) {
		l.drop(f)
		return nil
	}
	return fmt.Errorf("give up what this node owns: %w", err)
}

// Live is false when another node may have taken what this one owns: all of it is
// suspended until the lease is certain again.
func (l *Lease) Live() bool { return !l.cfg.Shared || l.valid() }

// Owns is Live for one thing that was taken: what was lost does not come back to life.
func (l *Lease) Owns(f messages.Fence) bool {
	l.mu.Lock()
	now, held := l.fences[place(f)]
	l.mu.Unlock()
	return held && now == f && l.Live()
}

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
	l.fences[place(f)] = f
}

// drop forgets a fence, and reports whether it was held.
func (l *Lease) drop(f messages.Fence) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := l.fences[place(f)] == f
	if held {
		delete(l.fences, place(f))
	}
	return held
}

func place(f messages.Fence) string { return fmt.Sprint(f.Scope, "/", f.Key) }

// Held are the fences of all that the node has taken and not lost, as far as it knows.
func (l *Lease) Held() []messages.Fence {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]messages.Fence, 0, len(l.fences))
	for _, f := range l.fences {
		out = append(out, f)
	}
	return out
}

// keep renews until ctx ends. A node that was without a valid lease looks what
// others have taken before it believes in the rest: writes there would be fenced
// anyway, but it is to say so and let go.
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
	if err := l.Look(octx, messages.ShardScope, messages.GatewayScope); err != nil {
		return err
	}
	l.certain()
	return nil
}

// Look compares what the node holds with what the store says, and reports what was lost.
func (l *Lease) Look(ctx context.Context, scopes ...messages.Scope) error {
	for _, scope := range scopes {
		held := l.Held()
		rows, err := l.cfg.Store.Owners(ctx, scope)
		if err != nil {
			return fmt.Errorf("look who owns what: %w", err)
		}
		now := make(map[string]messages.Ownership, len(rows))
		for _, r := range rows {
			now[r.Key] = r
		}
		for _, f := range held {
			r, ok := now[f.Key]
			if f.Scope == scope && ok && (r.Owner != f.Owner || r.Epoch != f.Epoch) && l.drop(f) {
				l.cfg.Logger.Warn("another node took over", slog.String("node", r.Owner), slog.String("what", place(f)))
				l.cfg.Lost(f)
			}
		}
	}
	return nil
}
