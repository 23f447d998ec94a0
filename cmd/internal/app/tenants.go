package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// tenantFor is how long a tenant that was found is not looked up again: a
// submit must not cost a second question to the store.
const tenantFor = 10 * time.Second

// knownTenants remembers tenants that exist; there are never more of them than
// rows in the store.
type knownTenants struct{ until sync.Map }

func (k *knownTenants) has(id string, now time.Time) bool {
	v, ok := k.until.Load(id)
	return ok && now.Before(v.(time.Time))
}

// tenantExists refuses what belongs to a tenant that nobody made: it would wait
// for ever for a gateway of that tenant. Empty is every tenant.
func (c *commands) tenantExists(ctx context.Context, id string) error {
	now := time.Now()
	if id == "" || id == messages.DefaultTenant || c.tenants.has(id, now) {
		return nil
	}
	_, err := c.app.repos.Tenants.Get(ctx, id)
	switch {
	case errors.Is(err, persistence.ErrNotFound):
		c.tenants.until.Delete(id)
		return &messages.Error{
			Code: messages.CodeInvalid, Message: "there is no tenant " + id, NextStep: fmt.Sprintf(next.MakeTenant, id),
			Fields: []messages.FieldError{{Pointer: "/tenant", Detail: "unknown tenant"}},
		}
	case err != nil:
		return persistence.Refusal(err, "tenant", id)
	}
	c.tenants.until.Store(id, now.Add(tenantFor))
	return nil
}
