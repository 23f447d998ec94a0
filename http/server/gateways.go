package server

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

const (
	defaultConcurrency = 4
	defaultWeight      = 1
)

func (s *Server) createGateway(c *call) error {
	var b api.CreateGateway
	if err := c.body(&b); err != nil {
		return err
	}
	if wrong := checkCreateGateway(&b); len(wrong) > 0 {
		return invalid(wrong...)
	}
	tenant, err := c.ownTenant(b.Tenant)
	if err != nil {
		return err
	}
	g := messages.Gateway{
		ID: b.Id, Tenant: tenant, Pool: or(b.Pool, messages.OwnPool(tenant)), Node: value(b.Node), Region: value(b.Region),
		URL: value(b.Url), Token: messages.Secret(value(b.Token)), MaxConcurrency: or(b.MaxConcurrency, defaultConcurrency),
		Weight: or(b.Weight, defaultWeight), Capabilities: value(b.Capabilities), Labels: value(b.Labels),
	}
	if m := b.Managed; m != nil {
		// It names a program that runs on the node, as the node's user.
		if c.tenant() != "" {
			return &messages.Error{
				Code: messages.CodeForbidden, Message: "a credential of one tenant may not have Dash start a process",
				NextStep: next.AskAllTenants,
			}
		}
		if m.Command != nil || m.Config != nil || m.Env != nil || m.StateDir != nil {
			if err := c.mayRunCode(); err != nil {
				return err
			}
		}
		g.Managed = &messages.Managed{
			Command: value(m.Command), Port: value(m.Port), StateDir: value(m.StateDir), Config: value(m.Config), Env: value(m.Env),
		}
	}
	made, err := s.cmd.Gateways.Create(c.ctx(), c.tenant(), g)
	if err != nil {
		return err
	}
	c.etag(made.Config.Version)
	return c.created(http.StatusCreated, prefix+"/gateways/"+made.Config.ID, c.viewGateway(made))
}

// mayRunCode: command, environment and configuration of a gateway's process can
// run any program as the node's user, which is more than to manage gateways.
func (c *call) mayRunCode() error {
	if c.tenant() == "" && c.principal.May(auth.Admin) {
		return nil
	}
	return &messages.Error{
		Code:     messages.CodeForbidden,
		Message:  "command, config, env and state_dir of a managed gateway can run any program on the node, so they need the permission admin over all tenants",
		NextStep: next.AskAdmin,
	}
}

func checkCreateGateway(b *api.CreateGateway) (wrong []messages.FieldError) {
	add := func(pointer, detail string) {
		wrong = append(wrong, messages.FieldError{Pointer: pointer, Detail: detail})
	}
	switch {
	case b.Managed != nil && b.Url != nil:
		add("/url", "must not be given together with managed")
	case b.Managed != nil && b.Token != nil:
		add("/token", "must not be given together with managed: Dash makes one")
	case b.Managed == nil && b.Url == nil:
		add("/url", "is needed, or managed in its place")
	case b.Managed == nil && b.Token == nil:
		add("/token", "is needed: the shared token of the gateway")
	}
	if b.Url != nil {
		if why := checkGatewayURL(*b.Url); why != "" {
			add("/url", why)
		}
	}
	if m := b.Managed; m != nil {
		wrong = append(wrong, checkProcess(m.Command, m.Env)...)
		if m.StateDir != nil && !filepath.IsAbs(*m.StateDir) {
			add("/managed/state_dir", "must be an absolute path")
		}
	}
	return append(wrong, checkLabels(b.Labels)...)
}

func checkProcess(command *[]string, env *map[string]string) (wrong []messages.FieldError) {
	if len(value(command)) > 0 && !filepath.IsAbs((*command)[0]) {
		wrong = append(wrong, messages.FieldError{Pointer: "/managed/command/0", Detail: "must be an absolute path"})
	}
	for name := range value(env) {
		if name == "" || strings.ContainsAny(name, "= \t\n") {
			wrong = append(wrong, messages.FieldError{Pointer: pointer([]string{"managed", "env", name}), Detail: "is no name of an environment variable"})
		}
	}
	return wrong
}

func checkGatewayURL(raw string) string {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Opaque != "" || u.Hostname() == "":
		return "must look like ws://127.0.0.1:18789"
	case u.Scheme != "ws" && u.Scheme != "wss":
		return "must begin with ws:// or wss://"
	case u.User != nil:
		return "must not hold a password: use token"
	case !namesHost(u):
		return "must name a host or an IP address"
	case u.RawQuery != "" || u.Fragment != "":
		return "must not have a query or fragment"
	case u.Port() != "":
		if n, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || n == 0 {
			return "has a port that is not 1 to 65535"
		}
	}
	return ""
}

var (
	hostName = regexp.MustCompile(`^[\pL\pN._-]+$`)
	zoneName = regexp.MustCompile(`^[A-Za-z0-9._-]*$`)
)

// namesHost: a host may hold odd bytes that Go's parser takes and cannot write
// anew. In brackets only an IP address stands, with a zone at most.
func namesHost(u *url.URL) bool {
	if !strings.HasPrefix(u.Host, "[") {
		return hostName.MatchString(u.Hostname())
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && zoneName.MatchString(ip.Zone())
}

func (s *Server) listGateways(c *call) error {
	tenant, err := c.filterTenant(c.query.Get("tenant"))
	if err != nil {
		return err
	}
	after, err := c.afterID()
	if err != nil {
		return err
	}
	f := GatewayFilter{Tenant: tenant, Pool: c.query.Get("pool")}
	if states := c.query.Get("state"); states != "" {
		f.States = strings.Split(states, ",")
	}
	h, err := c.weigh(weighList)
	if err != nil {
		return err
	}
	defer h.release()
	some, more, err := s.cmd.Gateways.List(c.ctx(), f, after, c.limit())
	if err != nil {
		return err
	}
	return part(c, some, more, func(g Gateway) string { return g.Config.ID }, c.viewGateway)
}

func (s *Server) getGateway(c *call) error {
	g, err := s.cmd.Gateways.Get(c.ctx(), c.tenant(), c.param)
	if err != nil {
		return err
	}
	c.etag(g.Config.Version)
	return c.ok(http.StatusOK, c.viewGateway(g))
}

func (s *Server) updateGateway(c *call) error {
	var b api.UpdateGateway
	if err := c.body(&b); err != nil {
		return err
	}
	ch := GatewayChange{
		URL: b.Url, MaxConcurrency: b.MaxConcurrency, Weight: b.Weight, Region: b.Region, Capabilities: b.Capabilities, Labels: b.Labels,
	}
	wrong := checkLabels(b.Labels)
	if b.Url != nil {
		if why := checkGatewayURL(*b.Url); why != "" {
			wrong = append(wrong, messages.FieldError{Pointer: "/url", Detail: why})
		}
	}
	if m := b.Managed; m != nil {
		if err := c.mayRunCode(); err != nil {
			return err
		}
		wrong = append(wrong, checkProcess(m.Command, m.Env)...)
		ch.Managed = &ManagedChange{Command: m.Command, Config: m.Config, Env: m.Env}
	}
	home, err := c.homeChange(&b)
	if err != nil {
		return err
	}
	ch.Home = home
	if len(wrong) > 0 {
		return invalid(wrong...)
	}
	if b.Token != nil {
		t := messages.Secret(*b.Token)
		ch.Token = &t
	}
	if b.Region == nil && c.hasNull("region") {
		none := ""
		ch.Region = &none
	}
	g, err := s.cmd.Gateways.Update(c.ctx(), c.tenant(), c.param, ch, c.ifMatch())
	if err != nil {
		return err
	}
	c.etag(g.Config.Version)
	return c.ok(http.StatusOK, c.viewGateway(g))
}

// homeChange reads here, node and fresh. Which host a gateway is on is the
// operator's affair: its process may run any program there.
func (c *call) homeChange(b *api.UpdateGateway) (*HomeChange, error) {
	here := value(b.Here)
	switch {
	case here && b.Node != nil:
		return nil, invalid(messages.FieldError{Pointer: "/node", Detail: "must not be given together with here"})
	case !here && b.Node == nil && b.Fresh != nil:
		return nil, invalid(messages.FieldError{Pointer: "/fresh", Detail: "goes with here or node"})
	case !here && b.Node == nil:
		return nil, nil
	case c.tenant() != "":
		return nil, &messages.Error{
			Code: messages.CodeForbidden, Message: "a credential of one tenant may not give a gateway another home",
			NextStep: next.AskAllTenants,
		}
	}
	return &HomeChange{Node: value(b.Node), Fresh: value(b.Fresh)}, nil
}

// hasNull tells a field that is null from one that is absent.
func (c *call) hasNull(field string) bool {
	tree, err := parse(c.raw)
	if err != nil {
		return false // it was parsed before
	}
	m, _ := tree.(map[string]any)
	v, there := m[field]
	return there && v == nil
}

func (s *Server) deleteGateway(c *call) error {
	left, err := s.cmd.Gateways.Delete(c.ctx(), c.tenant(), c.param, c.query.Get("force") == "true")
	if err != nil {
		return err
	}
	if left != "" {
		return c.ok(http.StatusAccepted, api.GatewayRemoval{Detail: left})
	}
	c.noContent(http.StatusNoContent)
	return nil
}

// changeGateway answers drain, resume and restart.
func (s *Server) changeGateway(do func(ctx context.Context, tenant, id string) (Gateway, error)) handler {
	return func(c *call) error {
		g, err := do(c.ctx(), c.tenant(), c.param)
		if err != nil {
			return err
		}
		return c.ok(http.StatusAccepted, c.viewGateway(g))
	}
}
