package messages

import "time"

// Session is an agent session: an ordered conversation that belongs to one
// pool and is bound to one gateway at a time.
type Session struct {
	Tenant string
	ID     string
	Pool   string
	// Gateway holds the session; empty before its first task.
	Gateway string
	// Generation is the last part of its key at the gateway. It grows after
	// every abort and on every move; the history is then replayed.
	Generation int64
	// Replay says that the present generation starts with the session's history.
	Replay    bool
	State     SessionState
	Reason    string
	NextStep  string
	Restarts  int
	Labels    map[string]string
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Key is the session's key at its gateway.
func (s *Session) Key() string { return SessionKey(s.Tenant, s.ID, s.Generation) }

// Event returns the log entry that tells of the session's present state.
func (s *Session) Event(from SessionState, at time.Time) *Event {
	c := &SessionChanged{
		Pool: s.Pool, State: s.State.String(), Gateway: s.Gateway, Generation: s.Generation,
		Reason: s.Reason, NextStep: s.NextStep, Restarts: int32(s.Restarts),
	}
	if from != 0 {
		c.From = from.String()
	}
	return &Event{TimeMicros: at.UnixMicro(), Tenant: s.Tenant, Type: "session.state", Subject: s.ID, Data: &Event_Session{Session: c}}
}
