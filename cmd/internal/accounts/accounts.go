// Package accounts is who may call: keys, users and tenants, the first key of a
// store, and when keys end.
package accounts

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/dash-fleet/dash/cmd/internal/audit"
	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// Commands implements server.Accounts.
type Commands struct {
	Rows  persistence.Repositories // of keys, users and tenants
	Known *Tenants
	// Forget makes a key that was revoked refused here at once.
	Forget func(key string)
	// ClaimPool keeps others from making the own pool of a tenant that is being made,
	// until done, and refuses a tenant whose own pool would be one that others have.
	ClaimPool  func(ctx context.Context, tenant string) (done func(), err error)
	BcryptCost int // of new keys and passwords
}

// onceFor is how long a repeated wish for a key gives the same one.
const onceFor = 24 * time.Hour

// CreateKey implements server.Accounts. The id of a key that is made once follows
// from its wish, so that the store keeps a second one out.
func (c *Commands) CreateKey(ctx context.Context, k messages.Key, once string) (messages.Key, messages.Secret, error) {
	if err := c.Known.Exists(ctx, k.Tenant); err != nil {
		return k, "", err
	}
	if once != "" {
		made, err := c.Key(ctx, "", auth.OnceID(once))
		switch {
		case err == nil && time.Since(made.CreatedAt) < onceFor:
			return sameKey(made, k)
		case err == nil:
			once = "" // that was another day's
		case messages.CodeOf(err) != messages.CodeNotFound:
			return k, "", err
		}
	}
	text, id, hash, err := auth.NewKeyOnce(c.BcryptCost, once)
	if err != nil {
		return k, "", err
	}
	k.ID, k.Active, k.CreatedAt, k.Version = id, true, messages.Now(), 1
	err = c.Rows.Keys.Create(audit.Change(ctx, id, nil, recordedKey(k)), persistence.Key{Key: k, Hash: hash, Digest: auth.Digest(text)})
	switch {
	case errors.Is(err, persistence.ErrExists) && once != "": // another call came first
		made, err := c.Key(ctx, "", id)
		if err != nil {
			return k, "", err
		}
		return sameKey(made, k)
	case errors.Is(err, persistence.ErrNotFound): // its maker was revoked meanwhile
		return k, "", auth.Wrong()
	case err != nil:
		return k, "", persistence.Refusal(err, "key", id)
	}
	return k, text, nil
}

// sameKey returns a key that was made before, if it is the one that is wanted.
func sameKey(made, wanted messages.Key) (messages.Key, messages.Secret, error) {
	if made.Name == wanted.Name && made.Tenant == wanted.Tenant && made.RateLimit == wanted.RateLimit &&
		slices.Equal(made.Permissions, wanted.Permissions) && made.ExpiresAt.Sub(wanted.ExpiresAt).Abs() < time.Second {
		return made, "", nil
	}
	return wanted, "", &messages.Error{
		Code: messages.CodeKeyReused, Message: "this Idempotency-Key was used for another key", NextStep: next.UseNewKey,
	}
}

// Keys implements server.Accounts.
func (c *Commands) Keys(ctx context.Context, tenant, after string, limit int) ([]messages.Key, error) {
	rows, err := c.Rows.Keys.Page(ctx, tenant, after, limit)
	if err != nil {
		return nil, persistence.Refusal(err, "key", "")
	}
	list, theirs := make([]messages.Key, len(rows)), map[string]bool{}
	for i, k := range rows {
		known, looked := theirs[k.Parent]
		if !looked {
			known = c.belongs(ctx, tenant, k.Parent)
			theirs[k.Parent] = known
		}
		if !known {
			k.Parent = ""
		}
		list[i] = k.Key
	}
	return list, nil
}

// belongs reports whether a tenant may know of a key's parent: one of all tenants
// is not theirs to know.
func (c *Commands) belongs(ctx context.Context, tenant, parent string) bool {
	if tenant == "" || parent == "" {
		return true
	}
	p, err := c.Rows.Keys.Get(ctx, parent)
	return err == nil && p.Tenant == tenant
}

// Key implements server.Accounts.
func (c *Commands) Key(ctx context.Context, tenant, id string) (messages.Key, error) {
	k, err := c.Rows.Keys.Get(ctx, id)
	if err == nil && tenant != "" && k.Tenant != tenant {
		err = persistence.ErrNotFound
	}
	if err == nil && !c.belongs(ctx, tenant, k.Parent) {
		k.Parent = ""
	}
	return k.Key, persistence.Refusal(err, "key", id)
}

// RevokeKey implements server.Accounts.
func (c *Commands) RevokeKey(ctx context.Context, tenant, id string, keep bool) (messages.Key, error) {
	k, err := c.Key(ctx, tenant, id)
	if err != nil {
		return k, err
	}
	if !k.Active {
		server.ChangeOf(ctx).Keep()
		return k, nil
	}
	after := k
	after.Active = false
	ended, err := c.Rows.Keys.Revoke(audit.Change(ctx, id, recordedKey(k), recordedKey(after)), id, keep)
	if errors.Is(err, persistence.ErrLastAdmin) {
		return k, keepAdmin()
	}
	if err != nil {
		return k, persistence.Refusal(err, "key", id)
	}
	for _, one := range ended {
		c.Forget(one)
	}
	return c.Key(ctx, tenant, id)
}

// keepAdmin keeps an operator from locking everybody out.
func keepAdmin() *messages.Error {
	return &messages.Error{
		Code: messages.CodeWrongState, Message: "this is the last key that does not expire and has the permission admin for all tenants",
		NextStep: next.MakeOtherAdminKey,
	}
}

// CreateUser implements server.Accounts.
func (c *Commands) CreateUser(ctx context.Context, u messages.User, password messages.Secret) (messages.User, error) {
	if err := c.Known.Exists(ctx, u.Tenant); err != nil {
		return u, err
	}
	hash, err := auth.HashPassword(password, c.BcryptCost)
	if err != nil {
		return u, err
	}
	row := persistence.User{
		User: messages.User{ID: messages.NewID(), Email: u.Email, Role: u.Role, Tenant: u.Tenant, CreatedAt: messages.Now()}, PasswordHash: hash,
	}
	made, err := c.Rows.Users.Create(audit.Change(ctx, row.ID, nil, recordedUser(row)), row)
	if errors.Is(err, persistence.ErrExists) {
		return u, persistence.Taken(u.Email) // of whichever tenant: it is one name space
	}
	return made.User, persistence.Refusal(err, "user", u.Email)
}

// Users implements server.Accounts.
func (c *Commands) Users(ctx context.Context, tenant, email, after string, limit int) ([]messages.User, error) {
	rows, err := c.users(ctx, tenant, email, after, limit)
	if err != nil {
		return nil, persistence.Refusal(err, "user", "")
	}
	list := make([]messages.User, len(rows))
	for i, u := range rows {
		list[i] = u.User
	}
	return list, nil
}

func (c *Commands) users(ctx context.Context, tenant, email, after string, limit int) ([]persistence.User, error) {
	if email == "" {
		return c.Rows.Users.Page(ctx, tenant, after, limit)
	}
	u, err := c.Rows.Users.ByEmail(ctx, email)
	switch {
	case errors.Is(err, persistence.ErrNotFound):
		return nil, nil
	case err != nil || tenant != "" && u.Tenant != tenant || u.ID <= after:
		return nil, err
	}
	return []persistence.User{u}, nil
}

func (c *Commands) user(ctx context.Context, tenant, id string) (persistence.User, error) {
	u, err := c.Rows.Users.Get(ctx, id)
	if err == nil && tenant != "" && u.Tenant != tenant {
		err = persistence.ErrNotFound
	}
	return u, persistence.Refusal(err, "user", id)
}

// User implements server.Accounts.
func (c *Commands) User(ctx context.Context, tenant, id string) (messages.User, error) {
	u, err := c.user(ctx, tenant, id)
	return u.User, err
}

// UpdateUser implements server.Accounts.
func (c *Commands) UpdateUser(ctx context.Context, tenant, id string, ch server.UserChange, version int64) (messages.User, error) {
	var hash []byte
	if ch.Password != nil { // before the row is read: it takes long
		var err error
		if hash, err = auth.HashPassword(*ch.Password, c.BcryptCost); err != nil {
			return messages.User{}, err
		}
	}
	u, err := c.user(ctx, tenant, id)
	if err != nil {
		return messages.User{}, err
	}
	if version != 0 && version != u.Version {
		return u.User, persistence.Refusal(persistence.ErrVersion, "user", id)
	}
	before := u
	if ch.Tenant != nil {
		if err := c.Known.Exists(ctx, *ch.Tenant); err != nil {
			return u.User, err
		}
		u.Tenant = *ch.Tenant
	}
	if ch.Role != nil {
		u.Role = *ch.Role
	}
	if hash != nil {
		u.PasswordHash = hash
	}
	stored, err := c.Rows.Users.Update(audit.Change(ctx, id, recordedUser(before), recordedUser(u)), u)
	return stored.User, persistence.Refusal(err, "user", id)
}

// DeleteUser implements server.Accounts.
func (c *Commands) DeleteUser(ctx context.Context, tenant, id string) error {
	u, err := c.user(ctx, tenant, id)
	if err != nil {
		return err
	}
	return persistence.Refusal(c.Rows.Users.Delete(audit.Change(ctx, id, recordedUser(u), nil), id), "user", id)
}

// CreateTenant implements server.Accounts.
func (c *Commands) CreateTenant(ctx context.Context, t messages.Tenant) (messages.Tenant, error) {
	done, err := c.ClaimPool(ctx, t.ID)
	if err != nil {
		return t, err
	}
	defer done()
	made, err := c.Rows.Tenants.Create(audit.Change(ctx, t.ID, nil, map[string]any{"name": t.Name}), messages.Tenant{ID: t.ID, Name: t.Name, CreatedAt: messages.Now()})
	return made, persistence.Refusal(err, "tenant", t.ID)
}

// Tenants implements server.Accounts.
func (c *Commands) Tenants(ctx context.Context, tenant, after string, limit int) ([]messages.Tenant, error) {
	rows, err := c.tenants(ctx, tenant, after, limit)
	return rows, persistence.Refusal(err, "tenant", "")
}

func (c *Commands) tenants(ctx context.Context, tenant, after string, limit int) ([]messages.Tenant, error) {
	if tenant == "" {
		return c.Rows.Tenants.Page(ctx, after, limit)
	}
	t, err := c.Rows.Tenants.Get(ctx, tenant)
	if errors.Is(err, persistence.ErrNotFound) || err == nil && t.ID <= after {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []messages.Tenant{t}, nil
}

func recordedKey(k messages.Key) map[string]any {
	return map[string]any{
		"name": k.Name, "tenant": k.Tenant, "permissions": k.Permissions, "rate_limit": k.RateLimit, "active": k.Active, "expires_at": k.ExpiresAt,
	}
}

func recordedUser(u persistence.User) map[string]any {
	return map[string]any{"email": u.Email, "role": u.Role, "tenant": u.Tenant}
}
