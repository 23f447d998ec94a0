package servertest

import (
	"context"
	"slices"
	"strings"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

type sessions Fake

func (f *sessions) Create(ctx context.Context, s messages.Session) (messages.Session, error) {
	if err := (*Fake)(f).enter(ctx, "CreateSession"); err != nil {
		return s, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := s.Tenant + "/" + s.ID
	if _, ok := f.sessions[key]; ok {
		return s, refuse(messages.CodeConflict, "there is a session %s", s.ID)
	}
	s.State, s.CreatedAt = messages.SessionIdle, messages.Now()
	s.UpdatedAt = s.CreatedAt
	f.sessions[key] = s
	(*Fake)(f).publish(s.Event(0, s.CreatedAt))
	return s, nil
}

func (f *sessions) Sessions(ctx context.Context, filter server.SessionFilter, cursor string, limit int) (out []messages.Session, next string, err error) {
	if err := (*Fake)(f).enter(ctx, "Sessions"); err != nil {
		return nil, "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	place := func(s messages.Session) string { return s.ID + "\x00" + s.Tenant }
	all := sorted(f.sessions)
	slices.SortFunc(all, func(a, b messages.Session) int { return strings.Compare(place(a), place(b)) })
	for _, s := range all {
		if (filter.Tenant != "" && s.Tenant != filter.Tenant) || (filter.Pool != "" && s.Pool != filter.Pool) ||
			!strings.HasPrefix(s.ID, filter.IDBegin) || place(s) <= cursor {
			continue
		}
		if len(out) == limit {
			return out, place(out[limit-1]), nil
		}
		out = append(out, s)
	}
	return out, "", nil
}

func (f *sessions) change(ctx context.Context, command, tenant, id string, do func(*messages.Session) error) (messages.Session, error) {
	if err := (*Fake)(f).enter(ctx, command); err != nil {
		return messages.Session{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.sessions[tenant+"/"+id]
	if !ok {
		return messages.Session{}, refuse(messages.CodeNotFound, "there is no session %s", id)
	}
	if do == nil {
		return s, nil
	}
	from := s.State
	if err := do(&s); err != nil {
		return messages.Session{}, err
	}
	s.UpdatedAt = messages.Now()
	f.sessions[tenant+"/"+id] = s
	(*Fake)(f).publish(s.Event(from, s.UpdatedAt))
	return s, nil
}

func (f *sessions) Session(ctx context.Context, tenant, id string) (messages.Session, error) {
	return f.change(ctx, "Session", tenant, id, nil)
}

func (f *sessions) Close(ctx context.Context, tenant, id string) error {
	_, err := f.change(ctx, "CloseSession", tenant, id, func(s *messages.Session) error {
		if s.State == messages.SessionBusy {
			return refuse(messages.CodeWrongState, "the session has open tasks")
		}
		s.State = messages.SessionClosed
		return nil
	})
	return err
}

func (f *sessions) Transcript(ctx context.Context, tenant, id, before string, limit int) ([]messages.Task, bool, error) {
	if _, err := f.change(ctx, "Transcript", tenant, id, nil); err != nil {
		return nil, false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []messages.Task
	for _, task := range f.order {
		t := f.tasks[task]
		if task == before {
			break
		}
		if t.Tenant == tenant && t.Session == id && t.State == messages.Succeeded {
			out = append(out, t.Task)
		}
	}
	return out[max(0, len(out)-limit):], len(out) > limit, nil
}

func (f *sessions) Move(ctx context.Context, tenant, id string, m server.SessionMove) (messages.Session, error) {
	return f.change(ctx, "MoveSession", tenant, id, func(s *messages.Session) error {
		if _, ok := f.gateways[m.Gateway]; !ok && m.Gateway != "" {
			return refuse(messages.CodeInvalid, "there is no gateway %s in this pool", m.Gateway)
		}
		s.State, s.Gateway = messages.SessionMoving, m.Gateway
		return nil
	})
}

func (f *sessions) Resume(ctx context.Context, tenant, id string) (messages.Session, error) {
	return f.change(ctx, "ResumeSession", tenant, id, func(s *messages.Session) error {
		if s.State != messages.SessionParked {
			return refuse(messages.CodeWrongState, "the session is %s, not parked", s.State)
		}
		s.State, s.Reason, s.NextStep = messages.SessionRecovering, "", ""
		return nil
	})
}
