package requests

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/actors/fleet"
	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw/launcher"
	"github.com/dash-fleet/dash/cmd/internal/accounts"
	"github.com/dash-fleet/dash/cmd/internal/audit"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// Gateways implements server.Gateways.
type Gateways struct {
	Store   persistence.Store
	Repos   *persistence.Repositories
	Tenants *accounts.Tenants
	Owners  *dispatch.Client // of pools
	Node    Node
	Fleet   *fleet.Fleet
	Launch  *launcher.Launcher
	// Starts: this node starts the managed gateways whose home it is.
	Starts bool
	// Works refuses while this node does no work.
	Works func() error
	// Reachable refuses a URL that a tenant, empty for somebody of all, may not name.
	Reachable func(ctx context.Context, tenant, url string) error
	Homes     Homes
}

// Node is where the owners of gateways run.
type Node interface {
	Gateway(id string) (*actor.PID, bool)
	Tell(pid *actor.PID, m any)
}

// Homes says where gateways live that one node alone can reach.
type Homes interface {
	// Settle gives a new gateway the home that it asks for, or this node.
	Settle(g *messages.Gateway) error
	// Here makes this node the home of a gateway that is meant as this node sees it.
	Here(g *messages.Gateway)
	// Move gives the gateway the home that node, empty for this one, is; fresh: without
	// the folder of a managed one.
	Move(g *messages.Gateway, node string, fresh bool) error
	// Elsewhere says why this node must not start or dial the gateway; no reason: it may.
	Elsewhere(g messages.Gateway) (reason, step string)
}

// Create implements server.Gateways.
func (c *Gateways) Create(ctx context.Context, tenant string, g messages.Gateway) (server.Gateway, error) {
	if err := c.Works(); err != nil {
		return server.Gateway{}, err
	}
	if err := c.Tenants.Exists(ctx, g.Tenant); err != nil {
		return server.Gateway{}, err
	}
	_, done, err := c.Owners.Entry(ctx, g.Tenant, g.Pool)
	if err != nil {
		return server.Gateway{}, err
	}
	defer done()
	if err := c.Homes.Settle(&g); err != nil {
		return server.Gateway{}, err
	}
	if g.Managed != nil && !c.Starts {
		return server.Gateway{}, &messages.Error{
			Code: messages.CodeNotSupported, Message: "this node does not start gateways",
			NextStep: next.AutoStartOrRegister,
		}
	}
	if err := c.permitted(g.Managed); err != nil {
		return server.Gateway{}, err
	}
	if g.MaxConcurrency == 0 {
		g.MaxConcurrency = defaultConcurrency
	}
	if err := c.Reachable(ctx, tenant, g.URL); err != nil {
		return server.Gateway{}, err
	}
	g.CreatedAt = messages.Now()
	if g, err = c.add(ctx, tenant, g); err != nil {
		return server.Gateway{}, err
	}
	if err = c.Fleet.StartGateway(ctx, g, messages.GatewayStatus{}); err != nil {
		// Nobody owns it, for instance because one of its name is still being
		// removed: the caller is to try again.
		return server.Gateway{}, errors.Join(persistence.Refusal(err, "gateway", g.ID), c.takeBack(ctx, g))
	}
	return c.Shown(ctx, g), nil
}

// takeBackIn bounds the removal of a gateway that got no owner.
const takeBackIn = 5 * time.Second

// takeBack removes a gateway that was just added, also for a caller who is gone.
func (c *Gateways) takeBack(ctx context.Context, g messages.Gateway) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackIn)
	defer cancel()
	defer c.Fleet.Wake() // its owner may come up after all
	return c.Repos.Gateways.Delete(audit.Change(ctx, g.ID, recordedGateway(g), nil), g.ID)
}

// permitted refuses what this node does not run, whoever asks for it. Its home
// decides again when it starts the process.
func (c *Gateways) permitted(m *messages.Managed) error {
	if m == nil {
		return nil
	}
	refused := c.Launch.Refusals(*m)
	if len(refused) == 0 {
		return nil
	}
	e := &messages.Error{Code: messages.CodeInvalid, Message: refused[0].Reason, NextStep: refused[0].NextStep}
	for _, r := range refused {
		pointer := "/managed"
		for _, name := range r.Field {
			pointer += "/" + escaped.Replace(name)
		}
		e.Fields = append(e.Fields, messages.FieldError{Pointer: pointer, Detail: r.Reason})
	}
	return e
}

// escaped is a name in a JSON pointer.
var escaped = strings.NewReplacer("~", "~0", "/", "~1")

// add writes the configuration of a new gateway that a tenant adds, or somebody of all tenants.
func (c *Gateways) add(ctx context.Context, tenant string, g messages.Gateway) (made messages.Gateway, err error) {
	err = c.Fleet.Admit(ctx, tenant, &g, func() (err error) {
		made, err = c.Repos.Gateways.Create(audit.Change(ctx, g.ID, nil, recordedGateway(g)), g)
		if errors.Is(err, persistence.ErrNotFound) { // it was removed meanwhile
			return NoPool(g.Tenant, g.Pool)
		}
		if errors.Is(err, persistence.ErrExists) {
			if old, err := c.Repos.Gateways.Get(ctx, g.ID); err != nil || old.Tenant != g.Tenant {
				return persistence.Taken(g.ID)
			}
		}
		return persistence.Refusal(err, "gateway", g.ID)
	})
	return made, err
}

// defaultConcurrency is the gateway's own default for small machines.
const defaultConcurrency = 8

// Shown adds the owner's last word to a configuration.
func (c *Gateways) Shown(ctx context.Context, g messages.Gateway) server.Gateway {
	return c.shownWith(ctx, g, func() ([]messages.GatewayStatus, error) { return c.Store.GatewayStatuses(ctx) })
}

// shownWith is Shown with the recorded states of all gateways, which are read if the
// owner says nothing.
func (c *Gateways) shownWith(ctx context.Context, g messages.Gateway, recorded func() ([]messages.GatewayStatus, error)) server.Gateway {
	said := c.Ask(ctx, g.ID)
	return show(g, said, recorded)
}

// show is a gateway as its owner said it is, else as it is recorded.
func show(g messages.Gateway, said map[string]gateway.Snapshot, recorded func() ([]messages.GatewayStatus, error)) server.Gateway {
	out := server.Gateway{Config: g, Status: messages.GatewayStatus{ID: g.ID, Tenant: g.Tenant, State: messages.GatewayRegistered}}
	if s, ok := said[g.ID]; ok {
		out.Status, out.ConfigState = s.Status, string(s.Config)
		return out
	}
	rows, err := recorded()
	if err != nil {
		return out
	}
	if i := slices.IndexFunc(rows, func(s messages.GatewayStatus) bool { return s.ID == g.ID && s.State != messages.GatewayRemoved }); i >= 0 {
		out.Status = rows[i]
	}
	return out
}

// askTimeout bounds the wait for the owners of gateways; without an answer the
// last recorded status is shown.
const askTimeout = time.Second

// Ask asks the owners of these gateways how they are, all at once and each once. Who
// has no owner here, or does not answer in time, is not in the answer.
func (c *Gateways) Ask(ctx context.Context, ids ...string) map[string]gateway.Snapshot {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	replies := make(chan gateway.Snapshot, len(ids)) // no owner waits for this one
	asked := 0
	for _, id := range ids {
		if pid, ok := c.Node.Gateway(id); ok {
			c.Node.Tell(pid, gateway.Inspect{Reply: replies})
			asked++
		}
	}
	said := make(map[string]gateway.Snapshot, asked)
	for range asked {
		select {
		case s := <-replies:
			if s.Status.State != 0 {
				said[s.Status.ID] = s
			}
		case <-ctx.Done():
			return said
		}
	}
	return said
}

func (c *Gateways) config(ctx context.Context, tenant, id string) (messages.Gateway, error) {
	g, err := c.Repos.Gateways.Get(ctx, id)
	if err != nil {
		return g, persistence.Refusal(err, "gateway", id)
	}
	if tenant != "" && g.Tenant != tenant {
		return g, persistence.NotThere("gateway", id)
	}
	return g, nil
}

// changing is config for those who need the gateway's owner on this node.
func (c *Gateways) changing(ctx context.Context, tenant, id string) (messages.Gateway, error) {
	if err := c.Works(); err != nil {
		return messages.Gateway{}, err
	}
	g, err := c.config(ctx, tenant, id)
	if err == nil {
		err = c.Fleet.Away(id) // its owner would not be told
	}
	return g, err
}

// Get implements server.Gateways.
func (c *Gateways) Get(ctx context.Context, tenant, id string) (server.Gateway, error) {
	g, err := c.config(ctx, tenant, id)
	if err != nil {
		return server.Gateway{}, err
	}
	return c.Shown(ctx, g), nil
}

// Update implements server.Gateways.
func (c *Gateways) Update(ctx context.Context, tenant, id string, ch server.GatewayChange, version int64) (server.Gateway, error) {
	g, err := c.changing(ctx, tenant, id)
	if err != nil {
		return server.Gateway{}, err
	}
	if g.Managed != nil && (ch.URL != nil || ch.Token != nil) {
		return server.Gateway{}, &messages.Error{
			Code: messages.CodeInvalid, Message: "the url and the token of a managed gateway are Dash's own",
			NextStep: next.LeaveOutOrOtherID,
		}
	}
	// Another spelling of a host may lead to another process.
	if ch.URL != nil && strings.TrimRight(*ch.URL, "/") != strings.TrimRight(g.URL, "/") && ch.Token == nil {
		return server.Gateway{}, &messages.Error{
			Code: messages.CodeInvalid, Message: "the stored token was given for the present url, and is not sent to another one",
			NextStep: next.TokenForURL, Fields: []messages.FieldError{{Pointer: "/token", Detail: "is needed with a new url"}},
		}
	}
	before := g
	if version != 0 {
		g.Version = version
	}
	was := g.HomeBound()
	if ch.Managed != nil && g.Managed == nil {
		return server.Gateway{}, &messages.Error{
			Code: messages.CodeInvalid, Message: "Dash does not start this gateway", NextStep: next.OnlyManagedConfig,
		}
	}
	if m := ch.Managed; m != nil {
		managed := *g.Managed
		set(&managed.Command, m.Command)
		set(&managed.Config, m.Config)
		set(&managed.Env, m.Env)
		g.Managed = &managed
		if err := c.permitted(g.Managed); err != nil {
			return server.Gateway{}, err
		}
	}
	set(&g.URL, ch.URL)
	if !was && g.HomeBound() { // a loopback address is meant as this node sees it
		c.Homes.Here(&g)
	}
	set(&g.Token, ch.Token)
	set(&g.MaxConcurrency, ch.MaxConcurrency)
	set(&g.Weight, ch.Weight)
	set(&g.Region, ch.Region)
	set(&g.Capabilities, ch.Capabilities)
	set(&g.Labels, ch.Labels)
	if ch.Home != nil {
		if err := c.Homes.Move(&g, ch.Home.Node, ch.Home.Fresh); err != nil {
			return server.Gateway{}, err
		}
	}
	if ch.URL != nil && g.URL != before.URL {
		if err := c.Reachable(ctx, tenant, g.URL); err != nil {
			return server.Gateway{}, err
		}
	}
	if ch.URL == nil && ch.Home == nil {
		return c.store(ctx, before, g, gateway.Configure{Gateway: g})
	}
	var stored server.Gateway
	err = c.Fleet.Admit(ctx, "", &g, func() (err error) {
		stored, err = c.store(ctx, before, g, gateway.Configure{Gateway: g})
		return err
	})
	return stored, err
}

func set[T any](field *T, v *T) {
	if v != nil {
		*field = *v
	}
}

// store writes a changed configuration and tells the owner.
func (c *Gateways) store(ctx context.Context, before, g messages.Gateway, tell ...any) (server.Gateway, error) {
	stored, err := c.Repos.Gateways.Update(audit.Change(ctx, g.ID, recordedGateway(before), recordedGateway(g)), g)
	if err != nil {
		return server.Gateway{}, persistence.Refusal(err, "gateway", g.ID)
	}
	if pid, ok := c.Node.Gateway(g.ID); ok {
		for _, m := range tell {
			c.Node.Tell(pid, m)
		}
	}
	return c.Shown(ctx, stored), nil
}

// leftBehind says what becomes of the process of a gateway whose home is another
// node. A home finds the processes in its own data folder alone.
func leftBehind(g messages.Gateway) string {
	where := "the process of gateway " + g.ID + " is on its home, node " + g.Node
	if own := g.Managed.StateDir; own != "" {
		return where + ", with a state folder of its own, " + own + ": stop it there, Dash does not"
	}
	return where + ", which stops it as soon as it is alive"
}

// Delete implements server.Gateways.
func (c *Gateways) Delete(ctx context.Context, tenant, id string, force bool) (left string, err error) {
	g, err := c.changing(ctx, tenant, id)
	if err != nil {
		return "", err
	}
	if s := c.Shown(ctx, g); s.Status.Running > 0 && !force {
		return "", &messages.Error{
			Code: messages.CodeWrongState, Message: "the gateway holds tasks",
			NextStep: fmt.Sprintf(next.DrainFirst, id),
		}
	}
	if away, _ := c.Homes.Elsewhere(g); g.Managed != nil && away != "" {
		left = leftBehind(g)
	}
	if err := c.Repos.Gateways.Delete(audit.Change(ctx, id, recordedGateway(g), nil), id); err != nil {
		return "", persistence.Refusal(err, "gateway", id)
	}
	c.Fleet.RemoveGateway(ctx, id)
	return left, nil
}

// Drain implements server.Gateways.
func (c *Gateways) Drain(ctx context.Context, tenant, id string) (server.Gateway, error) {
	g, err := c.changing(ctx, tenant, id)
	if err != nil {
		return server.Gateway{}, err
	}
	before := g
	g.Drained = true
	return c.store(ctx, before, g, gateway.Drain{})
}

// Resume implements server.Gateways.
func (c *Gateways) Resume(ctx context.Context, tenant, id string) (server.Gateway, error) {
	g, err := c.changing(ctx, tenant, id)
	if err != nil {
		return server.Gateway{}, err
	}
	before := g
	g.Drained = false
	tell := []any{gateway.Resume{}}
	if c.Shown(ctx, g).Status.State == messages.GatewayQuarantined {
		tell = append(tell, gateway.Restart{})
	}
	return c.store(ctx, before, g, tell...)
}

// Restart implements server.Gateways. A gateway whose owner gave up gets a new one.
func (c *Gateways) Restart(ctx context.Context, tenant, id string) (server.Gateway, error) {
	g, err := c.changing(ctx, tenant, id)
	if err != nil {
		return server.Gateway{}, err
	}
	// A restart would leave it drained: that is what is wanted of it.
	if s := c.Shown(ctx, g).Status.State; s == messages.GatewayDrained || s == messages.GatewayDraining {
		return server.Gateway{}, &messages.Error{
			Code: messages.CodeWrongState, Message: "the gateway is " + s.String() + ", so a restart would not give it work",
			NextStep: fmt.Sprintf(next.ResumeManaged, id),
		}
	}
	if reason, step := c.Homes.Elsewhere(g); reason != "" {
		if tenant != "" {
			reason, step = messages.Coarse(id, messages.GatewayUnreachable.String(), reason, step)
		}
		return server.Gateway{}, &messages.Error{Code: messages.CodeWrongState, Message: "the gateway cannot be restarted here: " + reason, NextStep: step}
	}
	if pid, ok := c.Node.Gateway(id); ok {
		c.Node.Tell(pid, gateway.Restart{})
		return c.Shown(ctx, g), nil
	}
	if err := c.Fleet.StartGateway(ctx, g, c.Shown(ctx, g).Status); err != nil {
		return server.Gateway{}, persistence.Refusal(err, "gateway", id)
	}
	return c.Shown(ctx, g), nil
}
