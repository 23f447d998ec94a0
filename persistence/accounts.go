package persistence

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// Key is an API key as stored: the bcrypt hash is the authority, ID finds it.
type Key struct {
	messages.Key
	Hash   []byte // bcrypt: what decides
	Digest []byte // SHA-256 of the key's text, nil when it is not known yet
}

// Keys is the repository of API keys.
type Keys interface {
	// Create stores a new key. ErrExists; ErrNotFound when its parent is no
	// active key at the moment of the write.
	Create(ctx context.Context, k Key) error
	// CreateFirst stores k only if there is no key at all and says whether it
	// did: of many callers at once exactly one succeeds.
	CreateFirst(ctx context.Context, k Key) (bool, error)
	Get(ctx context.Context, id string) (Key, error)
	// List returns all keys in the order of their creation.
	List(ctx context.Context) ([]Key, error)
	// Page returns the first limit keys of a tenant (empty: all) with an id behind
	// after, in the order of their ids.
	Page(ctx context.Context, tenant, after string, limit int) ([]Key, error)
	// Versions returns the present versions of those keys that exist, in one query.
	Versions(ctx context.Context, ids []string) (map[string]int64, error)
	// Revoke makes the key and all that it made, and those made in turn,
	// inactive, raises their versions and returns their ids, its own first; with
	// keep those that it made stay, as children of its parent. ErrNotFound.
	// ErrLastAdmin when one of them may do everything and no key that is left
	// does so without an end: the look and the write are one step, so of many
	// calls at once one is refused.
	Revoke(ctx context.Context, id string, keep bool) (ended []string, err error)
	// Learn keeps the digest of a key that has none; the version stays. Nothing
	// happens to another key, and to none.
	Learn(ctx context.Context, id string, digest []byte) error
	// Touch records when keys were last used, in one write.
	Touch(ctx context.Context, used map[string]time.Time) error
}

// AdminPermission is the permission that includes all others.
const AdminPermission = "admin"

// rules says that the key may do everything, for all tenants, at the time.
func (k *Key) rules(at time.Time) bool {
	return k.Active && k.Tenant == "" && slices.Contains(k.Permissions, AdminPermission) && (k.ExpiresAt.IsZero() || k.ExpiresAt.After(at))
}

// MayRevoke refuses to end keys of which one may do everything while no other one
// does so for good: one that ends by itself would lock everybody out a little later.
// all holds at least the keys of all tenants, as they are at the moment of the write.
func MayRevoke(all []Key, ids []string, at time.Time) error {
	itself, others := false, false
	for i := range all {
		k := &all[i]
		switch {
		case !k.rules(at):
		case slices.Contains(ids, k.ID):
			itself = true
		case k.ExpiresAt.IsZero():
			others = true
		}
	}
	if itself && !others {
		return fmt.Errorf("key %s: %w", ids[0], ErrLastAdmin)
	}
	return nil
}

// KeyWatcher is implemented by the Keys of an engine that several processes
// share. It makes a change known sooner than polling Versions does; it may
// lose one, so it never takes the place of polling.
type KeyWatcher interface {
	// WatchKeys calls changed with the id of each key that any process changes
	// from the call of ready on, until ctx ends or the connection breaks,
	// which is the error. Both are called on the caller's goroutine and must
	// not block.
	WatchKeys(ctx context.Context, ready func(), changed func(id string)) error
}

// User is a person with a password.
type User struct {
	messages.User        // its role is empty at Create: "user"
	PasswordHash  []byte // bcrypt
}

// Users is the repository of users.
type Users interface {
	// Create stores a new user and returns it with Version 1. ErrExists for a
	// taken id or email.
	Create(ctx context.Context, u User) (User, error)
	// Get returns one user. ErrNotFound.
	Get(ctx context.Context, id string) (User, error)
	// ByEmail returns the user with exactly this email. ErrNotFound.
	ByEmail(ctx context.Context, email string) (User, error)
	// List returns all users in the order of their ids.
	List(ctx context.Context) ([]User, error)
	// Page returns the first limit users of a tenant (empty: all) with an id behind
	// after, in the order of their ids.
	Page(ctx context.Context, tenant, after string, limit int) ([]User, error)
	// Update replaces the row whose Version is u.Version, except for its time
	// of creation, and returns it with Version+1. Another password hash ends
	// all login sessions of the user in the same step. ErrVersion,
	// ErrNotFound, ErrExists for a taken email.
	Update(ctx context.Context, u User) (User, error)
	// Delete removes the user with all login sessions. ErrNotFound.
	Delete(ctx context.Context, id string) error
}

// TokenHash is how the token of a login session is stored.
type TokenHash = [sha256.Size]byte

// LoginSession is what a user's login left behind.
type LoginSession struct {
	ID        string
	UserID    string
	TokenHash TokenHash
	ExpiresAt time.Time
	CreatedAt time.Time
}

// LoginSessions is the repository of login sessions.
type LoginSessions interface {
	// Create stores a new session. ErrExists for a taken id or token,
	// ErrNotFound when there is no such user.
	Create(ctx context.Context, s LoginSession) error
	// ByToken returns the session of a token. ErrNotFound also when it is
	// over, on the store's clock.
	ByToken(ctx context.Context, h TokenHash) (LoginSession, error)
	// List returns the sessions of a user that are not over, oldest first.
	List(ctx context.Context, user string) ([]LoginSession, error)
	// Delete ends one session. ErrNotFound.
	Delete(ctx context.Context, id string) error
	// DeleteOf ends all sessions of a user and says how many.
	DeleteOf(ctx context.Context, user string) (int, error)
	// Sweep removes at most limit sessions that are over and says how many.
	Sweep(ctx context.Context, limit int) (int, error)
}

// Tenants is the repository of tenants. A new store holds "default".
type Tenants interface {
	// Create stores a new tenant and returns it with Version 1. ErrExists.
	Create(ctx context.Context, t messages.Tenant) (messages.Tenant, error)
	// Get returns one tenant. ErrNotFound.
	Get(ctx context.Context, id string) (messages.Tenant, error)
	// List returns all tenants in the order of their ids.
	List(ctx context.Context) ([]messages.Tenant, error)
	// Page returns the first limit tenants with an id behind after, in the order of their ids.
	Page(ctx context.Context, after string, limit int) ([]messages.Tenant, error)
}
