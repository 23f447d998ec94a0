package gateway

import (
	"slices"
	"testing"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
)

// TestWhatKeepsARunHasItsCode: a provider that fails is something else than
// sub-agents that are at work, for clients that act on it.
func TestWhatKeepsARunHasItsCode(t *testing.T) {
	t.Parallel()
	var got []messages.WaitingCode
	r := newRoutes(nil, func(_ string, _ int64, code messages.WaitingCode, _ string) { got = append(got, code) }, NewMetrics(nil).cutTexts)
	ref := messages.ClaimRef{Task: "t", Claim: 1}
	r.add("t.1", route{ref: ref, own: true})
	r.worry(openclaw.RunPhase{RunID: "t.1", Phase: "finishing", Error: "x", Details: openclaw.ErrorDetails{HTTPStatus: 500}})
	r.wait(session.Attends{Ref: ref, SubAgents: 2})
	if want := []messages.WaitingCode{messages.WaitsProvider, messages.WaitsSubAgents}; !slices.Equal(got, want) {
		t.Errorf("codes %v, want %v", got, want)
	}
}
