package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw/openclawtest"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// simSlots is what a simulated gateway of this process runs at once.
const simSlots = 4

// startSims starts simulated gateways in this process; a.sims registers them.
// They are for trying Dash out: they speak the real protocol on loopback.
func (a *App) startSims(ctx context.Context) error {
	if a.cfg.SimGateways == 0 {
		return nil
	}
	token := messages.NewID()
	sims, err := openclawtest.NewFleet(openclawtest.SimConfig{
		Listen: "127.0.0.1:0", Gateways: a.cfg.SimGateways, NamePrefix: "sim", Token: token,
		RunTime: 2 * time.Second, Chunks: 8, MaxConcurrent: simSlots,
	}, a.logger)
	if err != nil {
		return fmt.Errorf("make simulated gateways: %w", err)
	}
	a.cleanup.add("simulated gateways", sims.Stop)
	if err := sims.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start simulated gateways: %w", err)
	}
	a.sims = func(ctx context.Context) error {
		for _, s := range sims.Gateways() {
			if err := a.registerSim(ctx, s.Name(), s.URL(), messages.Secret(token)); err != nil {
				return err
			}
		}
		return nil
	}
	return nil
}

// registerSim stores a simulated gateway, or its new address.
func (a *App) registerSim(ctx context.Context, id, url string, token messages.Secret) error {
	g, err := a.repos.Gateways.Get(ctx, id)
	switch {
	case errors.Is(err, persistence.ErrNotFound):
		_, err = a.repos.Gateways.Create(ctx, messages.Gateway{
			ID: id, Tenant: messages.DefaultTenant, Pool: messages.DefaultPool, Node: a.cfg.Node, URL: url, Token: token,
			Home: a.home.ID, MaxConcurrency: simSlots, Weight: 1, Labels: map[string]string{"simulated": "true"}, CreatedAt: messages.Now(),
		})
	case err == nil:
		g.URL, g.Token, g.Node, g.Home = url, token, a.cfg.Node, a.home.ID
		_, err = a.repos.Gateways.Update(ctx, g)
	}
	if err != nil {
		return fmt.Errorf("register simulated gateway %s: %w", id, err)
	}
	return nil
}
