package openclawtest

import "slices"

// sessionsAbort aborts by session or run id. clearQueued also drops what waits
// behind it and the inputs a crash interrupted. A run id nobody knows leaves no
// trace: a later send of that id runs.
func (c *conn) sessionsAbort(_ string, p params) (any, *rpcError) {
	g, l := c.g, c.l
	if !p.has("key") && !p.has("runId") {
		return nil, invalid("invalid sessions.abort params: key or runId is required")
	}
	key, err := checkedKey("sessions.abort", p.str("key"))
	if err != nil {
		return nil, err
	}
	var target *run
	s := g.store.sessions[key]
	if runID := p.str("runId"); runID != "" {
		if r := l.runs[runID]; r != nil && r.state != stateDone && (!p.has("key") || r.key == key) {
			target = r
			if !p.has("key") {
				s = r.sess
			}
		}
	} else if s != nil {
		target = s.active
	}
	if s != nil && p.boolean("clearQueued") {
		g.clearQueued(l, s, target)
	}
	children := !p.has("runId") && g.stopSubAgents(l, key)
	if target == nil {
		status := "no-active-run"
		if children {
			status = "aborted"
		}
		return map[string]any{"ok": true, "abortedRunId": nil, "status": status}, nil
	}
	g.finish(l, target, aborted())
	return map[string]any{"ok": true, "abortedRunId": target.id, "status": "aborted"}, nil
}

func (g *Gateway) clearQueued(l *life, s *session, keep *run) {
	for _, r := range slices.Clone(s.queue) {
		if r != keep {
			g.finish(l, r, aborted())
		}
	}
	for _, in := range slices.Clone(s.Pending) {
		if in.Interrupted {
			g.store.dropPending(s, in.RunID)
		}
	}
}
