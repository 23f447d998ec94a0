package app

import (
	"context"
	"fmt"

	"github.com/dash-fleet/dash/cmd/internal/health"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

// health is what this node says of itself.
func (a *App) health(c *commands) *health.Checks {
	return health.New(
		health.Store(a.store),
		health.One(func() server.Check { return health.Commits(a.commits.Oldest()) }),
		health.One(a.leaseCheck), health.One(a.dutyCheck), c.poolsCheck,
		health.One(a.durabilityCheck),
		health.One(func() server.Check { return health.Room(a.engine.Room()) }),
		func(context.Context) []server.Check { return a.edgeChecks() },
		health.One(func() server.Check { return health.Exposure(a.cfg) }),
	)
}

// edgeChecks are those of the parts beside the work: they warn, and take none away.
func (a *App) edgeChecks() []server.Check {
	checks := a.helper.Checks()
	if a.backups != nil {
		checks = append(checks, server.Check{Name: "backup", OK: true, Detail: a.backups.Health()})
	}
	if a.certificate != nil {
		checks = append(checks, a.certificate.Check())
	}
	return append(append(checks, a.keyEnds.Checks()...), a.server.Checks()...)
}

// poolsCheck asks the default pool's owner: it answers only when it has read itself back.
func (c *commands) poolsCheck(ctx context.Context) []server.Check {
	if c.app.onDuty() != nil {
		return nil
	}
	s, err := c.owners.QueueStats(ctx, messages.DefaultPool)
	if err != nil {
		return []server.Check{{Name: "dispatch", Detail: "the pool is still reading its tasks back"}}
	}
	return []server.Check{{Name: "dispatch", OK: true, Detail: fmt.Sprintf("%d open tasks in the default pool", s.Open)}}
}
