package requests

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/cmd/internal/accounts"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// Sessions implements server.Sessions.
type Sessions struct {
	Store    persistence.Store
	Gateways persistence.Gateways
	Tenants  *accounts.Tenants
	Owners   *dispatch.Client // of pools
}

// Create implements server.Sessions.
func (c *Sessions) Create(ctx context.Context, s messages.Session) (messages.Session, error) {
	if err := sessionName(s.ID); err != nil {
		return messages.Session{}, err
	}
	if err := c.Tenants.Exists(ctx, s.Tenant); err != nil {
		return messages.Session{}, err
	}
	row, created, err := c.Owners.OpenSession(ctx, s.Pool, s.Tenant, s.ID, s.Labels)
	if err == nil && !created {
		err = &messages.Error{Code: messages.CodeConflict, Message: "the session " + s.ID + " exists", NextStep: next.UseItOrOtherID}
	}
	return row, err
}

// sessionsAtOnce is how many sessions are read before a look at their size.
const sessionsAtOnce = 50

func labelBytes(m map[string]string) (n int) {
	for k, v := range m {
		n += len(k) + len(v)
	}
	return n
}

// sessionName refuses what would be a throw-away session's at a gateway.
func sessionName(id string) error {
	if !messages.ReservedSession(id) {
		return nil
	}
	return &messages.Error{Code: messages.CodeInvalid, Message: "the session id " + id + " begins with task-, as those of tasks without a session do", NextStep: next.OtherID}
}

// Sessions implements server.Sessions.
func (c *Sessions) Sessions(ctx context.Context, f server.SessionFilter, cursor string, limit int) (rows []messages.Session, next string, err error) {
	if cursor == "" && f.IDBegin != "" {
		cursor = persistence.SessionPlace(messages.Session{ID: f.IDBegin}) // in front of whoever has this id
	}
	// One more than asked for tells whether there is a next page. A few at a time,
	// as the labels of each may be long.
	for size := 0; len(rows) <= limit; {
		n := min(limit+1-len(rows), sessionsAtOnce)
		some, err := c.Store.Sessions(ctx, f.Tenant, f.Pool, cursor, n)
		if err != nil {
			return nil, "", persistence.Refusal(err, "session", "")
		}
		if rows = append(rows, some...); len(some) < n {
			break
		}
		for i := range some {
			size += labelBytes(some[i].Labels)
		}
		if size > persistence.PageBytes {
			limit = len(rows) - 1
		}
		cursor = persistence.SessionPlace(rows[len(rows)-1])
	}
	if i := slices.IndexFunc(rows, func(s messages.Session) bool { return !strings.HasPrefix(s.ID, f.IDBegin) }); i >= 0 {
		rows = rows[:i]
	}
	if len(rows) > limit {
		rows = rows[:limit]
		next = persistence.SessionPlace(rows[limit-1])
	}
	return rows, next, nil
}

// Session implements server.Sessions.
func (c *Sessions) Session(ctx context.Context, tenant, id string) (messages.Session, error) {
	s, err := c.Store.Session(ctx, tenant, id)
	return s, persistence.Refusal(err, "session", id)
}

// Close implements server.Sessions.
func (c *Sessions) Close(ctx context.Context, tenant, id string) error {
	_, err := c.Owners.CloseSession(ctx, tenant, id)
	return err
}

// Transcript implements server.Sessions.
func (c *Sessions) Transcript(ctx context.Context, tenant, id, before string, limit int) ([]messages.Task, bool, error) {
	s, err := c.Session(ctx, tenant, id)
	if err != nil {
		return nil, false, err
	}
	rows, older, err := c.Store.Transcript(ctx, tenant, id, before, limit)
	turns := s.Turns(rows)
	return turns, older && len(turns) == len(rows), persistence.Refusal(err, "session", id)
}

// Move implements server.Sessions.
func (c *Sessions) Move(ctx context.Context, tenant, id string, m server.SessionMove) (messages.Session, error) {
	s, err := c.Session(ctx, tenant, id)
	if err != nil {
		return s, err
	}
	if m.Gateway != "" {
		g, err := c.Gateways.Get(ctx, m.Gateway)
		if err != nil && !errors.Is(err, persistence.ErrNotFound) {
			return s, persistence.Refusal(err, "gateway", m.Gateway)
		}
		if err != nil || g.Pool != s.Pool || g.Tenant != s.Tenant {
			return s, &messages.Error{
				Code: messages.CodeInvalid, Message: "pool " + s.Pool + " has no gateway " + m.Gateway,
				NextStep: next.ChooseGateway, Fields: []messages.FieldError{{Pointer: "/gateway", Detail: "not a gateway of the session's pool"}},
			}
		}
		if g.Drained {
			return s, &messages.Error{
				Code: messages.CodeWrongState, Message: "the gateway " + g.ID + " is drained, so the session would wait for it",
				NextStep: fmt.Sprintf(next.OpenGatewayOrOther, g.ID),
			}
		}
	}
	return c.Owners.MoveSession(ctx, tenant, id, m.Gateway, m.Force)
}

// Resume implements server.Sessions.
func (c *Sessions) Resume(ctx context.Context, tenant, id string) (messages.Session, error) {
	return c.Owners.UnparkSession(ctx, tenant, id)
}
