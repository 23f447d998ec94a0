package messages

import (
	"slices"
	"testing"
)

// exits searches a table: from every state that is between two others one of
// rest must be reachable by events that come by themselves.
func exits[S interface {
	comparable
	String() string
}](t *testing.T, table []Transition[S], rest []S, alone ...string) {
	t.Helper()
	known := map[string]bool{}
	reach := map[S]bool{}
	for _, s := range rest {
		reach[s] = true
	}
	for grown := true; grown; {
		grown = false
		for _, tr := range table {
			known[tr.Event] = true
			if reach[tr.To] && !reach[tr.From] && slices.Contains(alone, tr.Event) {
				reach[tr.From], grown = true, true
			}
		}
	}
	var none S
	for _, tr := range table {
		if tr.From != none && !reach[tr.From] {
			t.Errorf("nothing leads out of %s without help from outside", tr.From)
			reach[tr.From] = true // once is enough
		}
	}
	for _, e := range alone {
		if !known[e] {
			t.Errorf("the table has no event %q", e)
		}
	}
}

// TestEveryStateHasAnExit: no state waits for somebody's next action. What is
// named beside each table are the events that an owner or a clock brings about
// when the gateway never answers again and no operator comes.
func TestEveryStateHasAnExit(t *testing.T) {
	t.Parallel()
	t.Run("task", func(t *testing.T) {
		t.Parallel()
		exits(t, TaskTransitions, []TaskState{Queued, Succeeded, DeadLetter, Cancelled, Expired},
			"due", "not_after", "away_requeue", "away_hold", "unconfirmed", "outcome_unknown")
	})
	t.Run("gateway that is wanted", func(t *testing.T) {
		t.Parallel()
		// Its tasks are not bound to it: the pool takes them back.
		exits(t, GatewayTransitions, []GatewayState{GatewayUnreachable, GatewayQuarantined, GatewayDrained, GatewayRemoved},
			"connect", "start", "start_failed", "lost", "give_up")
	})
	t.Run("gateway that is drained", func(t *testing.T) {
		t.Parallel()
		exits(t, GatewayTransitions, []GatewayState{GatewayDrained, GatewayRemoved}, "drain", "drained", "lost", "start_failed")
	})
	t.Run("gateway that is removed", func(t *testing.T) {
		t.Parallel()
		exits(t, GatewayTransitions, []GatewayState{GatewayRemoved}, "remove")
	})
	t.Run("session", func(t *testing.T) {
		t.Parallel()
		// A parked session is an operator's; a busy one's task ends as above.
		exits(t, SessionTransitions, []SessionState{SessionIdle, SessionParked, SessionClosed, SessionRemoved},
			"done", "give_up", "recovered", "away_over", "moved")
	})
}
