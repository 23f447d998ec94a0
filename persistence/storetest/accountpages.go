package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// paged is how things with these ids are made, and their pages read.
type paged[T any] struct {
	make func(id, tenant string) error
	page func(ctx context.Context, tenant, after string, limit int) ([]T, error)
	id   func(T) string
}

// look makes things of all tenants and of one: the pages of a tenant, and of all,
// hold each of them once.
func (p paged[T]) look(t *testing.T) {
	t.Helper()
	for i, id := range []string{"d", "a2", "c", "B", "a1"} {
		if err := p.make(id, []string{"", "acme"}[i%2]); err != nil {
			t.Fatal(err)
		}
	}
	for tenant, want := range map[string]string{"": "[B a1][a2 c][d]", "acme": "[B a2]", "nobody": ""} {
		if got := p.walk(t, tenant); got != want {
			t.Errorf("those of %q: %s, want %s", tenant, got, want)
		}
	}
}

func (p paged[T]) walk(t *testing.T, tenant string) (got string) {
	t.Helper()
	for after := ""; ; {
		list, err := p.page(t.Context(), tenant, after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			return got
		}
		var ids []string
		for _, v := range list {
			ids = append(ids, p.id(v))
		}
		got, after = got+fmt.Sprint(ids), ids[len(ids)-1]
	}
}

func keyPages(t *testing.T, e Engine) {
	r := e.Repositories().Keys
	paged[persistence.Key]{page: r.Page, id: func(k persistence.Key) string { return k.ID }, make: func(id, tenant string) error {
		k := key(id)
		k.Tenant = tenant
		return r.Create(t.Context(), k)
	}}.look(t)
}

func userPages(t *testing.T, e Engine) {
	r := e.Repositories().Users
	paged[persistence.User]{page: r.Page, id: func(u persistence.User) string { return u.ID }, make: func(id, tenant string) error {
		u := user(id)
		u.Tenant = tenant
		return second(r.Create(t.Context(), u))
	}}.look(t)
}

func gatewayPages(t *testing.T, e Engine) {
	r := e.Repositories().Gateways
	paged[messages.Gateway]{page: r.Page, id: func(g messages.Gateway) string { return g.ID }, make: func(id, tenant string) error {
		return second(r.Create(t.Context(), messages.Gateway{ID: id, Tenant: tenant, Pool: tenant, CreatedAt: messages.Now()}))
	}}.look(t)
}

// tenantPages: there are those of all alone, and a new store has one.
func tenantPages(t *testing.T, e Engine) {
	r := e.Repositories().Tenants
	for _, id := range []string{"z", "B", "a"} {
		if _, err := r.Create(t.Context(), messages.Tenant{ID: id, CreatedAt: messages.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	p := paged[messages.Tenant]{id: func(v messages.Tenant) string { return v.ID }, page: func(ctx context.Context, _, after string, limit int) ([]messages.Tenant, error) {
		return r.Page(ctx, after, limit)
	}}
	if got := p.walk(t, ""); got != "[B a][default z]" {
		t.Errorf("the tenants: %s", got)
	}
}
