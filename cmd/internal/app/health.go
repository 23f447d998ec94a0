package app

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// healthFor is how long one round of checks serves all callers.
const healthFor = time.Second

// healthChecks implements server.Health.
type healthChecks struct {
	*commands

	mu     sync.Mutex
	checks []server.Check
	at     time.Time
}

// Checks implements server.Health.
func (h *healthChecks) Checks(ctx context.Context) []server.Check {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.at) < healthFor {
		return h.checks
	}
	// The result is for other callers too, who may be there longer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	h.checks = []server.Check{h.store(ctx), commitsCheck(h.app.commits.Oldest()), h.app.leaseCheck(), h.app.dutyCheck()}
	if h.app.onDuty() == nil {
		h.checks = append(h.checks, h.pools(ctx))
	}
	h.checks = append(h.checks, h.app.durabilityCheck(), roomCheck(h.app.engine.Room()))
	if c, ok := h.app.helperCheck(); ok {
		h.checks = append(h.checks, c)
	}
	if h.app.backups != nil {
		h.checks = append(h.checks, server.Check{Name: "backup", OK: true, Detail: h.app.backups.Health()})
	}
	if h.app.certificate != nil {
		h.checks = append(h.checks, h.app.certificate.Check())
	}
	h.checks = append(h.checks, h.app.keyEnds.Checks()...)
	if h.app.server != nil {
		h.checks = append(h.checks, h.app.server.Checks()...)
	}
	h.checks = append(h.checks, h.app.exposureCheck())
	h.at = time.Now()
	return h.checks
}

func (h *healthChecks) store(ctx context.Context) server.Check {
	c := server.Check{Name: "store", OK: true, Detail: "takes writes"}
	if err := h.app.store.Ping(ctx); err != nil {
		c.OK, c.Detail = false, err.Error()
	}
	return c
}

// lateCommit is how long an operation may wait for the store before the node
// says that it is not ready: far more than a slow disk takes, and less than
// what a client waits for its answer.
const lateCommit = 10 * time.Second

// commitsCheck looks at what waits rather than at the store: a store that
// answers is no proof that the node writes to it.
func commitsCheck(oldest time.Duration) server.Check {
	c := server.Check{Name: "commits", OK: oldest <= lateCommit, Detail: "nothing waits for the store"}
	if oldest > 0 {
		c.Detail = fmt.Sprintf("the oldest operation waits for %s", oldest.Round(time.Millisecond))
	}
	return c
}

// roomCheck warns only: a node whose store has no room refuses new tasks by
// itself, and goes on to read, cancel and end what there is. A balancer that
// took it away would take that too.
func roomCheck(r persistence.Room) server.Check {
	switch {
	case r.Full():
		return server.Check{Name: "room", OK: true, Detail: "warning: " + r.Why + "; " + r.Next}
	case r.Left < 0:
		return server.Check{Name: "room", OK: true, Detail: "the store does not tell how much is left"}
	}
	return server.Check{Name: "room", OK: true, Detail: fmt.Sprintf("%.0f MiB until submits are refused", float64(r.Left)/(1<<20))}
}

// pools asks the default pool's owner: it answers only when it has read itself back.
func (h *healthChecks) pools(ctx context.Context) server.Check {
	s, err := h.commands.owners.QueueStats(ctx, messages.DefaultPool)
	if err != nil {
		return server.Check{Name: "dispatch", Detail: "the pool is still reading its tasks back"}
	}
	return server.Check{Name: "dispatch", OK: true, Detail: fmt.Sprintf("%d open tasks in the default pool", s.Open)}
}
