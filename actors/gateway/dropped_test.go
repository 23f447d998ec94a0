package gateway_test

import (
	"context"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
)

// oddLink lists more sessions than it was asked for.
type oddLink struct{ *link }

func (oddLink) Sessions(context.Context, openclaw.SessionQuery) (openclaw.SessionPage, error) {
	return openclaw.SessionPage{}, &openclaw.AnswerError{Method: "sessions.list", Problem: "more than 200 rows"}
}

// A gateway whose connection was ended by Dash says why.
func TestDroppedGatewaySaysWhy(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *gateway.Config) {
		c.Dial = func(context.Context, openclaw.Config, openclaw.Handler) (gateway.Link, error) {
			return oddLink{newLink("b1")}, nil
		}
	})
	if got := r.until(messages.GatewayUnreachable).Status.Reason; !strings.Contains(got, "more than 200 rows") {
		t.Errorf("the reason is %q", got)
	}
}
