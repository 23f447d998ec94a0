package server

import (
	"net/http"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
)

// sessionTenant is whose session the path means.
func (c *call) sessionTenant() (string, error) {
	named := c.query.Get("tenant")
	return c.ownTenant(&named)
}

func (s *Server) createSession(c *call) error {
	var b api.CreateSession
	if err := c.body(&b); err != nil {
		return err
	}
	if wrong := checkLabels(b.Labels); len(wrong) > 0 {
		return invalid(wrong...)
	}
	tenant, err := c.ownTenant(b.Tenant)
	if err != nil {
		return err
	}
	made, err := s.cmd.Sessions.Create(c.ctx(), messages.Session{
		Tenant: tenant, ID: cmpOr(value(b.Id), messages.NewID()), Pool: or(b.Pool, messages.DefaultPool), Labels: value(b.Labels),
	})
	if err != nil {
		return err
	}
	return c.created(http.StatusCreated, prefix+"/sessions/"+made.ID, viewSession(made))
}

func (s *Server) listSessions(c *call) error {
	tenant, err := c.filterTenant(c.query.Get("tenant"))
	if err != nil {
		return err
	}
	cursor, err := c.cursor()
	if err != nil {
		return err
	}
	f := SessionFilter{Tenant: tenant, Pool: c.query.Get("pool"), IDBegin: c.query.Get("id_begin")}
	all, next, err := s.cmd.Sessions.Sessions(c.ctx(), f, cursor, c.limit())
	if err != nil {
		return err
	}
	items := make([]api.Session, len(all))
	for i, v := range all {
		items[i] = viewSession(v)
	}
	return c.ok(http.StatusOK, api.SessionPage{Items: items, NextCursor: c.next(next)})
}

func (s *Server) getSession(c *call) error {
	tenant, err := c.sessionTenant()
	if err != nil {
		return err
	}
	v, err := s.cmd.Sessions.Session(c.ctx(), tenant, c.param)
	if err != nil {
		return err
	}
	return c.ok(http.StatusOK, viewSession(v))
}

func (s *Server) closeSession(c *call) error {
	tenant, err := c.sessionTenant()
	if err != nil {
		return err
	}
	if err := s.cmd.Sessions.Close(c.ctx(), tenant, c.param); err != nil {
		return err
	}
	c.noContent(http.StatusNoContent)
	return nil
}

func (s *Server) sendMessage(c *call) error {
	var b api.SendMessage
	if err := c.body(&b); err != nil {
		return err
	}
	if err := checkMessage("/message", b.Message); err != nil {
		return err
	}
	tenant, err := c.sessionTenant()
	if err != nil {
		return err
	}
	session, err := s.cmd.Sessions.Session(c.ctx(), tenant, c.param)
	if err != nil {
		return err
	}
	req, err := submitRequest(&api.SubmitTask{
		Priority: or(b.Priority, api.PriorityMedium), Session: &session.ID, Pool: &session.Pool,
		Input:       api.SubmitInput{Message: b.Message, Model: b.Model, TimeoutSeconds: b.TimeoutSeconds},
		MaxAttempts: b.MaxAttempts, Backoff: b.Backoff, OnUnknown: b.OnUnknown, Labels: b.Labels,
	}, messages.Now())
	if err != nil {
		return err
	}
	req.Tenant = tenant
	if req.IdemKey, req.IdemHash, err = c.idempotency(&b); err != nil {
		return err
	}
	return s.submit(c, req)
}

func (s *Server) getTranscript(c *call) error {
	tenant, err := c.sessionTenant()
	if err != nil {
		return err
	}
	tasks, err := s.cmd.Sessions.Transcript(c.ctx(), tenant, c.param, c.limit())
	if err != nil {
		return err
	}
	return c.ok(http.StatusOK, viewTranscript(c.param, tasks))
}

func (s *Server) moveSession(c *call) error {
	var b api.MoveSession
	if err := c.body(&b); err != nil {
		return err
	}
	tenant, err := c.sessionTenant()
	if err != nil {
		return err
	}
	v, err := s.cmd.Sessions.Move(c.ctx(), tenant, c.param, SessionMove{Gateway: value(b.Gateway), Force: value(b.Force)})
	if err != nil {
		return err
	}
	return c.ok(http.StatusAccepted, viewSession(v))
}

func (s *Server) resumeSession(c *call) error {
	tenant, err := c.sessionTenant()
	if err != nil {
		return err
	}
	v, err := s.cmd.Sessions.Resume(c.ctx(), tenant, c.param)
	if err != nil {
		return err
	}
	return c.ok(http.StatusAccepted, viewSession(v))
}
