package openclaw

import (
	"errors"
	"fmt"
)

// maxRow bounds one row of a list, in bytes. A healthy gateway's has about 2 kB.
const maxRow = 256 << 10

// decodeSessions reads a page of at most limit rows and keeps those that are
// wanted by their key, as it is in the frame.
func decodeSessions(b []byte, depth, limit, offset int, wanted func(key []byte) bool) (SessionPage, error) {
	var p SessionPage
	if !isObject(b) {
		return p, errNoObject
	}
	there, next := false, int64(0)
	it := object(b, depth)
	for it.next() {
		switch string(it.key) {
		case "sessions":
			if missing(it.val) {
				continue
			}
			there = true
			err := each(it.val, depth-1, limit, "rows", func(row []byte) error {
				s, keep, err := decodeSession(row, depth-2, wanted)
				if err == nil && keep {
					p.Sessions = append(p.Sessions, s)
				}
				return err
			})
			if err != nil {
				return p, err
			}
		case "hasMore":
			p.HasMore, _ = boolean(it.val)
		case "nextOffset":
			next, _ = integer(it.val)
		}
	}
	switch {
	case it.err != nil:
		return p, it.err
	case !there:
		return p, errors.New("no sessions member")
	}
	if next > int64(offset) {
		p.Next = int(next)
	} else {
		p.HasMore = false
	}
	return p, nil
}

// decodeDescription reads the answer of sessions.describe; nil: no such session.
func decodeDescription(b []byte, depth int) (*Session, error) {
	var row []byte
	it := object(b, depth)
	for it.next() {
		if string(it.key) == "session" {
			row = it.val
		}
	}
	switch {
	case it.err != nil:
		return nil, it.err
	case row == nil:
		return nil, errors.New("no session member")
	case missing(row):
		return nil, nil
	}
	s, _, err := decodeSession(row, depth-1, func([]byte) bool { return true })
	return &s, err
}

// decodeSession reads one row. A member of another type than it should have
// fails it.
func decodeSession(b []byte, depth int, wanted func(key []byte) bool) (s Session, keep bool, err error) {
	if !isObject(b) {
		return s, false, errors.New("a row is no object")
	}
	if len(b) > maxRow {
		return s, false, fmt.Errorf("a row of %d bytes; at most %d are taken", len(b), maxRow)
	}
	word := func(v []byte, limit int) string {
		w, ok := text(v)
		if !ok && !missing(v) {
			err = errNotText
		}
		return clean(w, limit)
	}
	flag := func(v []byte) bool {
		f, ok := boolean(v)
		if !ok && !missing(v) {
			err = errors.New("a flag is none")
		}
		return f
	}
	var key []byte
	it := object(b, depth)
	for it.next() {
		switch string(it.key) {
		case "key":
			key = it.val
		case "sessionId":
			s.SessionID = word(it.val, maxShortText)
		case "status":
			s.Status = word(it.val, 32)
		case "hasActiveRun":
			s.HasActiveRun = flag(it.val)
		case "activeRunIds":
			s.ActiveRunIDs, err = activeRuns(it.val, depth-1, err)
		case "abortedLastRun":
			s.AbortedLastRun = flag(it.val)
		case "lastRunId":
			s.LastRunID = word(it.val, maxRunID)
		case "updatedAt":
			s.UpdatedAt = unixMillis(it.val)
		}
	}
	if it.err != nil {
		err = it.err
	}
	if err != nil || !wanted(key) {
		return Session{}, false, err
	}
	if !missing(key) {
		k, ok := text(key)
		if !ok {
			return s, false, errNotText
		}
		s.Key = k[:min(len(k), 2*maxSessionKey)] // longer ones are nobody's here
	}
	return s, true, nil
}

// activeRuns keeps the first maxActiveRuns ids that could be one; before is an
// earlier error of the row.
func activeRuns(b []byte, depth int, before error) ([]string, error) {
	if missing(b) {
		return nil, before
	}
	ids := []string{}
	it := list(b, depth)
	for it.next() {
		id, ok := text(it.val)
		if !ok {
			return ids, errNotText
		}
		if len(ids) < maxActiveRuns && id != "" && len(id) <= maxRunID {
			ids = append(ids, id)
		}
	}
	if it.err != nil {
		return ids, it.err
	}
	return ids, before
}

// decodeSubAgents counts the sub-agents of one session.
func decodeSubAgents(b []byte, depth int, sessionKey string) (SubAgents, error) {
	var out SubAgents
	err := members(b, depth, "tasks", maxSubAgents, "rows", func(row []byte) error {
		if !isObject(row) {
			return errors.New("a row is no object")
		}
		t := decodeSubAgent(row, depth-2)
		switch {
		case t.Runtime != "subagent" || t.Owner != sessionKey:
		case t.Status == "running" || t.Status == "queued" || t.Status == "completed" && t.onItsWay():
			out.Working++
		case t.onItsWay():
			out.Failed++
		}
		return nil
	})
	return out, err
}
