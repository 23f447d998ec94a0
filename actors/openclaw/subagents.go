package openclaw

import (
	"context"
	"strings"
)

// announceRuns is how the ids of the runs begin in which a gateway brings what a
// sub-agent has found to the session that asked for it.
const announceRuns = "announce:"

// Announces reports whether a run is the gateway's own, for a sub-agent's result.
func Announces(runID string) bool { return strings.HasPrefix(runID, announceRuns) }

// Silent reports whether a reply is the word by which a model says that there is
// nothing to say; gateways ask for it when a result comes after the answer.
func Silent(text string) bool { return strings.TrimSpace(text) == "NO_REPLY" }

// SubAgents are those of one session.
type SubAgents struct {
	// Working: they run or are about to, or what they have found is on its way.
	Working int
	// Failed: the session was not told yet that they have failed. After a restart
	// of the gateway it may never be.
	Failed int
}

// SubAgents asks for the sub-agents that a session waits for. The gateway keeps
// the list over its restarts.
func (c *Conn) SubAgents(ctx context.Context, sessionKey string) (SubAgents, error) {
	return ask(ctx, c, "tasks.list", map[string]any{"sessionKey": sessionKey, "limit": maxSubAgents}, int(c.cfg.MaxFrame),
		func(b []byte) (SubAgents, error) { return decodeSubAgents(b, c.cfg.MaxDepth, sessionKey) })
}

// maxSubAgents is how many rows are looked at, the last active first.
const maxSubAgents = 200

// subAgentWire is a row of the gateway's ledger.
type subAgentWire struct{ Runtime, Owner, Child, Status, Delivery string }

// onItsWay: its end was not yet brought to the session.
func (t subAgentWire) onItsWay() bool {
	return t.Delivery == "pending" || t.Delivery == "session_queued"
}
