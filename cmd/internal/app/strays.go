package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw/launcher"
	"github.com/dash-fleet/dash/cluster"
	"github.com/dash-fleet/dash/messages"
)

// A gateway may be removed, or get another home, at a node that cannot reach
// its process. That process then belongs to nobody, and its home stops it: also
// one that stands by, and one that was dead at the time.

const (
	strayLook = 10 * time.Second // pause between two looks
	// strayStop bounds the drain of a process that is asked to end, and
	// strayKill what follows when it does not.
	strayStop = 330 * time.Second
	strayKill = 30 * time.Second
)

// stray says whether the process of the gateway id, in a folder of this home,
// belongs to nobody. Of a gateway that the store never knew nobody can tell: it
// may be the wrong store.
func stray(h cluster.Home, id string, all []messages.Gateway, known []messages.GatewayStatus) bool {
	i := slices.IndexFunc(all, func(g messages.Gateway) bool { return g.ID == id })
	if i < 0 {
		return slices.ContainsFunc(known, func(s messages.GatewayStatus) bool { return s.ID == id })
	}
	return all[i].Managed == nil || !h.Keeps(&all[i])
}

// watchStrays looks for processes without a gateway until the node stops.
func (a *App) watchStrays() {
	if !a.engine.Shared {
		return // nobody else removes a gateway
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(strayLook)
		defer t.Stop()
		ended := map[string]bool{} // no process was left at the last look
		for {
			if err := a.endStrays(ctx, ended); err != nil && ctx.Err() == nil {
				a.logger.Warn("processes of removed gateways could not be looked for", slog.Any("err", err))
			}
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	}()
	a.cleanup.add("processes of removed gateways", func(context.Context) error { cancel(); <-done; return nil })
}

func (a *App) endStrays(ctx context.Context, ended map[string]bool) error {
	ids, err := a.parts.launcher.Launched()
	if err != nil || len(ids) == 0 {
		return err
	}
	look, cancel := context.WithTimeout(ctx, cluster.TTL)
	defer cancel()
	all, err := a.repos.Gateways.List(look)
	if err != nil {
		return fmt.Errorf("list gateways: %w", err)
	}
	known, err := a.store.GatewayStatuses(look)
	if err != nil {
		return fmt.Errorf("read gateway states: %w", err)
	}
	for _, id := range ids {
		_, owned := a.node.Gateway(id) // whose owner ends it
		switch {
		case !stray(a.home, id, all, known):
			delete(ended, id)
		case !ended[id] && (!owned || !a.works()):
			err = errors.Join(err, a.endStray(ctx, id))
			ended[id] = err == nil
		}
	}
	return err
}

// works says whether this node is not standing by.
func (a *App) works() bool { return a.duty.Standing() == nil }

// endStray stops a process; its folder stays, as that of any removed gateway.
func (a *App) endStray(ctx context.Context, id string) error {
	limit, cancel := context.WithTimeout(ctx, strayStop)
	defer cancel()
	_, err := a.parts.launcher.Stop(limit, id)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		kill, cancel := context.WithTimeout(ctx, strayKill)
		defer cancel()
		_, err = a.parts.launcher.Kill(kill, id)
	}
	switch {
	case err == nil:
		a.logger.Warn("stopped the process of a gateway that was removed, or whose home is another node by now", slog.String("gateway", id))
	case !errors.Is(err, launcher.ErrNotRunning):
		return fmt.Errorf("stop the process of gateway %s: %w", id, err)
	}
	return a.parts.launcher.Forget(ctx, id)
}
