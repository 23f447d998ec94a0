package server

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

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
		items[i] = viewNode(n)
	}
	return c.ok(http.StatusOK, api.NodeList{Items: items})
}

func (s *Server) getLive(c *call) error {
	return c.ok(http.StatusOK, api.Health{Status: api.HealthStatusOk, Version: s.cfg.Version})
}

// getReady answers readiness. What a check found is told only to callers who
// proved who they are: it may name hosts and paths.
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

// knows reports whether the caller of a public route sent a valid credential.
func (s *Server) knows(c *call) bool {
	token, err := auth.Token(c.r.Header)
	if err != nil || token == "" {
		return false
	}
	_, err = s.auth.Authenticate(c.ctx(), token)
	return err == nil
}

func (s *Server) getMetrics(c *call) error {
	gather := s.gather
	if gather == nil {
		gather = prometheus.NewRegistry()
	}
	c.status = http.StatusOK
	promhttp.HandlerFor(gather, promhttp.HandlerOpts{}).ServeHTTP(c.w, c.r)
	return nil
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
