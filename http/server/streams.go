package server

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/http/events"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// position reads where a stream starts: Last-Event-ID wins over since.
func (c *call) position() *int64 {
	for _, v := range []string{c.r.Header.Get("Last-Event-ID"), c.query.Get("since")} {
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			return &n // checked against the document before
		}
	}
	return nil
}

func (c *call) topics() events.Topics {
	if v := c.query.Get("topics"); v != "" {
		return events.ParseTopics(strings.Split(v, ","))
	}
	return events.ParseTopics(nil)
}

// viewer is who watches, and how to ask again whether it still may.
func (c *call) viewer(need auth.Permission) events.Viewer {
	token, _ := auth.Token(c.r.Header) // it was read before
	return events.Viewer{Token: token, Need: need, Principal: c.principal, Count: c.s.admitWatcher}
}

func (s *Server) streamEvents(c *call) error {
	return c.stream(func(ctx context.Context) error {
		return s.events.ServeLog(ctx, c.w, c.viewer(auth.EventsRead), c.topics(), c.position())
	})
}

func (s *Server) streamTask(c *call) error {
	load := func(ctx context.Context) (events.RunState, error) {
		t, err := s.cmd.Tasks.Task(ctx, c.tenant(), c.param, false)
		if err != nil {
			return events.RunState{}, err
		}
		t, h, err := c.whole(ctx, t)
		if err != nil {
			return events.RunState{}, err
		}
		return events.RunState{Task: viewTask(t, true), Claim: t.Claim, Terminal: t.State.Terminal(), Sent: h.release}, nil
	}
	return c.stream(func(ctx context.Context) error {
		return s.events.ServeRun(ctx, c.w, c.viewer(auth.TasksRead), c.param, load, c.position())
	})
}

// stream runs a stream until the client leaves or the server stops. An error
// comes only before the first byte and is answered as a problem.
func (c *call) stream(run func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(c.r.Context())
	defer cancel()
	defer context.AfterFunc(c.s.ctx, cancel)()
	if err := run(ctx); err != nil {
		return err
	}
	c.status = http.StatusOK
	return nil
}

func (s *Server) watchEvents(c *call) error {
	if !strings.Contains(strings.ToLower(c.r.Header.Get("Upgrade")), "websocket") {
		c.w.Header().Set("Upgrade", "websocket")
		return &messages.Error{Code: codeNeedUpgrade, Message: "this path speaks WebSocket only", NextStep: next.ConnectWebSocket}
	}
	s.sockets.Add(1) // before it is hijacked, while http.Server still waits for it
	defer s.sockets.Done()
	c.status = http.StatusSwitchingProtocols
	ctx, cancel := context.WithCancel(c.r.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	v := c.viewer(auth.EventsRead)
	leave := func() {}
	defer func() { leave() }()
	v.Admit = func(ctx context.Context, p *auth.Principal) (err error) {
		c.leaveLobby()
		connectionOf(c.r).prove()
		if err := s.admitWatcher(ctx, p); err != nil {
			return err
		}
		place, err := s.streams.take(ctx, holders(p), 0)
		if err == nil {
			leave = place
		}
		return err
	}
	s.events.ServeSocket(ctx, c.w, c.r, v, c.topics(), c.position())
	return nil
}
