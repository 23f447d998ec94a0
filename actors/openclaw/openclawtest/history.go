package openclawtest

import "fmt"

type historyItem struct {
	Role           string         `json:"role"`
	Content        any            `json:"content"`
	Timestamp      int64          `json:"timestamp"`
	IdempotencyKey string         `json:"idempotencyKey,omitempty"`
	CustomType     string         `json:"customType,omitempty"`
	Provider       string         `json:"provider,omitempty"`
	Model          string         `json:"model,omitempty"`
	Usage          map[string]int `json:"usage,omitempty"`
	StopReason     string         `json:"stopReason,omitempty"`
	OpenClaw       map[string]any `json:"__openclaw"`
}

// history renders entries. With merges a text that the gateway's own re-run
// took into its prompt is no item any more, and neither is its key.
func (s *session) history(entries []entry, merges bool) []historyItem {
	items := make([]historyItem, 0, len(entries))
	for i, e := range entries {
		if e.Hide {
			continue
		}
		if merges && taken(entries, i) {
			continue
		}
		item := historyItem{Role: e.Role, Content: e.Text, Timestamp: e.Time, IdempotencyKey: e.Key,
			OpenClaw: map[string]any{"id": fmt.Sprintf("%08x", uint32(hash64(s.ID))+uint32(e.Seq)), "seq": e.Seq}}
		if e.By != "" {
			item.OpenClaw["runId"] = e.By
		}
		switch e.Role {
		case "assistant":
			item.Content = []textPart{{"text", e.Text}}
			item.Provider, item.Model, item.StopReason = "fake", "fake-1", e.Stop
			item.Usage = map[string]int{"input": e.In, "output": e.Out, "totalTokens": e.In + e.Out}
		case "custom":
			item.CustomType = "run-failed-before-reply"
		}
		items = append(items, item)
	}
	return items
}

// taken reports whether the user text at i is followed by that of a re-run.
// 2026.8 merges the two, so that no user texts follow each other.
func taken(entries []entry, i int) bool {
	return i+1 < len(entries) && entries[i].Role == "user" && entries[i+1].Role == "user" && entries[i+1].Text == systemRerun
}

// historyBytes bounds the text of one chat.history answer.
const historyBytes = 6 << 20

// historyFrom is the first of the newest entries that fit, at least one.
func historyFrom(entries []entry, limit int) int {
	from, size := len(entries), 0
	for from > 0 && len(entries)-from < limit {
		if size += len(entries[from-1].Text); size > historyBytes && from < len(entries) {
			break
		}
		from--
	}
	return from
}

// chatHistory gives the newest messages, oldest first, and the inputs that were
// accepted and have not reached the transcript.
func (c *conn) chatHistory(_ string, p params) (any, *rpcError) {
	key, err := checkedKey("chat.history", p.str("sessionKey"))
	if err != nil {
		return nil, err
	}
	limit := p.integer("limit", 200)
	if limit > 1000 {
		return nil, invalid("invalid chat.history params: at /limit: must be <= 1000")
	}
	if c.g.faults.BrokenHistory {
		return map[string]any{"sessionKey": key}, nil
	}
	s := c.g.store.sessions[key]
	if s == nil {
		return map[string]any{"sessionKey": key, "messages": []any{}, "pendingInputs": map[string]any{"items": []any{}, "total": 0}, "hasMore": false, "totalMessages": 0}, nil
	}
	to := max(0, len(s.entries)-p.integer("offset", 0))
	from := historyFrom(s.entries[:to], limit)
	pending := []any{}
	for _, in := range s.Pending {
		state := "pending"
		if in.Interrupted {
			state = "interrupted"
		}
		pending = append(pending, map[string]any{"id": deriveID("pending:" + in.RunID), "acceptedAt": in.AcceptedAt, "state": state, "runId": in.RunID,
			"message": map[string]any{"role": "user", "content": in.Message, "timestamp": in.AcceptedAt, "idempotencyKey": in.RunID + ":user"}})
	}
	out := map[string]any{
		"sessionKey": key, "sessionId": s.ID, "messages": s.history(s.entries[from:to], c.g.is2026x8()),
		"pendingInputs": map[string]any{"items": pending, "total": len(pending)},
		"deltaCursor":   fmt.Sprintf("%s:%d", s.ID, s.Seq), "hasMore": from > 0, "totalMessages": len(s.entries), "sessionInfo": s.row(),
	}
	if !c.g.is2026x8() {
		info, active := s.row(), s.active != nil
		info.HasActiveRun = &active
		out["sessionInfo"] = info
		if r := s.active; active && r.running() {
			out["inFlightRun"] = map[string]any{"runId": r.id, "text": r.shownText(), "startedAt": r.started}
		}
	}
	return out, nil
}
