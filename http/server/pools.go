package server

import (
	"net/http"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

func (s *Server) listPools(c *call) error {
	h, err := c.weigh(weighList)
	if err != nil {
		return err
	}
	defer h.release()
	all, err := s.cmd.Pools.List(c.ctx(), c.tenant())
	if err != nil {
		return err
	}
	return page(c, all, func(p messages.Pool) string { return p.ID }, viewPool)
}

func (s *Server) getPool(c *call) error {
	p, err := s.cmd.Pools.Get(c.ctx(), c.tenant(), c.param)
	if err != nil {
		return err
	}
	c.etag(p.Version)
	return c.ok(http.StatusOK, viewPool(p))
}

func (s *Server) putPool(c *call) error {
	// A pool that nobody has stored shows version 0, which creates it.
	version, create := c.ifMatch(), c.r.Header.Get("If-None-Match") == "*"
	if (c.r.Header.Get("If-Match") != "") == create {
		return &messages.Error{
			Code: codeNeedVersion, Message: "it must be said whether the pool is created or replaced",
			NextStep: next.SendMatchHeader,
		}
	}
	var b api.PutPool
	if err := c.body(&b); err != nil {
		return err
	}
	tenant, err := c.ownTenant(b.Tenant)
	if err != nil {
		return err
	}
	p, err := s.cmd.Pools.Put(c.ctx(), c.tenant(), messages.Pool{
		ID: c.param, Tenant: tenant, MaxConcurrency: value(b.MaxConcurrency), Limits: poolLimits(b.Limits),
		Reserved: poolReserved(b.Reserved), AgingSeconds: value(b.AgingSeconds), AwaySeconds: value(b.AwaySeconds), Version: version,
	})
	if err != nil {
		return err
	}
	c.etag(p.Version)
	return c.ok(http.StatusOK, viewPool(p))
}

func (s *Server) deletePool(c *call) error {
	if err := s.cmd.Pools.Delete(c.ctx(), c.tenant(), c.param); err != nil {
		return err
	}
	c.noContent(http.StatusNoContent)
	return nil
}

func poolLimits(b *api.PutLimits) map[messages.Class]messages.ClassLimit {
	if b == nil {
		return nil
	}
	m := map[messages.Class]messages.ClassLimit{}
	for class, l := range map[messages.Class]*api.PutClassLimit{
		messages.Critical: b.Critical, messages.High: b.High, messages.Medium: b.Medium, messages.Low: b.Low,
	} {
		if l != nil {
			m[class] = messages.ClassLimit{Count: value(l.Count), Bytes: value(l.Bytes)}
		}
	}
	return m
}

func poolReserved(b *api.Reserved) map[messages.Class]int {
	if b == nil {
		return nil
	}
	m := map[messages.Class]int{}
	for class, n := range map[messages.Class]*int{
		messages.Critical: b.Critical, messages.High: b.High, messages.Medium: b.Medium, messages.Low: b.Low,
	} {
		if value(n) > 0 {
			m[class] = *n
		}
	}
	return m
}
