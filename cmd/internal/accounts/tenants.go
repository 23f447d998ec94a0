package accounts

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

// Tenants remembers tenants that exist; there are never more of them than
// rows in the store.
type Tenants struct {
	rows  persistence.Tenants
	until sync.Map // of each found one, when it is looked up again
}

// NewTenants knows nobody yet.
func NewTenants(rows persistence.Tenants) *Tenants { return &Tenants{rows: rows} }

// Exists refuses what belongs to a tenant that nobody made: it would wait
// for ever for a gateway of that tenant. Empty is every tenant.
func (k *Tenants) Exists(ctx context.Context, id string) error {
	now := time.Now()
	if id == "" || id == messages.DefaultTenant || k.has(id, now) {
		return nil
	}
	_, err := k.rows.Get(ctx, id)
	switch {
	case errors.Is(err, persistence.ErrNotFound):
		k.until.Delete(id)
		return &messages.Error{
			Code: messages.CodeInvalid, Message: "there is no tenant " + id, NextStep: fmt.Sprintf(next.MakeTenant, id),
			Fields: []messages.FieldError{{Pointer: "/tenant", Detail: "unknown tenant"}},
		}
	case err != nil:
		return persistence.Refusal(err, "tenant", id)
	}
	k.until.Store(id, now.Add(tenantFor))
	return nil
}

func (k *Tenants) has(id string, now time.Time) bool {
	v, ok := k.until.Load(id)
	return ok && now.Before(v.(time.Time))
}
