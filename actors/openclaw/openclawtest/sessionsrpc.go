package openclawtest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// row is a session as sessions.list and sessions.describe show it. Only the
// list knows about runs.
type row struct {
	Key            string    `json:"key"`
	SessionID      string    `json:"sessionId"`
	Kind           string    `json:"kind"`
	AgentID        string    `json:"agentId"`
	Status         string    `json:"status,omitempty"`
	AbortedLastRun bool      `json:"abortedLastRun"`
	HasActiveRun   *bool     `json:"hasActiveRun,omitempty"`
	ActiveRunIDs   *[]string `json:"activeRunIds,omitempty"`
	UpdatedAt      int64     `json:"updatedAt"`
	LastActivityAt int64     `json:"lastActivityAt"`
	StartedAt      int64     `json:"startedAt,omitempty"`
	EndedAt        int64     `json:"endedAt,omitempty"`
	Model          string    `json:"model"`
	ModelProvider  string    `json:"modelProvider"`
	TotalTokens    int       `json:"totalTokens"`
	Archived       bool      `json:"archived"`
	Pinned         bool      `json:"pinned"`
}

func (s *session) row() row {
	status := s.Status
	if s.active != nil && s.active.state == stateLane && status != "running" {
		status = "queued"
	}
	return row{
		Key: s.Key, SessionID: s.ID, Kind: "direct", AgentID: "main", Status: status, AbortedLastRun: s.AbortedLastRun,
		UpdatedAt: s.Updated, LastActivityAt: s.Updated, StartedAt: s.Started, EndedAt: s.Ended,
		Model: cmp.Or(s.Model, "fake-1"), ModelProvider: "fake", TotalTokens: s.Tokens,
	}
}

// listRow says that a run is active, and of most runs which. Absent and empty
// differ: without a run the list of ids is there and empty.
func (g *Gateway) listRow(s *session) row {
	out := s.row()
	active, ids := s.active != nil, []string{}
	out.HasActiveRun = &active
	if active && g.hidesRun(s.active) {
		return out
	}
	if active {
		ids = append(ids, s.active.id)
	}
	out.ActiveRunIDs = &ids
	return out
}

// hidesRun reports whether list rows keep the id of an active run to
// themselves, as since 2026.9 for turns of agent once they have a slot and for
// the gateway's own re-runs. chat.history names those that run.
func (g *Gateway) hidesRun(r *run) bool {
	if g.is2026x8() {
		return false
	}
	return r.via == viaRecovery || (r.via == viaAgent || r.via == viaAnnounce) && r.running()
}

// is2026x8 reports whether the gateway plays a release of 2026.8.
func (g *Gateway) is2026x8() bool { return strings.HasPrefix(g.cfg.Version, "2026.8.") }

func (c *conn) sessionsList(_ string, p params) (any, *rpcError) {
	st := c.g.store
	var found []*session
	since := int64(0)
	if n := p.integer("activeMinutes", 0); n > 0 {
		since = nowMs() - int64(n)*time.Minute.Milliseconds()
	}
	search := strings.ToLower(p.str("search"))
	for _, s := range st.sessions {
		switch {
		case p.boolean("archived"), p.str("label") != "", // nobody archives or labels any
			s.Updated < since,
			p.boolean("activeOnly") && s.active == nil,
			search != "" && !strings.Contains(strings.ToLower(s.Key), search):
			continue
		}
		found = append(found, s)
	}
	slices.SortFunc(found, func(a, b *session) int {
		return cmp.Or(cmp.Compare(b.Updated, a.Updated), cmp.Compare(a.Key, b.Key))
	})
	total, offset, limit := len(found), p.integer("offset", 0), p.integer("limit", 100)
	from := min(offset, total)
	to := min(from+limit, total)
	rows := make([]row, 0, to-from)
	for _, s := range found[from:to] {
		rows = append(rows, c.g.listRow(s))
	}
	out := map[string]any{"ts": nowMs(), "path": c.g.cfg.StateDir, "count": len(rows), "totalCount": total, "hasMore": to < total,
		"nextOffset": nil, "defaults": map[string]any{"modelProvider": "fake", "model": "fake-1"}, "sessions": rows}
	if to < total {
		out["nextOffset"] = to
	}
	return out, nil
}

func (c *conn) sessionsDescribe(_ string, p params) (any, *rpcError) {
	s := c.g.store.sessions[expandKey(p.str("key"))]
	if s == nil {
		return map[string]any{"session": nil}, nil
	}
	return map[string]any{"session": s.row()}, nil
}

// expected finds the session of a change that may name the generation it means.
func (c *conn) expected(p params) (*session, *rpcError) {
	s := c.g.store.sessions[expandKey(p.str("key"))]
	if want := p.str("expectedSessionId"); want != "" && (s == nil || s.ID != want) {
		return nil, invalid("session changed: expectedSessionId does not match")
	}
	return s, nil
}

// stopSession ends what runs and waits in a session.
func (g *Gateway) stopSession(l *life, s *session) {
	g.clearQueued(l, s, nil)
	if s.active != nil {
		g.finish(l, s.active, aborted())
	}
}

func (c *conn) sessionsDelete(_ string, p params) (any, *rpcError) {
	key := expandKey(p.str("key"))
	if key == mainSession {
		return nil, invalid("Cannot delete the main session (agent:main:main).")
	}
	s, err := c.expected(p)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return map[string]any{"ok": true, "key": key, "deleted": false, "archived": []string{}}, nil
	}
	c.g.stopSession(c.l, s)
	c.g.stopSubAgents(c.l, key)
	c.g.store.remove(s)
	archive := fmt.Sprintf("%s/agents/main/sessions/%s.jsonl.deleted.%d.zst", c.g.cfg.StateDir, s.ID, nowMs())
	return map[string]any{"ok": true, "key": key, "deleted": true, "archived": []string{archive}}, nil
}
