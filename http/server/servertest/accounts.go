package servertest

import (
	"context"
	"fmt"
	"slices"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

type accounts Fake

// begin is the start of every command; it leaves the fake locked.
func (f *accounts) begin(ctx context.Context, command string) error {
	if err := (*Fake)(f).enter(ctx, command); err != nil {
		return err
	}
	f.mu.Lock()
	return nil
}

func (f *accounts) knows(tenant string) error {
	if _, ok := f.tenants[tenant]; !ok && tenant != "" {
		return refuse(messages.CodeInvalid, "there is no tenant %s", tenant)
	}
	return nil
}

func (f *accounts) CreateKey(ctx context.Context, k messages.Key, once string) (messages.Key, messages.Secret, error) {
	if err := f.begin(ctx, "CreateKey"); err != nil {
		return k, "", err
	}
	defer f.mu.Unlock()
	if err := f.knows(k.Tenant); err != nil {
		return k, "", err
	}
	if made, again := f.apiKeys[f.keysOnce[once]]; again {
		return made, "", nil
	}
	k.ID, k.Active, k.CreatedAt, k.Version = fmt.Sprintf("key%09d", len(f.apiKeys)), true, messages.Now(), 1
	f.apiKeys[k.ID] = k
	if once != "" {
		f.keysOnce[once] = k.ID
	}
	return k, messages.Secret("dash_" + k.ID + "_text"), nil
}

func mine[T any](all []T, tenant string, of func(T) string) []T {
	return slices.DeleteFunc(all, func(v T) bool { return tenant != "" && of(v) != tenant })
}

func (f *accounts) Keys(ctx context.Context, tenant, after string, limit int) ([]messages.Key, error) {
	if err := f.begin(ctx, "Keys"); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	all := mine(sorted(f.apiKeys), tenant, func(k messages.Key) string { return k.Tenant })
	all = slices.DeleteFunc(all, func(k messages.Key) bool { return k.ID <= after })
	return all[:min(limit, len(all))], nil
}

func (f *accounts) Key(ctx context.Context, tenant, id string) (messages.Key, error) {
	if err := f.begin(ctx, "Key"); err != nil {
		return messages.Key{}, err
	}
	defer f.mu.Unlock()
	k, ok := f.apiKeys[id]
	if !ok || tenant != "" && k.Tenant != tenant {
		return k, refuse(messages.CodeNotFound, "there is no key %s", id)
	}
	return k, nil
}

func (f *accounts) RevokeKey(ctx context.Context, tenant, id string, keep bool) (messages.Key, error) {
	k, err := f.Key(ctx, tenant, id)
	if err != nil {
		return k, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revoke(id, keep)
	return f.apiKeys[id], nil
}

// revoke ends a key and, unless they are kept, those that it made. The fake is locked.
func (f *accounts) revoke(id string, keep bool) {
	k := f.apiKeys[id]
	if k.Active {
		k.Active, k.Version = false, k.Version+1
		f.apiKeys[id] = k
	}
	for _, child := range sorted(f.apiKeys) {
		if child.Parent != id {
			continue
		}
		if keep {
			child.Parent = k.Parent
			f.apiKeys[child.ID] = child
		} else {
			f.revoke(child.ID, false)
		}
	}
}

func (f *accounts) CreateUser(ctx context.Context, u messages.User, _ messages.Secret) (messages.User, error) {
	if err := f.begin(ctx, "CreateUser"); err != nil {
		return u, err
	}
	defer f.mu.Unlock()
	for _, other := range f.users {
		if other.Email == u.Email {
			return u, refuse(messages.CodeConflict, "the email %s is taken", u.Email)
		}
	}
	if err := f.knows(u.Tenant); err != nil {
		return u, err
	}
	u.ID, u.CreatedAt, u.Version = messages.NewID(), messages.Now(), 1
	f.users[u.ID] = u
	return u, nil
}

func (f *accounts) Users(ctx context.Context, tenant, email, after string, limit int) ([]messages.User, error) {
	if err := f.begin(ctx, "Users"); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	all := mine(sorted(f.users), tenant, func(u messages.User) string { return u.Tenant })
	all = slices.DeleteFunc(all, func(u messages.User) bool { return email != "" && u.Email != email || u.ID <= after })
	return all[:min(limit, len(all))], nil
}

func (f *accounts) User(ctx context.Context, tenant, id string) (messages.User, error) {
	if err := f.begin(ctx, "User"); err != nil {
		return messages.User{}, err
	}
	defer f.mu.Unlock()
	u, ok := f.users[id]
	if !ok || tenant != "" && u.Tenant != tenant {
		return u, refuse(messages.CodeNotFound, "there is no user %s", id)
	}
	return u, nil
}

func (f *accounts) UpdateUser(ctx context.Context, tenant, id string, c server.UserChange, version int64) (messages.User, error) {
	u, err := f.User(ctx, tenant, id)
	if err != nil {
		return u, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if version != 0 && version != u.Version {
		return u, refuse(messages.CodeVersionClash, "the version is %d", u.Version)
	}
	if c.Role != nil {
		u.Role = *c.Role
	}
	if c.Tenant != nil {
		if err := f.knows(*c.Tenant); err != nil {
			return u, err
		}
		u.Tenant = *c.Tenant
	}
	u.Version++
	f.users[id] = u
	return u, nil
}

func (f *accounts) DeleteUser(ctx context.Context, tenant, id string) error {
	if _, err := f.User(ctx, tenant, id); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.users, id)
	return nil
}

func (f *accounts) CreateTenant(ctx context.Context, t messages.Tenant) (messages.Tenant, error) {
	if err := f.begin(ctx, "CreateTenant"); err != nil {
		return t, err
	}
	defer f.mu.Unlock()
	if _, ok := f.tenants[t.ID]; ok {
		return t, refuse(messages.CodeConflict, "the tenant %s exists", t.ID)
	}
	t.CreatedAt, t.Version = messages.Now(), 1
	f.tenants[t.ID] = t
	return t, nil
}

func (f *accounts) Tenants(ctx context.Context, tenant, after string, limit int) ([]messages.Tenant, error) {
	if err := f.begin(ctx, "Tenants"); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	all := slices.DeleteFunc(mine(sorted(f.tenants), tenant, func(t messages.Tenant) string { return t.ID }), func(t messages.Tenant) bool { return t.ID <= after })
	return all[:min(limit, len(all))], nil
}

type auditLog Fake

func (f *auditLog) Record(ctx context.Context, r server.AuditRow) error {
	if err := (*Fake)(f).enter(ctx, "RecordAudit"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r.Seq = int64(len(f.audit) + 1)
	f.audit = append(f.audit, r)
	return nil
}

func (f *auditLog) Rows(ctx context.Context, q server.AuditFilter) (rows []server.AuditRow, err error) {
	if err := (*Fake)(f).enter(ctx, "AuditRows"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range slices.Backward(f.audit) {
		if fits(q, r) && len(rows) < q.Limit {
			rows = append(rows, r)
		}
	}
	return rows, nil
}

func fits(q server.AuditFilter, r server.AuditRow) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	return (q.Before == 0 || r.Seq < q.Before) && is(q.Tenant, r.Tenant) && is(q.Actor, r.Actor) && is(q.Action, r.Action) && is(q.Target, r.Target) &&
		!r.Time.Before(q.Since) && (q.Until.IsZero() || r.Time.Before(q.Until))
}

func (f *auditLog) Verify(ctx context.Context) (server.AuditState, error) {
	if err := (*Fake)(f).enter(ctx, "VerifyAudit"); err != nil {
		return server.AuditState{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return server.AuditState{Rows: int64(len(f.audit)), Head: fmt.Sprintf("%064d", len(f.audit))}, nil
}
