package gateway_test

import (
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
)

// TestAPauseEndsWhenItsCauseIsMended, and not by time alone: the provider answers
// another run, an operator says so, or the gateway is another one.
func TestAPauseEndsWhenItsCauseIsMended(t *testing.T) {
	t.Parallel()
	for name, mend := range map[string]func(*rig, messages.Gateway){
		"an answer": func(r *rig, _ messages.Gateway) { r.claim("works", "") },
		"resume":    func(r *rig, _ messages.Gateway) { r.system.Root.Send(r.pid, gateway.Resume{}) },
		"another URL": func(r *rig, gw messages.Gateway) {
			gw.URL = "ws://127.0.0.1:2/"
			r.system.Root.Send(r.pid, gateway.Configure{Gateway: gw})
		},
		"another configuration": func(r *rig, gw messages.Gateway) {
			gw.Managed = &messages.Managed{Config: map[string]any{"models": map[string]any{}}}
			r.system.Root.Send(r.pid, gateway.Configure{Gateway: gw})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := newLink("b1"), newLink("b2")
			first.onAgent = func(q openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
				on(openclaw.AgentAnswer{Kind: openclaw.AnswerAccepted, RunID: q.RunID})
				if q.RunID == messages.RunID("works", 1) {
					on(openclaw.AgentAnswer{Kind: openclaw.AnswerFinal, RunID: q.RunID, Text: "x", Meta: openclaw.RunMeta{Provider: "p"}})
					return
				}
				on(openclaw.AgentAnswer{Kind: openclaw.AnswerFailed, RunID: q.RunID, Failure: &openclaw.Failure{
					Class: openclaw.ClassAuth, Provider: "p", Pause: 10 * time.Minute, NoCall: true, Final: true, Message: "off"}})
			}
			var gw messages.Gateway
			r := newRig(t, func(c *gateway.Config) { c.Dial, gw = dialer(first, second), c.Gateway })
			await(r, "a window", open)
			r.claim("fails", "")
			await(r, "a pause", func(d messages.Demand) bool { return len(d.Paused) > 0 })
			r.until(messages.GatewayDegraded)
			mend(r, gw)
			await(r, "the end of the pause", func(d messages.Demand) bool { return len(d.Paused) == 0 && d.Window > 0 })
			r.until(messages.GatewayReady)
		})
	}
}
