package server_test

import (
	"errors"
	"testing"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

// Every method of the client reaches its operation: the fake starts afresh and
// the calls below are lawful in this order.
func TestClientCallsEveryOperation(t *testing.T) {
	t.Parallel()
	n := start(t, server.Config{})
	c, err := api.NewClient(n.base, admin, n.http)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	url, token, reason, gw := "ws://h:1", "x", "why", "gw-2"
	weight := 3
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"CancelTask", func() error { _, err := c.CancelTask(ctx, openTask, api.CancelTask{Reason: &reason}); return err }},
		{"ReplayDeadLetters", func() error {
			r, err := c.ReplayDeadLetters(ctx, api.ReplayDeadLetters{})
			if err == nil && (r.Matched != 1 || r.Replayed != 1) {
				err = errors.New("nothing replayed")
			}
			return err
		}},
		{"ReleaseTask", func() error {
			r, err := c.ReleaseTask(ctx, heldTask, api.ReleaseTask{Action: api.ReleaseTaskActionFail})
			if err == nil && r.State != api.TaskStateDeadLetter {
				err = errors.New("not failed")
			}
			return err
		}},
		{"ReplayTask", func() error { _, err := c.ReplayTask(ctx, heldTask); return err }},
		{"GetQueue", func() error {
			q, err := c.GetQueue(ctx, "default")
			if err == nil && (len(q.Items) != 4 || q.Items[1].Depth != 2) {
				err = errors.New("wrong depth")
			}
			return err
		}},
		{"CreateGateway", func() error {
			_, err := c.CreateGateway(ctx, api.CreateGateway{Id: "gw-9", Url: &url, Token: &token})
			return err
		}},
		{"ListGateways", func() error {
			_, err := c.ListGateways(ctx, "default", []api.GatewayState{api.GatewayStateReady}, api.Page{Limit: 1})
			return err
		}},
		{"GetGateway", func() error { _, err := c.GetGateway(ctx, "gw-9"); return err }},
		{"UpdateGateway", func() error {
			g, err := c.UpdateGateway(ctx, "gw-9", api.UpdateGateway{Weight: &weight}, api.WithVersion(1))
			if err == nil && (g.Weight != 3 || g.Version != 2) {
				err = errors.New("not changed")
			}
			return err
		}},
		{"DrainGateway", func() error { _, err := c.DrainGateway(ctx, "gw-9"); return err }},
		{"ResumeGateway", func() error { _, err := c.ResumeGateway(ctx, "gw-9"); return err }},
		{"RestartGateway", func() error { _, err := c.RestartGateway(ctx, "gw-9"); return err }},
		{"DeleteGateway", func() error { return c.DeleteGateway(ctx, "gw-9", true) }},
		{"ResumeSession", func() error { _, err := c.ResumeSession(ctx, "", "s-1"); return err }},
		{"CreateSession", func() error { _, err := c.CreateSession(ctx, api.CreateSession{}); return err }},
		{"ListSessions", func() error { _, err := c.ListSessions(ctx, "default", "default", api.Page{}); return err }},
		{"SendMessage", func() error {
			r, err := c.SendMessage(ctx, "", "s-1", api.SendMessage{Message: "x"})
			if err == nil && (*r.Session != "s-1" || r.Priority != api.PriorityMedium) {
				err = errors.New("not the session's")
			}
			return err
		}},
		{"MoveSession", func() error { _, err := c.MoveSession(ctx, "", "s-1", api.MoveSession{Gateway: &gw}); return err }},
		{"CloseSession", func() error { return c.CloseSession(ctx, "", "s-1") }},
		{"ListPools", func() error { _, err := c.ListPools(ctx, api.Page{}); return err }},
		{"GetPool", func() error { _, err := c.GetPool(ctx, "batch"); return err }},
		{"ListNodes", func() error { _, err := c.ListNodes(ctx); return err }},
		{"GetLive", func() error { _, err := c.GetLive(ctx); return err }},
	} {
		if err := step.do(); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
	}
	n.Publish(&messages.Event{Tenant: "default", Type: "gateway.state", Subject: "gw-1", Data: &messages.Event_Gateway{Gateway: &messages.GatewayChanged{State: "ready"}}})
	for m, err := range c.StreamEvents(ctx, []string{"gateway.gw-1.*"}, 0) {
		if err == nil && m.Type == "position" && m.Seq != nil {
			continue // where it begins
		}
		if err != nil || m.Type != "gateway.state" {
			t.Errorf("%+v %v", m, err)
		}
		break
	}
	if _, err := api.NewClient("not a url", "", nil); err == nil {
		t.Error("any text is an address")
	}
	var refused *api.Error
	if _, err := c.GetPool(ctx, "none"); !errors.As(err, &refused) || refused.Error() == "" || refused.RequestId == "" {
		t.Errorf("%v", err)
	}
}
