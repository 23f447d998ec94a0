package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/dash-fleet/dash/actors"
	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/cluster"
	"github.com/dash-fleet/dash/cmd/internal/secrets"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// TwinError refuses a node whose home is alive in another process.
type TwinError = cluster.TwinError

// openHome takes the data folder for this process. With the embedded store there is
// one node, and every gateway is at home.
func (a *App) openHome() (err error) {
	a.home = cluster.Home{Node: a.cfg.Node}
	if !a.engine.Shared {
		return nil
	}
	home, unlock, err := cluster.OpenHome(a.cfg.Node, a.cfg.Data, a.temporary)
	if err != nil {
		return err
	}
	a.home = home
	a.cleanup.add("lock of the data folder", unlock)
	return nil
}

// startLease takes the node's lease and keeps it.
func (a *App) startLease(ctx context.Context) error {
	a.lease = cluster.New(cluster.Config{
		Store: a.store, Shared: a.engine.Shared, Logger: a.logger, Lost: a.lost,
		Self: messages.Node{ID: a.nodeID, Addr: a.addr, Region: a.cfg.Region, Version: a.deps.Version, Sees: 1, Home: a.home.ID},
	})
	a.homes = &cluster.Homes{Own: a.home, Lease: a.lease, Logger: a.logger, StateDir: func(gateway, own string) (string, bool) {
		return a.parts.launcher.StateDir(gateway, own)
	}}
	nodes, err := a.lease.Renew(ctx)
	if err != nil {
		return err
	}
	if err := a.lease.RefuseTwin(ctx, nodes, a.cfg.Data); err != nil {
		return err
	}
	a.lease.Keep()
	a.cleanup.add("lease", a.lease.Stop)
	return nil
}

func (a *App) leaseCheck() server.Check {
	if !a.lease.Live() {
		return server.Check{Name: "lease", Detail: "the node's lease has not been renewed in time; another node may take over"}
	}
	return server.Check{Name: "lease", OK: true, Detail: "valid"}
}

// own takes what the node is to own and returns the fence for its writes.
func (a *App) own(ctx context.Context, scope messages.Scope, key string) (messages.Fence, error) {
	if a.rebuilding.Load() {
		// It starts anew: what it took now it would only give back.
		return messages.Fence{}, fmt.Errorf("take %s while the store is rebuilt: %w", key, persistence.ErrUnavailable)
	}
	return a.lease.Take(ctx, scope, key)
}

// startDuty takes over the fleet, or stands by until that succeeds.
func (a *App) startDuty(ctx context.Context) error {
	a.duty = cluster.NewDuty(cluster.DutyConfig{
		Lease: a.lease, Home: a.home, Tasks: a.store, Gateways: a.repos.Gateways, Logger: a.logger,
		TakeOver: a.takeOver, TookOver: a.fleet.Keep, Unfit: a.unfit, Busy: a.busy, Fail: a.fail,
	})
	a.cleanup.add("standby", a.duty.Stop)
	return a.duty.Start(ctx)
}

// takeOver is one try; what it has taken stays taken for the next one.
func (a *App) takeOver(ctx context.Context) error {
	if err := a.fleet.Claim(ctx); err != nil {
		if errors.Is(err, persistence.ErrOwned) && len(a.lease.Held()) > 0 {
			// The lease lapsed in the middle of an earlier try, and another node took the
			// work: what this one has it keeps from that one, and gives up with its life.
			a.fail(fmt.Errorf("another node works now: %w", persistence.ErrFenced))
		}
		return passing(err)
	}
	if a.sims != nil {
		if err := a.sims(ctx); err != nil {
			return err
		}
	}
	if err := a.secrets.Reseal(ctx); err != nil {
		return err
	}
	return passing(a.fleet.TakeUp(ctx))
}

// passing marks what ends by itself: a shard that was lost meanwhile, or an owner of it
// that has not ended yet.
func passing(err error) error {
	if errors.Is(err, actors.ErrNoShard) || errors.Is(err, actors.ErrStopping) || errors.Is(err, commit.ErrStopped) {
		return fmt.Errorf("%w: %w", persistence.ErrUnavailable, err)
	}
	return err
}

// unfit: this node's keys do not open the secrets of all gateways.
func (a *App) unfit(ctx context.Context) error {
	var wrong *secrets.Error
	if err := a.secrets.Check(ctx); errors.As(err, &wrong) {
		return err
	}
	return nil
}

// busy counts those of these gateways that this node keeps and that hold runs; whose
// owner says nothing may hold some.
func (a *App) busy(ctx context.Context, bound []messages.Gateway) (n int) {
	var ids []string
	for i := range bound {
		if _, ok := a.node.Gateway(bound[i].ID); ok && a.home.Keeps(&bound[i]) {
			ids = append(ids, bound[i].ID)
		}
	}
	said := newCommands(a).gateways().Ask(ctx, ids...)
	for _, id := range ids {
		if s, ok := said[id]; !ok || s.Status.Running > 0 {
			n++
		}
	}
	return n
}

// Standby says why this node does no work for now; empty: it works.
func (a *App) Standby() string {
	if e := a.duty.Standing(); e != nil {
		return e.Message
	}
	return ""
}

// onDuty is nil when this node does the work.
func (a *App) onDuty() error {
	if e := a.duty.Standing(); e != nil {
		return e
	}
	return nil
}

// works says whether this node is not standing by.
func (a *App) works() bool { return a.duty.Standing() == nil }

func (a *App) dutyCheck() server.Check {
	if e := a.duty.Standing(); e != nil {
		return server.Check{Name: "ownership", Detail: e.Message}
	}
	if n := a.fleet.Missing(); n > 0 {
		return server.Check{Name: "ownership", OK: true, Detail: fmt.Sprintf("lost %d of its shards; it asks for them again", n)}
	}
	return server.Check{Name: "ownership", OK: true, Detail: "owns its shards"}
}

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
