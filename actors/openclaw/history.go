package openclaw

import (
	"context"
	"encoding/json"
	"strings"
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
	const method = "chat.history"
	limit = max(1, min(limit, maxHistory))
	var raw json.RawMessage
	if err := c.Call(ctx, method, map[string]any{"sessionKey": sessionKey, "limit": limit}, &raw); err != nil {
		return History{}, err
	}
	h, problem := decodeHistory(raw, c.cfg.MaxText)
	if problem != "" {
		return History{}, &AnswerError{Method: method, Problem: c.clean.text(problem)}
	}
	return h, nil
}

type historyWire struct {
	SessionID string           `json:"sessionId"`
	Messages  *[]messageWire   `json:"messages"`
	HasMore   bool             `json:"hasMore"`
	Pending   *pendingListWire `json:"pendingInputs"`
	InFlight  *struct {
		RunID string `json:"runId"`
		Text  string `json:"text"`
	} `json:"inFlightRun"`
	Info *struct {
		HasActiveRun bool `json:"hasActiveRun"`
	} `json:"sessionInfo"`
}

type messageWire struct {
	Role           string          `json:"role"`
	Content        json.RawMessage `json:"content"`
	IdempotencyKey string          `json:"idempotencyKey"`
	StopReason     string          `json:"stopReason"`
	CustomType     string          `json:"customType"`
	Timestamp      json.RawMessage `json:"timestamp"`
	OpenClaw       json.RawMessage `json:"__openclaw"`
}

type pendingListWire struct {
	Items []struct {
		RunID string `json:"runId"`
		State string `json:"state"`
	} `json:"items"`
}

// Marks behind the run id in a message's idempotency key.
const (
	userMark   = ":user"
	failedMark = ":terminal-error"
)

// decodeHistory fails rather than leave an item out: an answer that is
// overlooked would be run again.
func decodeHistory(b []byte, maxText int) (History, string) {
	var w historyWire
	if err := json.Unmarshal(b, &w); err != nil {
		return History{}, err.Error()
	}
	if w.Messages == nil {
		return History{}, "no messages member"
	}
	h := History{SessionID: clean(w.SessionID, maxShortText), HasMore: w.HasMore, Items: make([]HistoryItem, 0, len(*w.Messages))}
	for _, m := range *w.Messages {
		item := HistoryItem{Role: clean(m.Role, 32), StopReason: clean(m.StopReason, 32), CustomType: clean(m.CustomType, 64),
			At: unixMillis(m.Timestamp)}
		if m.Role == "user" {
			item.RunID = strings.TrimSuffix(m.IdempotencyKey, userMark)
			if item.RunID == m.IdempotencyKey {
				item.RunID = "" // no mark
			}
		}
		if m.Role == "assistant" {
			item.By = writerOf(m.OpenClaw)
		}
		item.failed = strings.HasSuffix(m.IdempotencyKey, failedMark)
		s, _ := contentText(m.Content)
		item.Text, item.CutFrom = content(s, maxText)
		h.Items = append(h.Items, item)
	}
	if w.Pending != nil {
		for _, p := range w.Pending.Items {
			h.Pending = append(h.Pending, PendingInput{RunID: p.RunID, State: clean(p.State, 32)})
		}
	}
	if f := w.InFlight; f != nil && f.RunID != "" && len(f.RunID) <= maxRunID {
		s, _ := content(f.Text, maxText)
		h.InFlight = &InFlight{RunID: f.RunID, Text: s}
	}
	h.Active = w.Info != nil && w.Info.HasActiveRun || h.InFlight != nil
	return h, ""
}

// writerOf is the run that an item names as its own, in the gateway's own part.
func writerOf(b []byte) string {
	var w struct {
		RunID string `json:"runId"`
	}
	if json.Unmarshal(b, &w) != nil || len(w.RunID) > maxRunID {
		return ""
	}
	return w.RunID
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
		return i.Text != "" && !i.failed
	}
	return false
}

// messageText joins the text parts of a transcript message.
func messageText(b []byte, depth int) (string, bool) {
	if !isObject(b) {
		return "", false
	}
	it := object(b, depth)
	for it.next() {
		if string(it.key) == "content" {
			return contentText(it.val)
		}
	}
	return "", false
}

// contentText reads a message's content: a string, or parts of which those
// with text count.
func contentText(b []byte) (string, bool) {
	if s, ok := text(b); ok {
		return s, true
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if json.Unmarshal(b, &parts) != nil {
		return "", false
	}
	var s strings.Builder
	for _, p := range parts {
		s.WriteString(p.Text)
	}
	return s.String(), true
}
