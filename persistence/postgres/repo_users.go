package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

type users struct{ db *DB }

const userColumns = `id, email, password_hash, role, tenant, created_at, version`

func readUser(row pgx.CollectableRow) (u persistence.User, err error) {
	var hash string
	err = row.Scan(&u.ID, &u.Email, &hash, &u.Role, &u.Tenant, &u.CreatedAt, &u.Version)
	u.PasswordHash, u.CreatedAt = []byte(hash), u.CreatedAt.UTC()
	return u, err
}

// Create stores a new user.
func (r users) Create(ctx context.Context, u persistence.User) (persistence.User, error) {
	if u.Role == "" {
		u.Role = "user"
	}
	return rowOf(ctx, r.db, "create user "+u.Email, readUser, `INSERT INTO users (`+userColumns+`) VALUES ($1, $2, $3, $4, $5, $6, 1) RETURNING `+userColumns,
		u.ID, u.Email, string(u.PasswordHash), u.Role, u.Tenant, u.CreatedAt)
}

// Get returns one user.
func (r users) Get(ctx context.Context, id string) (persistence.User, error) {
	return rowOf(ctx, r.db, "user "+id, readUser, `SELECT `+userColumns+` FROM users WHERE id = $1`, id)
}

// ByEmail returns the user with this email.
func (r users) ByEmail(ctx context.Context, email string) (persistence.User, error) {
	return rowOf(ctx, r.db, "user "+email, readUser, `SELECT `+userColumns+` FROM users WHERE email = $1`, email)
}

// List returns all users in the order of their ids.
func (r users) List(ctx context.Context) ([]persistence.User, error) {
	return rowsOf(ctx, r.db, "list users", readUser, `SELECT `+userColumns+` FROM users ORDER BY id`)
}

// Page returns a page of users in the order of their ids.
func (r users) Page(ctx context.Context, tenant, after string, limit int) ([]persistence.User, error) {
	return rowsOf(ctx, r.db, "list users", readUser, `SELECT `+userColumns+` FROM users WHERE ($1 = '' OR tenant = $1) AND id > $2 ORDER BY id LIMIT $3`, tenant, after, limit)
}

// Update replaces the row whose version is u.Version. The sessions go in the
// same statement when the password is another.
func (r users) Update(ctx context.Context, u persistence.User) (persistence.User, error) {
	return change(ctx, r.db, "user", "users", u.ID, readUser, `WITH
 before AS (SELECT id, password_hash FROM users WHERE id = $1 AND version = $6 FOR UPDATE),
 after AS (UPDATE users SET email = $2, password_hash = $3, role = $4, tenant = $5, version = version + 1
  WHERE id = (SELECT id FROM before) RETURNING `+userColumns+`),
 ended AS (DELETE FROM sessions WHERE user_id = (SELECT id FROM before WHERE password_hash <> $3))
 SELECT `+userColumns+` FROM after`,
		u.ID, u.Email, string(u.PasswordHash), u.Role, u.Tenant, u.Version)
}

// Delete removes the user; the sessions go with it.
func (r users) Delete(ctx context.Context, id string) error {
	return r.db.remove(ctx, "user", `DELETE FROM users WHERE id = $1 RETURNING 1`, id)
}

type loginSessions struct{ db *DB }

const loginColumns = `id, user_id, token_hash, expires_at, created_at`

func readLogin(row pgx.CollectableRow) (s persistence.LoginSession, err error) {
	var hash []byte
	err = row.Scan(&s.ID, &s.UserID, &hash, &s.ExpiresAt, &s.CreatedAt)
	copy(s.TokenHash[:], hash)
	s.ExpiresAt, s.CreatedAt = s.ExpiresAt.UTC(), s.CreatedAt.UTC()
	return s, err
}

// Create stores a new session.
func (r loginSessions) Create(ctx context.Context, s persistence.LoginSession) error {
	_, err := r.db.exec(ctx, "create session "+s.ID, `INSERT INTO sessions (`+loginColumns+`) VALUES ($1, $2, $3, $4, $5) RETURNING 1`,
		s.ID, s.UserID, s.TokenHash[:], s.ExpiresAt, s.CreatedAt)
	return err
}

// ByToken returns the session of a token that is not over.
func (r loginSessions) ByToken(ctx context.Context, h persistence.TokenHash) (persistence.LoginSession, error) {
	return rowOf(ctx, r.db, "session", readLogin, `SELECT `+loginColumns+` FROM sessions WHERE token_hash = $1 AND expires_at > now()`, h[:])
}

// List returns the sessions of a user that are not over.
func (r loginSessions) List(ctx context.Context, user string) ([]persistence.LoginSession, error) {
	return rowsOf(ctx, r.db, "list sessions", readLogin, `SELECT `+loginColumns+` FROM sessions WHERE user_id = $1 AND expires_at > now() ORDER BY created_at, id`, user)
}

// Delete ends one session.
func (r loginSessions) Delete(ctx context.Context, id string) error {
	return r.db.remove(ctx, "session", `DELETE FROM sessions WHERE id = $1 RETURNING 1`, id)
}

// DeleteOf ends all sessions of a user.
func (r loginSessions) DeleteOf(ctx context.Context, user string) (int, error) {
	return r.db.exec(ctx, "end sessions", `DELETE FROM sessions WHERE user_id = $1 RETURNING 1`, user)
}

// Sweep removes sessions that are over. Two nodes that sweep at once take
// different rows.
func (r loginSessions) Sweep(ctx context.Context, limit int) (int, error) {
	return r.db.exec(ctx, "sweep sessions", `DELETE FROM sessions WHERE id IN
 (SELECT id FROM sessions WHERE expires_at <= now() LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING 1`, limit)
}

type tenants struct{ db *DB }

const tenantColumns = `id, name, created_at, version`

func readTenant(row pgx.CollectableRow) (t messages.Tenant, err error) {
	err = row.Scan(&t.ID, &t.Name, &t.CreatedAt, &t.Version)
	t.CreatedAt = t.CreatedAt.UTC()
	return t, err
}

// Create stores a new tenant.
func (r tenants) Create(ctx context.Context, t messages.Tenant) (messages.Tenant, error) {
	return rowOf(ctx, r.db, "create tenant "+t.ID, readTenant, `INSERT INTO tenants (`+tenantColumns+`) VALUES ($1, $2, $3, 1) RETURNING `+tenantColumns, t.ID, t.Name, t.CreatedAt)
}

// Get returns one tenant.
func (r tenants) Get(ctx context.Context, id string) (messages.Tenant, error) {
	return rowOf(ctx, r.db, "tenant "+id, readTenant, `SELECT `+tenantColumns+` FROM tenants WHERE id = $1`, id)
}

// List returns all tenants in the order of their ids.
func (r tenants) List(ctx context.Context) ([]messages.Tenant, error) {
	return rowsOf(ctx, r.db, "list tenants", readTenant, `SELECT `+tenantColumns+` FROM tenants ORDER BY id`)
}

// Page returns a page of tenants in the order of their ids.
func (r tenants) Page(ctx context.Context, after string, limit int) ([]messages.Tenant, error) {
	return rowsOf(ctx, r.db, "list tenants", readTenant, `SELECT `+tenantColumns+` FROM tenants WHERE id > $1 ORDER BY id LIMIT $2`, after, limit)
}
