package server

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

func (s *Server) listNodes(c *call) error {
	nodes, err := s.cmd.Nodes.Nodes(c.ctx())
	if err != nil {
		return err
	}
	items := make([]api.Node, len(nodes))
	for i, n := range nodes {
		if c.tenant() != "" {
			n.Addr = "" // the operator's affair
		}
		items[i] = viewNode(n)
	}
	return c.ok(http.StatusOK, api.NodeList{Items: items})
}

func (s *Server) getLive(c *call) error {
	return c.ok(http.StatusOK, api.Health{Status: api.HealthStatusOk, Version: s.cfg.Version})
}

// getReady answers readiness. What a check found is told only to callers of all
// tenants, who proved who they are: it may name hosts, paths and things of any tenant.
func (s *Server) getReady(c *call) error {
	checks := s.cmd.Health.Checks(c.ctx())
	if s.stopping.Load() {
		checks = append(checks, Check{Name: "stopping", Detail: "this node is shutting down"})
	}
	h, status := api.Health{Status: api.HealthStatusOk, Version: s.cfg.Version}, http.StatusOK
	tell := c.query.Get("verbose") == "true"
	detail := tell && s.knows(c)
	list := make([]api.HealthCheck, 0, len(checks))
	for _, k := range checks {
		if !k.OK {
			h.Status, status = api.HealthStatusUnavailable, http.StatusServiceUnavailable
		}
		v := api.HealthCheck{Name: k.Name, Ok: k.OK}
		if detail && k.Detail != "" {
			v.Detail = &k.Detail
		}
		list = append(list, v)
	}
	if tell {
		h.Checks = &list
	}
	return c.ok(status, h)
}

// knows reports whether the caller of a public route sent a valid credential of
// all tenants.
func (s *Server) knows(c *call) bool {
	token, err := auth.Token(c.r.Header)
	if err != nil || token == "" {
		return false
	}
	p, err := s.auth.Authenticate(c.ctx(), token)
	return err == nil && p.Tenant == ""
}

func (s *Server) getMetrics(c *call) error {
	gather := s.gather
	if gather == nil {
		gather = prometheus.NewRegistry()
	}
	if c.principal != nil && c.tenant() != "" {
		var err error
		if gather, err = s.ownMetrics(c, gather); err != nil {
			return err
		}
	}
	c.status = http.StatusOK
	promhttp.HandlerFor(gather, promhttp.HandlerOpts{}).ServeHTTP(c.w, c.r)
	return nil
}

// ownMetrics are the series of the caller's pools and gateways: what is counted
// over all tenants is not a tenant's to know.
func (s *Server) ownMetrics(c *call, all prometheus.Gatherer) (prometheus.Gatherer, error) {
	own := map[string]map[string]bool{"pool": {}, "gateway": {}}
	pools, err := s.cmd.Pools.List(c.ctx(), c.tenant())
	if err != nil {
		return nil, err
	}
	for _, p := range pools {
		own["pool"][p.ID] = true
	}
	for after, more := "", true; more; {
		var some []Gateway
		if some, more, err = s.cmd.Gateways.List(c.ctx(), GatewayFilter{Tenant: c.tenant()}, after, 1000); err != nil {
			return nil, err
		}
		for _, g := range some {
			after = g.Config.ID
			own["gateway"][after] = true
		}
	}
	foreign := func(m *dto.Metric) bool {
		named := false
		for _, l := range m.GetLabel() {
			if ids, ok := own[l.GetName()]; ok {
				if !ids[l.GetValue()] {
					return true
				}
				named = true
			}
		}
		return !named
	}
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := all.Gather()
		for _, f := range families {
			f.Metric = slices.DeleteFunc(f.Metric, foreign)
		}
		return slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return len(f.Metric) == 0 }), err
	}), nil
}

func (s *Server) getOpenAPI(c *call) error {
	c.bytes(http.StatusOK, "application/json", s.pages.openapi)
	return nil
}

// hdrPageCSP lets the pages use their own style sheet, nothing else.
var hdrPageCSP = []string{"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"}

func (s *Server) getDocs(c *call) error {
	c.w.Header()["Content-Security-Policy"] = hdrPageCSP
	c.bytes(http.StatusOK, "text/html; charset=utf-8", s.pages.docs)
	return nil
}

func (s *Server) getErrorDocs(c *call) error {
	p, ok := s.pages.errors[messages.Code(c.param)]
	if !ok {
		return &messages.Error{Code: messages.CodeNotFound, Message: "there is no such error code", NextStep: fmt.Sprintf(next.ListCodes, s.link(prefix))}
	}
	c.w.Header()["Content-Security-Policy"] = hdrPageCSP
	c.bytes(http.StatusOK, "text/html; charset=utf-8", p)
	return nil
}
