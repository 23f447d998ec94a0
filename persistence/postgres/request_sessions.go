package postgres

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/dash-fleet/dash/messages"
)

func (r *request) addSessions(p *plan) error {
	nodes := make([]*sessionNode, 0, len(p.sessions))
	for _, s := range p.sessions {
		if s.write != nil || (s.expected && !s.loaded) || p.size[p.group(s.op)] > 1 {
			nodes = append(nodes, s)
		}
	}
	slices.SortFunc(nodes, func(a, b *sessionNode) int {
		if c := strings.Compare(a.key.id, b.key.id); c != 0 {
			return c
		}
		return strings.Compare(a.key.tenant, b.key.tenant)
	})
	a := &r.sessions
	for _, s := range nodes {
		a.row(8)
		a.i4(p.group(s.op))
		a.bool(s.write != nil)
		a.text(s.key.id)
		a.text(s.key.tenant)
		if s.expected && (s.write != nil || !s.loaded) {
			r.check = true
			a.i8(s.gen0)
		} else {
			a.null(oidInt8)
		}
		if s.write == nil {
			a.null(oidText)
			a.null(oidInt8)
			a.null(oidBytea)
			a.end()
			continue
		}
		data, err := sessionData(s.write)
		if err != nil {
			return err
		}
		a.text(s.write.Pool)
		a.i8(s.write.Generation)
		a.bytes(data)
		a.end()
	}
	return nil
}

// sessionData is what is stored of a session. Of one that is removed that is
// nothing, and a trigger takes the row away.
func sessionData(s *messages.Session) ([]byte, error) {
	if s.State == messages.SessionRemoved {
		return []byte{}, nil
	}
	data, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode session: %w", err)
	}
	return data, nil
}

func (r *request) addStatuses(p *plan) error {
	nodes := make([]*statusNode, 0, len(p.statuses))
	for _, s := range p.statuses {
		if s.write != nil {
			nodes = append(nodes, s)
		}
	}
	slices.SortFunc(nodes, func(a, b *statusNode) int { return strings.Compare(a.write.ID, b.write.ID) })
	a := &r.statuses
	for _, s := range nodes {
		data, err := json.Marshal(s.write)
		if err != nil {
			return fmt.Errorf("encode gateway status: %w", err)
		}
		a.row(4)
		a.i4(p.group(s.op))
		a.text(s.write.ID)
		a.text(s.write.Tenant)
		a.bytes(data)
		a.end()
	}
	return nil
}
