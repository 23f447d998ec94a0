package events

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/messages"
)

// Types of messages that are not in the log.
const (
	typeDelta      = "delta"
	typeSnapshot   = "snapshot"
	typeFinal      = "final"
	typeGap        = "gap"
	typeSubscribed = "subscribed"
	typePosition   = "position" // everything up to its seq was told
)

func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// encode writes a message of the given type around data.
func encode(typ string, seq int64, at time.Time, data any) ([]byte, error) {
	m := api.EventMessage{Type: typ}
	if seq > 0 {
		m.Seq = &seq
	}
	if !at.IsZero() {
		at = at.UTC()
		m.Time = &at
	}
	if data != nil {
		b, err := json.Marshal(data)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", typ, err)
		}
		raw := json.RawMessage(b)
		m.Data = &raw
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", typ, err)
	}
	return b, nil
}

// encodeEvent writes an entry of the log for a watcher; one of a single tenant is
// told no details of why a gateway cannot be reached.
func encodeEvent(e *messages.Event, p *auth.Principal) ([]byte, error) {
	data := eventData(e)
	if g, ok := data.(api.GatewayChanged); ok && (p == nil || p.Tenant != "") {
		reason, step := messages.Coarse(g.Id, string(g.State), e.GetGateway().Reason, e.GetGateway().NextStep)
		g.Reason, g.NextStep = text(reason), text(step)
		data = g
	}
	return encode(e.Type, e.Seq, time.UnixMicro(e.TimeMicros), data)
}

func encodeGap(from, to int64) ([]byte, error) {
	at := messages.Now()
	b, err := json.Marshal(api.EventMessage{Type: typeGap, Time: &at, From: &from, To: &to})
	if err != nil {
		return nil, fmt.Errorf("encode gap: %w", err)
	}
	return b, nil
}

func eventData(e *messages.Event) any {
	switch d := e.Data.(type) {
	case *messages.Event_Task:
		return taskChanged(e, d.Task)
	case *messages.Event_Gateway:
		g := d.Gateway
		return api.GatewayChanged{
			Id: e.Subject, Tenant: e.Tenant, Pool: g.Pool, State: api.GatewayState(g.State), From: text(g.From),
			Reason: text(g.Reason), NextStep: text(g.NextStep), Window: g.Window, BootId: text(g.BootId),
		}
	case *messages.Event_Session:
		s := d.Session
		return api.SessionChanged{
			Id: e.Subject, Tenant: e.Tenant, Pool: s.Pool, State: api.SessionState(s.State), From: text(s.From),
			Gateway: text(s.Gateway), Generation: s.Generation, Reason: text(s.Reason), NextStep: text(s.NextStep), Restarts: s.Restarts,
		}
	}
	return map[string]string{"id": e.Subject, "tenant": e.Tenant}
}

func taskChanged(e *messages.Event, t *messages.TaskChanged) api.TaskChanged {
	v := api.TaskChanged{
		Id: e.Subject, Tenant: e.Tenant, Pool: t.Pool, Class: api.Priority(t.Class), QueueSeq: t.QueueSeq,
		State: api.TaskState(t.State), From: text(t.From), Claim: t.Claim, Attempt: t.Attempt, Session: text(t.Session),
		Gateway: text(t.Gateway), RunId: text(t.RunId), Reason: text(t.Reason),
	}
	if x := t.Error; x != nil {
		v.Error = &api.TaskError{Code: x.Code, Message: x.Message, Retryable: x.Retryable}
		if u := x.Usage; u != nil {
			v.Error.Usage = &api.Usage{InputTokens: u.Input, OutputTokens: u.Output, CachedInputTokens: u.CachedInput, CacheWriteTokens: u.CacheWrite}
		}
	}
	return v
}
