package openclawtest

import (
	"cmp"
	"encoding/json"
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
	Label          string    `json:"label,omitempty"`
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
		Key: s.Key, SessionID: s.ID, Kind: "direct", AgentID: "main", Label: s.Label, Status: status, AbortedLastRun: s.AbortedLastRun,
		UpdatedAt: s.Updated, LastActivityAt: s.Updated, StartedAt: s.Started, EndedAt: s.Ended,
		Model: cmp.Or(s.Model, "fake-1"), ModelProvider: "fake", TotalTokens: s.Tokens, Archived: s.Archived, Pinned: s.Pinned,
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
	search, label := strings.ToLower(p.str("search")), p.str("label")
	for _, s := range st.sessions {
		switch {
		case p.has("archived") && s.Archived != p.boolean("archived"), !p.has("archived") && s.Archived,
			label != "" && s.Label != label, s.Updated < since,
			p.boolean("activeOnly") && s.active == nil,
			search != "" && !strings.Contains(strings.ToLower(s.Key+" "+s.Label), search):
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

func (c *conn) sessionsResolve(_ string, p params) (any, *rpcError) {
	for _, s := range c.g.store.sessions {
		if p.has("key") && s.Key == expandKey(p.str("key")) || p.has("sessionId") && s.ID == p.str("sessionId") || p.has("label") && s.Label == p.str("label") {
			return map[string]any{"ok": true, "key": s.Key, "agentId": "main"}, nil
		}
	}
	if p.boolean("allowMissing") {
		return map[string]any{"ok": false}, nil
	}
	return nil, invalid("No session found: " + cmp.Or(p.str("key"), p.str("sessionId"), p.str("label")))
}

func (c *conn) sessionsCreate(_ string, p params) (any, *rpcError) {
	g := c.g
	key := "agent:main:dashboard:" + deriveID(fmt.Sprint(c.id, nowMs(), g.rng.Uint64()))
	if p.has("key") {
		var err *rpcError
		if key, err = checkedKey("sessions.create", p.str("key")); err != nil {
			return nil, err
		}
	}
	s := g.store.session(key)
	s.Label, s.Model = cmp.Or(p.str("label"), s.Label), cmp.Or(p.str("model"), s.Model)
	g.store.saveMeta(s)
	started := false
	if message := p.str("message"); message != "" {
		id := cmp.Or(p.str("idempotencyKey"), deriveID(fmt.Sprint("create", c.id, g.rng.Uint64())))
		if g.life.runs[id] == nil {
			r := g.accept(c.l, submission{id: id, key: key, message: message, via: viaChat, conn: c})
			g.place(c.l, r)
			started = true
		}
	}
	return map[string]any{"ok": true, "key": s.Key, "sessionId": s.ID, "entry": s.row(), "runStarted": started,
		"resolved": map[string]string{"modelProvider": "fake", "model": cmp.Or(s.Model, "fake-1")}}, nil
}

// expected finds the session of a change that may name the generation it means.
func (c *conn) expected(p params) (*session, *rpcError) {
	s := c.g.store.sessions[expandKey(p.str("key"))]
	if want := p.str("expectedSessionId"); want != "" && (s == nil || s.ID != want) {
		return nil, invalid("session changed: expectedSessionId does not match")
	}
	return s, nil
}

func (c *conn) sessionsPatch(_ string, p params) (any, *rpcError) {
	if !c.scopes.allows(scopeAdmin) && (p.has("permissionMode") || p.has("archived")) {
		return nil, &rpcError{Code: "FORBIDDEN", Message: "missing scope: " + scopeAdmin,
			Details: map[string]any{"code": "MISSING_SCOPE", "missingScope": scopeAdmin, "requiredScopes": []string{scopeAdmin}}}
	}
	s, err := c.expected(p)
	if err != nil {
		return nil, err
	}
	if s == nil {
		s = c.g.store.session(expandKey(p.str("key")))
	}
	for name, field := range map[string]*string{"label": &s.Label, "model": &s.Model} {
		if p.has(name) {
			*field = p.str(name)
		}
	}
	for name, field := range map[string]*bool{"archived": &s.Archived, "pinned": &s.Pinned} {
		if p.has(name) {
			*field = p.boolean(name)
		}
	}
	s.Updated = nowMs()
	c.g.store.saveMeta(s)
	return map[string]any{"ok": true, "key": s.Key, "entry": s.row()}, nil
}

// stopSession ends what runs and waits in a session.
func (g *Gateway) stopSession(l *life, s *session) {
	g.clearQueued(l, s, nil)
	if s.active != nil {
		g.finish(l, s.active, aborted())
	}
}

func (c *conn) sessionsReset(_ string, p params) (any, *rpcError) {
	s, err := c.expected(p)
	if err != nil {
		return nil, err
	}
	if s == nil {
		s = c.g.store.session(expandKey(p.str("key")))
	}
	c.g.stopSession(c.l, s)
	c.g.store.reset(s)
	return map[string]any{"ok": true, "key": s.Key, "entry": s.row()}, nil
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

func (c *conn) sessionsGet(_ string, p params) (any, *rpcError) {
	s := c.g.store.sessions[expandKey(p.str("key"))]
	if s == nil || s.active != nil && s.active.running() {
		return map[string]any{"messages": []any{}}, nil // empty while a turn runs
	}
	return map[string]any{"messages": s.history(s.entries, c.g.is2026x8())}, nil
}

func (c *conn) sessionsPreview(_ string, p params) (any, *rpcError) {
	var keys []string
	if json.Unmarshal(p["keys"], &keys) != nil || len(keys) > 100 {
		return nil, invalid("invalid sessions.preview params: at /keys: must be array of at most 100 strings")
	}
	limit, chars := p.integer("limit", 12), p.integer("maxChars", 240)
	previews := []any{}
	for _, key := range keys {
		s := c.g.store.sessions[expandKey(key)]
		if s == nil {
			previews = append(previews, map[string]any{"key": key, "status": "missing", "items": []any{}})
			continue
		}
		items := []any{}
		for _, e := range s.entries[max(0, len(s.entries)-limit):] {
			if e.Role != "custom" {
				items = append(items, map[string]string{"role": e.Role, "text": headOf(e.Text, chars)})
			}
		}
		status := "ok"
		if len(items) == 0 {
			status = "empty"
		}
		previews = append(previews, map[string]any{"key": key, "status": status, "items": items})
	}
	return map[string]any{"ts": nowMs(), "previews": previews}, nil
}

func headOf(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
