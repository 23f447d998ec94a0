package servertest

import (
	"context"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

type gateways Fake

func (f *gateways) Create(ctx context.Context, g messages.Gateway) (server.Gateway, error) {
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

func (f *gateways) List(ctx context.Context, tenant string) ([]server.Gateway, error) {
	if err := (*Fake)(f).enter(ctx, "ListGateways"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []server.Gateway
	for _, g := range sorted(f.gateways) {
		if tenant == "" || g.Config.Tenant == tenant {
			out = append(out, g)
		}
	}
	return out, nil
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

func (f *gateways) Delete(ctx context.Context, tenant, id string, force bool) error {
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
	return err
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

type sessions Fake

func (f *sessions) Create(ctx context.Context, s messages.Session) (messages.Session, error) {
	if err := (*Fake)(f).enter(ctx, "CreateSession"); err != nil {
		return s, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := s.Tenant + "/" + s.ID
	if _, ok := f.sessions[key]; ok {
		return s, refuse(messages.CodeConflict, "there is a session %s", s.ID)
	}
	s.State, s.CreatedAt = messages.SessionIdle, messages.Now()
	s.UpdatedAt = s.CreatedAt
	f.sessions[key] = s
	(*Fake)(f).publish(s.Event(0, s.CreatedAt))
	return s, nil
}

func (f *sessions) Sessions(ctx context.Context, tenant, pool, after string, limit int) ([]messages.Session, error) {
	if err := (*Fake)(f).enter(ctx, "Sessions"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []messages.Session
	for _, s := range sorted(f.sessions) {
		key := s.ID
		if tenant == "" {
			key = s.Tenant + "/" + s.ID
		}
		if (tenant == "" || s.Tenant == tenant) && (pool == "" || s.Pool == pool) && key > after && len(out) < limit {
			out = append(out, s)
		}
	}
	return out, nil
}

func (f *sessions) change(ctx context.Context, command, tenant, id string, do func(*messages.Session) error) (messages.Session, error) {
	if err := (*Fake)(f).enter(ctx, command); err != nil {
		return messages.Session{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.sessions[tenant+"/"+id]
	if !ok {
		return messages.Session{}, refuse(messages.CodeNotFound, "there is no session %s", id)
	}
	if do == nil {
		return s, nil
	}
	from := s.State
	if err := do(&s); err != nil {
		return messages.Session{}, err
	}
	s.UpdatedAt = messages.Now()
	f.sessions[tenant+"/"+id] = s
	(*Fake)(f).publish(s.Event(from, s.UpdatedAt))
	return s, nil
}

func (f *sessions) Session(ctx context.Context, tenant, id string) (messages.Session, error) {
	return f.change(ctx, "Session", tenant, id, nil)
}

func (f *sessions) Close(ctx context.Context, tenant, id string) error {
	_, err := f.change(ctx, "CloseSession", tenant, id, func(s *messages.Session) error {
		if s.State == messages.SessionBusy {
			return refuse(messages.CodeWrongState, "the session has open tasks")
		}
		s.State = messages.SessionClosed
		return nil
	})
	return err
}

func (f *sessions) Transcript(ctx context.Context, tenant, id string, limit int) ([]messages.Task, error) {
	if _, err := f.change(ctx, "Transcript", tenant, id, nil); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []messages.Task
	for _, task := range f.order {
		t := f.tasks[task]
		if t.Tenant == tenant && t.Session == id && t.State == messages.Succeeded {
			out = append(out, t.Task)
		}
	}
	return out[max(0, len(out)-limit):], nil
}

func (f *sessions) Move(ctx context.Context, tenant, id string, m server.SessionMove) (messages.Session, error) {
	return f.change(ctx, "MoveSession", tenant, id, func(s *messages.Session) error {
		if _, ok := f.gateways[m.Gateway]; !ok && m.Gateway != "" {
			return refuse(messages.CodeInvalid, "there is no gateway %s in this pool", m.Gateway)
		}
		s.State, s.Gateway = messages.SessionMoving, m.Gateway
		return nil
	})
}

func (f *sessions) Resume(ctx context.Context, tenant, id string) (messages.Session, error) {
	return f.change(ctx, "ResumeSession", tenant, id, func(s *messages.Session) error {
		if s.State != messages.SessionParked {
			return refuse(messages.CodeWrongState, "the session is %s, not parked", s.State)
		}
		s.State, s.Reason, s.NextStep = messages.SessionRecovering, "", ""
		return nil
	})
}

type pools Fake

func (f *pools) List(ctx context.Context, tenant string) ([]messages.Pool, error) {
	if err := (*Fake)(f).enter(ctx, "ListPools"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []messages.Pool
	for _, p := range sorted(f.pools) {
		if tenant == "" || p.Tenant == tenant {
			out = append(out, p)
		}
	}
	return out, nil
}

func (f *pools) Get(ctx context.Context, tenant, id string) (messages.Pool, error) {
	if err := (*Fake)(f).enter(ctx, "GetPool"); err != nil {
		return messages.Pool{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.pools[id]
	if !ok || (tenant != "" && p.Tenant != tenant) {
		return p, refuse(messages.CodeNotFound, "there is no pool %s", id)
	}
	return p, nil
}

func (f *pools) Put(ctx context.Context, p messages.Pool) (messages.Pool, error) {
	if err := (*Fake)(f).enter(ctx, "PutPool"); err != nil {
		return p, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old, ok := f.pools[p.ID]
	switch {
	case !ok && p.Version != 0:
		return p, refuse(messages.CodeNotFound, "there is no pool %s", p.ID)
	case old.Version != p.Version:
		return p, refuse(messages.CodeVersionClash, "the version is %d", old.Version)
	}
	p.Version, p.CreatedAt = p.Version+1, messages.Now()
	f.pools[p.ID] = p
	return p, nil
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
