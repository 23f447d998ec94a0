package servertest

import (
	"context"
	"slices"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

type gateways Fake

func (f *gateways) Create(ctx context.Context, _ string, g messages.Gateway) (server.Gateway, error) {
	if err := (*Fake)(f).enter(ctx, "CreateGateway"); err != nil {
		return server.Gateway{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.gateways[g.ID]; ok {
		return server.Gateway{}, refuse(messages.CodeConflict, "there is a gateway %s", g.ID)
	}
	g.Version, g.CreatedAt = 1, messages.Now()
	v := server.Gateway{Config: g}
	f.gateways[g.ID] = v
	return v, nil
}

func (f *gateways) List(ctx context.Context, by server.GatewayFilter, after string, limit int) (out []server.Gateway, more bool, err error) {
	if err := (*Fake)(f).enter(ctx, "ListGateways"); err != nil {
		return nil, false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range sorted(f.gateways) {
		switch {
		case g.Config.ID <= after, by.Tenant != "" && g.Config.Tenant != by.Tenant, by.Pool != "" && g.Config.Pool != by.Pool,
			len(by.States) > 0 && !slices.Contains(by.States, g.Status.State.String()):
		case len(out) == limit:
			return out, true, nil
		default:
			out = append(out, g)
		}
	}
	return out, false, nil
}

func (f *gateways) change(ctx context.Context, command, tenant, id string, do func(*server.Gateway) error) (server.Gateway, error) {
	if err := (*Fake)(f).enter(ctx, command); err != nil {
		return server.Gateway{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	g, ok := f.gateways[id]
	if !ok || (tenant != "" && g.Config.Tenant != tenant) {
		return server.Gateway{}, refuse(messages.CodeNotFound, "there is no gateway %s", id)
	}
	if do == nil {
		return g, nil
	}
	from := g.Status.State
	if err := do(&g); err != nil {
		return server.Gateway{}, err
	}
	f.gateways[id] = g
	if g.Status.State != from {
		g.Status.ID, g.Status.Tenant = id, g.Config.Tenant
		(*Fake)(f).publish(g.Status.Event(g.Config.Pool, from, messages.Now()))
	}
	return g, nil
}

func (f *gateways) Get(ctx context.Context, tenant, id string) (server.Gateway, error) {
	return f.change(ctx, "GetGateway", tenant, id, nil)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func (f *gateways) Update(ctx context.Context, tenant, id string, c server.GatewayChange, version int64) (server.Gateway, error) {
	return f.change(ctx, "UpdateGateway", tenant, id, func(g *server.Gateway) error {
		if version != 0 && version != g.Config.Version {
			return refuse(messages.CodeVersionClash, "the version is %d", g.Config.Version)
		}
		set(&g.Config.URL, c.URL)
		set(&g.Config.Token, c.Token)
		set(&g.Config.MaxConcurrency, c.MaxConcurrency)
		set(&g.Config.Weight, c.Weight)
		set(&g.Config.Region, c.Region)
		set(&g.Config.Capabilities, c.Capabilities)
		set(&g.Config.Labels, c.Labels)
		g.Config.Version++
		return nil
	})
}

func (f *gateways) Delete(ctx context.Context, tenant, id string, force bool) (string, error) {
	_, err := f.change(ctx, "DeleteGateway", tenant, id, func(g *server.Gateway) error {
		if g.Status.Running > 0 && !force {
			return refuse(messages.CodeWrongState, "the gateway holds %d tasks", g.Status.Running)
		}
		return nil
	})
	if err == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.gateways, id)
	}
	return "", err
}

func (f *gateways) state(ctx context.Context, command, tenant, id string, to messages.GatewayState, drained bool) (server.Gateway, error) {
	return f.change(ctx, command, tenant, id, func(g *server.Gateway) error {
		g.Config.Drained, g.Status.State, g.Status.Since = drained, to, messages.Now()
		return nil
	})
}

func (f *gateways) Drain(ctx context.Context, tenant, id string) (server.Gateway, error) {
	return f.state(ctx, "DrainGateway", tenant, id, messages.GatewayDraining, true)
}

func (f *gateways) Resume(ctx context.Context, tenant, id string) (server.Gateway, error) {
	return f.state(ctx, "ResumeGateway", tenant, id, messages.GatewayReady, false)
}

func (f *gateways) Restart(ctx context.Context, tenant, id string) (server.Gateway, error) {
	return f.state(ctx, "RestartGateway", tenant, id, messages.GatewayConnecting, false)
}

type nodes Fake

func (f *nodes) Nodes(ctx context.Context) ([]server.Node, error) {
	if err := (*Fake)(f).enter(ctx, "Nodes"); err != nil {
		return nil, err
	}
	return []server.Node{{ID: "n1-abc", Version: "test", Expires: messages.Now()}}, nil
}

type health Fake

func (f *health) Checks(context.Context) []server.Check {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]server.Check(nil), f.checks...)
}
