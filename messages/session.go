package messages

import (
	"slices"
	"time"
)

// Session is an agent session: an ordered conversation that belongs to one
// pool and is bound to one gateway at a time.
type Session struct {
	Tenant string
	ID     string
	Pool   string
	// Gateway holds the session; empty before its first task.
	Gateway string
	// Generation is the last part of its key at the gateway. It grows after
	// every abort and on every move; the history is then replayed. The first one
	// is FirstGeneration.
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

// FirstGeneration is that of a session opened at this time. Its id may have been
// another session's that was removed, and a gateway may still know what was said
// under that one's keys: no key is used twice.
func FirstGeneration(at time.Time) int64 { return at.Unix() }

// OpenedBefore is when a session of this generation had been opened.
func OpenedBefore(generation int64) time.Time { return time.Unix(generation, 0).UTC() }

// idReuse is less than the time between a session's last turn and the removal
// that frees its id, and more than the clocks of two nodes may differ.
const idReuse = 30 * time.Second

// Turns are those of the given turns that are the session's own: an earlier one
// with its id, which was removed, may have left some.
func (s *Session) Turns(turns []Task) []Task {
	opened := s.CreatedAt.Add(-idReuse)
	return slices.DeleteFunc(turns, func(t Task) bool { return t.FinishedAt.Before(opened) })
}

// SessionArgument is a session as it is typed behind a command: a caller of all
// tenants has to name the tenant unless it is the default one.
func SessionArgument(tenant, id string) string {
	if tenant == DefaultTenant {
		return id
	}
	return id + " --tenant " + tenant
}

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
