package app

import (
	"context"
	"errors"
	"log/slog"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/actors/fleet"
	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/gateway/daemon"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/openclaw/launcher"
	"github.com/dash-fleet/dash/cluster"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// parts are what the owners of pools and gateways are made of.
type parts struct {
	app      *App
	launcher *launcher.Launcher
	dispatch *dispatch.Metrics
	gateways *gateway.Metrics
	openclaw *openclaw.Metrics

	boots  *gateway.Boots
	memory *gateway.Memory
}

// owned is what the node owns. Nothing is taken while the store is rebuilt: the node
// starts anew, and would only give it back.
type owned struct {
	*cluster.Lease
	app *App
}

func (o owned) Take(ctx context.Context, scope messages.Scope, key string) (messages.Fence, error) {
	return o.app.own(ctx, scope, key)
}

func (a *App) newFleet() *fleet.Fleet {
	return fleet.New(fleet.Config{
		Node: a.node, Leases: owned{a.lease, a}, Store: a.store, Repos: &a.repos, Pool: a.parts.poolOwner, Gateway: a.parts.gatewayOwner,
		Boots: a.parts.boots, Metrics: a.parts.dispatch, Logger: a.logger, Replaced: a.fail,
	})
}

// lost lets go of what another node has taken.
func (a *App) lost(f messages.Fence) {
	a.node.Lost(f)
	a.fleet.Wake()
}

// poolOwner says how the owner of a pool is made.
func (f *parts) poolOwner(p messages.Pool) dispatch.Config {
	return dispatch.Config{
		Pool: p, Store: f.app.store, Committer: f.app.node.Committer(),
		Logger: f.app.logger, Metrics: f.dispatch, Room: f.app.engine.Room,
	}
}

// gatewayOwner says how the owner of a gateway is made.
func (f *parts) gatewayOwner(ctx context.Context, g messages.Gateway, fence messages.Fence, last messages.GatewayStatus) (cfg gateway.Config, err error) {
	if f.app.engine.Shared {
		if g, err = f.app.home.Claim(ctx, f.app.repos.Gateways, g, f.app.logger); err != nil {
			return cfg, err
		}
	}
	bound := g.HomeBound()
	cfg = gateway.Config{
		Gateway: g, Fence: fence, Last: last, Store: f.app.store, Committer: f.app.node.Committer(),
		Pool: f.pool, History: f.history, Text: f.app.feed.Text, Trouble: f.app.feed.Trouble, Dial: f.app.deps.Dial,
		OpenClaw: openclaw.Config{Version: f.app.deps.Version, Metrics: f.openclaw, Allow: f.app.networks.Allowed},
		Timing:   gateway.Timing{RetryWindow: f.app.cfg.OpenClawRetryWindow},
		Logger:   f.app.logger, Metrics: f.gateways, Memory: f.memory, Restarts: f.app.node.Restarts(),
		Boots: f.boots, Live: func() bool { return f.app.lease.Owns(fence) }, Elsewhere: f.app.homes.Elsewhere,
		Yielding: func() bool { return bound && f.app.duty.Yields() },
		Lost:     func(id string) { f.app.logger.Warn("gateway is owned elsewhere", slog.String("gateway", id)) },
	}
	if g.Managed != nil {
		cfg.Process = daemon.New(f.launcher, f.app.cfg.OpenClawAutoStart, g)
	}
	return cfg, nil
}

func (f *parts) pool(id string) *actor.PID {
	pid, _ := f.app.node.Pool(id)
	return pid
}

// history is what is replayed at the start of a session's new generation.
func (f *parts) history(ctx context.Context, tenant, session string) (string, error) {
	s, err := f.app.store.Session(ctx, tenant, session)
	if err != nil && !errors.Is(err, persistence.ErrNotFound) {
		return "", err
	}
	tasks, err := dispatch.History(ctx, f.app.store, tenant, session)
	if err != nil {
		return "", err
	}
	return dispatch.Replayed(s.Turns(tasks)), nil
}

func dial(ctx context.Context, cfg openclaw.Config, h openclaw.Handler) (gateway.Link, error) {
	c, err := openclaw.Dial(ctx, cfg, h)
	if err != nil {
		return nil, err // not the nil *Conn inside an interface
	}
	return c, nil
}
