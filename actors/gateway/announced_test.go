package gateway_test

import (
	"testing"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
)

// TestOnlyAnAnnouncedEndIsPlanned: a restart that somebody else wanted is no death
// of the tasks, if the gateway said so; a cut line says nothing.
func TestOnlyAnAnnouncedEndIsPlanned(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end           error
		deaths, stops int
	}{
		"event and close code": {&openclaw.ClosedError{Code: openclaw.CloseRestart, Shutdown: &openclaw.Shutdown{Reason: "gateway restarting", Restarting: true}}, 0, 1},
		"event, then cut":      {&openclaw.ClosedError{Code: openclaw.CloseAbnormal, Shutdown: &openclaw.Shutdown{Reason: "gateway stopping"}}, 0, 1},
		"close code":           {&openclaw.ClosedError{Code: openclaw.CloseRestart, Reason: "service restart"}, 0, 1},
		"another close code":   {&openclaw.ClosedError{Code: openclaw.ClosePolicy, Reason: "service restart"}, 1, 0},
		"cut":                  {nil, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := newLink("b1"), newLink("b2")
			first.end = c.end
			first.onAgent = func(q openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
				on(openclaw.AgentAnswer{Kind: openclaw.AnswerAccepted, RunID: q.RunID})
			}
			second.history = interrupted
			r := newRig(t, func(c *gateway.Config) { c.Dial = dialer(first, second) })
			await(r, "a window", open)
			r.claim("t1", "")
			r.allIn([]string{"t1"}, messages.Running)
			first.Close()
			told := await(r, "what the claim went through", func(d messages.Demand) bool { return len(d.Trials) > 0 })
			row, err := r.store.Task(t.Context(), "default", "t1")
			if err != nil || row.State != messages.Recovering || len(row.Trials.GetDeaths()) != c.deaths || int(row.Trials.GetStops()) != c.stops {
				t.Errorf("%s, %v, %v, want %d deaths and %d stops", row.State, row.Trials, err, c.deaths, c.stops)
			}
			if got := told.Trials[messages.ClaimRef{Task: "t1", Claim: 1}]; got.Ends() != 1 {
				t.Errorf("the pool's owner is told %v", got)
			}
		})
	}
}
