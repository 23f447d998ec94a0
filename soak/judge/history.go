package judge

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw/openclawtest"
	"github.com/dash-fleet/dash/http/api"
)

// KeyLabel is the task label that repeats the idempotency key of its submit,
// because a task does not tell its key. Clients must set it.
const KeyLabel = "soak-key"

// History is everything that is known about one run of the system.
type History struct {
	Submits []Submit
	// Events is Dash's log from its first entry on, in the order of Seq.
	Events []Event
	// Gaps are holes that Dash told of. One makes a verdict impossible.
	Gaps int
	// Tasks are all tasks as the API listed them at the end.
	Tasks []api.Task
	// Lines is the simulators' ground truth, in the order of time.
	Lines []openclawtest.Line
	// Gateways and Queue were read at the end. Slots holds the configured
	// concurrency of every gateway that existed in the run.
	Gateways []api.Gateway
	Slots    map[string]int
	Queue    []api.QueueClass
	Pools    []api.Pool
	// Faults are the disruptions that were injected; they excuse only what
	// Rule says of each check.
	Faults []Fault
}

// Submit is one submit of a client with all its repetitions under one key.
type Submit struct {
	Key     string
	Class   api.Priority
	Session string
	Message string
	// Sent is the beginning of the first try.
	Sent time.Time
	// Task is the id of the 202, empty when no try was answered with one, and
	// Answered the moment at which the client had it.
	Task     string
	Answered time.Time
	// Refused is the code of the last answer when it was a refusal; a submit
	// with neither Task nor Refused has an unknown outcome.
	Refused string
	// Seen is the terminal state that the client was told, empty when none.
	Seen api.TaskState
}

// Fault is one injected disruption.
type Fault struct {
	Kind string
	// Gateway is empty for a fault of Dash itself or of all gateways.
	Gateway  string
	From, To time.Time
}

// Event is one entry of the event log, as far as the judge uses it.
type Event struct {
	Seq  int64
	Time time.Time // of the decision or change that it tells of
	Seen time.Time // when the watcher got it
	Type string
	// ID is the task, gateway or session.
	ID, Pool, Session, Gateway, State, From, Reason, RunID string

	Class            api.Priority
	QueueSeq, Claim  int64
	Attempt, Window  int32
	Generation       int64
	BootID, ErrorTag string
}

// ParseEvent reads a message of the event stream. Messages without a place in
// the log (heartbeats, deltas) give ok false.
func ParseEvent(m *api.EventMessage) (e Event, ok bool, err error) {
	if m.Seq == nil || m.Data == nil {
		return Event{}, false, nil
	}
	e = Event{Seq: *m.Seq, Type: m.Type}
	if m.Time != nil {
		e.Time = *m.Time
	}
	switch m.Type {
	case "task.state":
		err = e.task(*m.Data)
	case "gateway.state":
		err = e.gateway(*m.Data)
	case "session.state":
		err = e.session(*m.Data)
	default:
		return Event{}, false, nil
	}
	if err != nil {
		return Event{}, false, fmt.Errorf("event %d of type %s: %w", e.Seq, e.Type, err)
	}
	return e, true, nil
}

func (e *Event) task(data []byte) error {
	var t api.TaskChanged
	if err := json.Unmarshal(data, &t); err != nil {
		return err
	}
	e.ID, e.Pool, e.Class, e.QueueSeq, e.Claim, e.Attempt = t.Id, t.Pool, t.Class, t.QueueSeq, t.Claim, t.Attempt
	e.State, e.From, e.Session, e.Gateway = string(t.State), value(t.From), value(t.Session), value(t.Gateway)
	e.RunID, e.Reason = value(t.RunId), value(t.Reason)
	if t.Error != nil {
		e.ErrorTag = t.Error.Code
	}
	return nil
}

func (e *Event) gateway(data []byte) error {
	var g api.GatewayChanged
	if err := json.Unmarshal(data, &g); err != nil {
		return err
	}
	e.ID, e.Pool, e.State, e.From = g.Id, g.Pool, string(g.State), value(g.From)
	e.Reason, e.Window, e.BootID = value(g.Reason), g.Window, value(g.BootId)
	return nil
}

func (e *Event) session(data []byte) error {
	var s api.SessionChanged
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	e.ID, e.Pool, e.State, e.From = s.Id, s.Pool, string(s.State), value(s.From)
	e.Gateway, e.Reason, e.Generation = value(s.Gateway), value(s.Reason), s.Generation
	return nil
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
