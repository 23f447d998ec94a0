package openclaw

import (
	"context"
	"time"
)

// History is the tail of a session's transcript.
type History struct {
	SessionID string
	Items     []HistoryItem // oldest first
	// HasMore is true when older items were left out.
	HasMore bool
	// Pending are the run ids of inputs that were accepted but are not in the
	// transcript; after a crash the gateway does not run them by itself.
	Pending []PendingInput
	// InFlight is the run that is being carried out, if the gateway names it.
	// Its text so far is not in Items.
	InFlight *InFlight
	// Active tells whether the session has an active run; false also if the
	// gateway did not say.
	Active bool
}

// InFlight is a run in progress.
type InFlight struct {
	RunID string
	Text  string // so far
}

// HistoryItem is one message of the transcript.
type HistoryItem struct {
	Role string // user, assistant, custom, tool, …
	By   string // run that wrote an assistant's text, empty if it is not told
	// RunID is the run that took this user text in, from its durable
	// "<runId>:user" mark; empty for others.
	RunID      string
	Text       string
	CutFrom    int
	StopReason string
	CustomType string
	At         time.Time

	failed bool // the gateway's own text for a failed run
}

// PendingInput is an input outside of the transcript.
type PendingInput struct {
	RunID string
	State string // such as interrupted
}

// RunTrace is what a transcript proves about one run.
type RunTrace struct {
	// Taken: the run's user text is in the transcript.
	Taken bool
	// LastTurn: no user text of another run follows it.
	LastTurn bool
	// LastItem: nothing at all follows it.
	LastItem bool
	// Pending: the input was accepted and is not in the transcript.
	Pending bool
	// Answered: an assistant text follows before the next user text. Text is
	// the last such text.
	Answered bool
	Text     string
	CutFrom  int
}

const maxHistory = 1000

// History reads the last limit items (at most 1000) of a session. A session
// that does not exist has an empty one.
func (c *Conn) History(ctx context.Context, sessionKey string, limit int) (History, error) {
	limit = max(1, min(limit, maxHistory))
	return ask(ctx, c, "chat.history", map[string]any{"sessionKey": sessionKey, "limit": limit}, int(c.cfg.MaxFrame), func(b []byte) (History, error) {
		return decodeHistory(b, c.cfg.MaxDepth, limit, c.cfg.MaxText)
	})
}

// Trace looks for a run. A run that is not found may still be in the older
// part if HasMore is set.
func (h History) Trace(runID string) RunTrace {
	var t RunTrace
	for _, p := range h.Pending {
		t.Pending = t.Pending || p.RunID == runID
	}
	for i, item := range h.Items {
		switch {
		case item.Role == "user" && item.RunID == runID && runID != "":
			t = RunTrace{Taken: true, LastTurn: true, LastItem: i == len(h.Items)-1, Pending: t.Pending}
		case t.Taken && item.Role == "user":
			t.LastTurn = false
		case t.LastTurn && item.IsReply() && !Announces(item.By):
			t.Answered, t.Text, t.CutFrom = true, item.Text, item.CutFrom
		}
	}
	return t
}

// IsReply tells an assistant's reply from the traces of a failed or aborted
// attempt and from what was said between tool calls. An unknown stop reason is
// no reply: rather look again than record half an answer.
func (i HistoryItem) IsReply() bool {
	if i.Role != "assistant" {
		return false
	}
	switch i.StopReason {
	case "", "stop", "length", "end_turn", "stop_sequence":
		return (i.Text != "" || i.CutFrom > 0) && !i.failed
	}
	return false
}
