// Package health is what a node says of itself to whoever asks whether it can take
// work.
package health

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/persistence"
)

// healthFor is how long one round of checks serves all callers.
const healthFor = time.Second

// Source looks at one part of the node.
type Source func(context.Context) []server.Check

// Checks implements server.Health.
type Checks struct {
	sources []Source

	mu     sync.Mutex
	checks []server.Check
	at     time.Time
}

// New asks the sources, in this order.
func New(sources ...Source) *Checks { return &Checks{sources: sources} }

// One is a source of one check that waits for nothing.
func One(check func() server.Check) Source {
	return func(context.Context) []server.Check { return []server.Check{check()} }
}

// Checks implements server.Health.
func (h *Checks) Checks(ctx context.Context) []server.Check {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.at) < healthFor {
		return h.checks
	}
	// The result is for other callers too, who may be there longer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	h.checks = nil // who has the last ones may still read them
	for _, ask := range h.sources {
		h.checks = append(h.checks, ask(ctx)...)
	}
	h.at = time.Now()
	return h.checks
}

// Store asks whether the store takes writes.
func Store(s interface{ Ping(context.Context) error }) Source {
	return func(ctx context.Context) []server.Check {
		c := server.Check{Name: "store", OK: true, Detail: "takes writes"}
		if err := s.Ping(ctx); err != nil {
			c.OK, c.Detail = false, err.Error()
		}
		return []server.Check{c}
	}
}

// lateCommit is how long an operation may wait for the store before the node
// says that it is not ready: far more than a slow disk takes, and less than
// what a client waits for its answer.
const lateCommit = 10 * time.Second

// Commits looks at what waits rather than at the store: a store that
// answers is no proof that the node writes to it.
func Commits(oldest time.Duration) server.Check {
	c := server.Check{Name: "commits", OK: oldest <= lateCommit, Detail: "nothing waits for the store"}
	if oldest > 0 {
		c.Detail = fmt.Sprintf("the oldest operation waits for %s", oldest.Round(time.Millisecond))
	}
	return c
}

// Room warns only: a node whose store has no room refuses new tasks by
// itself, and goes on to read, cancel and end what there is. A balancer that
// took it away would take that too.
func Room(r persistence.Room) server.Check {
	switch {
	case r.Full():
		return server.Check{Name: "room", OK: true, Detail: "warning: " + r.Why + "; " + r.Next}
	case r.Left < 0:
		return server.Check{Name: "room", OK: true, Detail: "the store does not tell how much is left"}
	}
	return server.Check{Name: "room", OK: true, Detail: fmt.Sprintf("%.0f MiB until submits are refused", float64(r.Left)/(1<<20))}
}
