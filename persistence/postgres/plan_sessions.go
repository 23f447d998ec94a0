package postgres

import "github.com/dash-fleet/dash/persistence"

// session is the node of a session that op i touches, task and key likewise.
func (p *plan) session(i int, key sessionKey) *sessionNode {
	if p.sessions == nil {
		p.sessions = map[sessionKey]*sessionNode{}
	}
	if s := p.sessions[key]; s != nil {
		p.join(s.op, i)
		return s
	}
	s := &sessionNode{node: node{i}, key: key}
	if p.knows(i) {
		s.loaded, s.known, s.expected, s.gen0 = true, true, true, -1
		if gen, ok := p.known.sessions[key]; ok {
			s.exists, s.generation, s.gen0 = true, gen, gen
		}
	}
	p.sessions[key] = s
	return s
}

func (p *plan) fitSession(s *sessionNode, w *persistence.SessionWrite) bool {
	switch {
	case w.AnyGeneration:
		return true
	case w.FromGeneration < -1:
		return false
	case !s.known:
		s.known, s.expected, s.gen0 = true, true, w.FromGeneration
		s.exists, s.generation = w.FromGeneration >= 0, w.FromGeneration
		return true
	case s.exists:
		return s.generation == w.FromGeneration
	}
	return w.FromGeneration == -1
}

func (p *plan) status(i int, id string) {
	if p.statuses == nil {
		p.statuses = map[string]*statusNode{}
	}
	if s := p.statuses[id]; s != nil {
		p.join(s.op, i)
		return
	}
	p.statuses[id] = &statusNode{node: node{i}}
}
