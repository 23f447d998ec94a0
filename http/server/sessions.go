package server

import (
	"maps"
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
	wanted := messages.Session{
		Tenant: tenant, ID: cmpOr(value(b.Id), cmpOr(c.onceID(), messages.NewID())), Pool: or(b.Pool, messages.OwnPool(tenant)), Labels: value(b.Labels),
	}
	made, err := s.cmd.Sessions.Create(c.ctx(), wanted)
	if b.Id == nil && messages.CodeOf(err) == messages.CodeConflict { // of the same Idempotency-Key, whose answer was forgotten
		made, err = s.cmd.Sessions.Session(c.ctx(), tenant, wanted.ID)
		switch {
		case err != nil:
		case made.Pool != wanted.Pool || !maps.Equal(made.Labels, wanted.Labels):
			err = keyReused()
		default:
			c.repeated()
		}
	}
	if err != nil {
		return err
	}
	c.of = made.Tenant
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
	h, err := c.weigh(weighList)
	if err != nil {
		return err
	}
	defer h.release()
	all, next, err := s.cmd.Sessions.Sessions(c.ctx(), f, cursor, c.limit())
	if err != nil {
		return err
	}
	return c.page(len(all), func(i int, _ *api.Long) any { return viewSession(all[i]) }, pageEnd{NextCursor: c.next(next)})
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
	before, err := c.cursor()
	if err != nil {
		return err
	}
	if before != "" && messages.CheckID(before) != nil {
		return badCursor()
	}
	h, err := c.weigh(weighBodies)
	if err != nil {
		return err
	}
	defer h.release()
	turns, older, err := s.cmd.Sessions.Transcript(c.ctx(), tenant, c.param, before, c.limit())
	if err != nil {
		return err
	}
	h.keep(taskBytes(turns))
	end := pageEnd{Session: c.param}
	if older && len(turns) > 0 {
		end.NextCursor = c.next(turns[0].ID)
	}
	return c.page(len(turns), func(i int, l *api.Long) any { return viewTurn(turns, i, l) }, end)
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
