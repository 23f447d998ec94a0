package sqlite

import (
	"bytes"
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

type users struct{ db *DB }

const userColumns = `id, email, password_hash, role, tenant, created_at, version`

// Create stores a new user.
func (r users) Create(ctx context.Context, u persistence.User) (persistence.User, error) {
	u.Version = 1
	if u.Role == "" {
		u.Role = "user"
	}
	err := r.db.w.transact(ctx, func(c *conn) error {
		err := c.text(`INSERT INTO users (`+userColumns+`) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)`,
			u.ID, u.Email, string(u.PasswordHash), u.Role, u.Tenant, micros(u.CreatedAt), u.Version)
		return taken(err, "user", u.Email)
	})
	return u, err
}

// Get returns one user.
func (r users) Get(ctx context.Context, id string) (persistence.User, error) {
	return r.one(ctx, id, ` WHERE id = ?`)
}

// ByEmail returns the user with this email.
func (r users) ByEmail(ctx context.Context, email string) (persistence.User, error) {
	return r.one(ctx, email, ` WHERE email = ?`)
}

func (r users) one(ctx context.Context, name, where string) (persistence.User, error) {
	list, err := r.list(ctx, where, name)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("user %s: %w", name, persistence.ErrNotFound)
	}
	if err != nil {
		return persistence.User{}, err
	}
	return list[0], nil
}

// List returns all users in the order of their ids.
func (r users) List(ctx context.Context) ([]persistence.User, error) {
	return r.list(ctx, ` ORDER BY id`)
}

// Page returns a page of users in the order of their ids.
func (r users) Page(ctx context.Context, tenant, after string, limit int) ([]persistence.User, error) {
	return r.list(ctx, ` WHERE (?1 = '' OR tenant = ?1) AND id > ?2 ORDER BY id LIMIT ?3`, tenant, after, limit)
}

func (r users) list(ctx context.Context, where string, args ...any) ([]persistence.User, error) {
	return list(ctx, r.db, decodeUser, 7, `SELECT `+userColumns+` FROM users`+where, args...)
}

func decodeUser(v []driver.Value) (persistence.User, error) {
	return persistence.User{PasswordHash: []byte(text(v[2])), User: messages.User{
		ID: text(v[0]), Email: text(v[1]), Role: text(v[3]), Tenant: text(v[4]), CreatedAt: fromMicros(integer(v[5])), Version: integer(v[6]),
	}}, nil
}

// Update replaces the row whose version is u.Version.
func (r users) Update(ctx context.Context, u persistence.User) (persistence.User, error) {
	err := r.db.w.transact(ctx, func(c *conn) error {
		var before []byte
		err := c.query(`SELECT password_hash, created_at FROM users WHERE id = ?1`, func(v []driver.Value) error {
			before, u.CreatedAt = []byte(text(v[0])), fromMicros(integer(v[1]))
			return nil
		}, u.ID)
		if err != nil {
			return err
		}
		n, err := c.exec(`UPDATE users SET email = ?2, password_hash = ?3, role = ?4, tenant = ?5, version = version + 1 WHERE id = ?1 AND version = ?6`,
			u.ID, u.Email, string(u.PasswordHash), u.Role, u.Tenant, u.Version)
		switch {
		case err != nil:
			return taken(err, "user", u.Email)
		case n == 0:
			return c.versionOrMissing("user", "users", u.ID)
		case bytes.Equal(before, u.PasswordHash):
			return nil
		}
		return c.text(`DELETE FROM sessions WHERE user_id = ?1`, u.ID)
	})
	if err != nil {
		return persistence.User{}, err
	}
	u.Version++
	return u, nil
}

// Delete removes the user; the sessions go with it.
func (r users) Delete(ctx context.Context, id string) error {
	return r.db.remove(ctx, "user", `DELETE FROM users WHERE id = ?1`, id)
}

// taken makes a broken uniqueness an ErrExists.
func taken(err error, kind, name string) error {
	if isUnique(err) {
		return &opError{fmt.Errorf("%s %s: %w", kind, name, persistence.ErrExists)}
	}
	return err
}

// remove deletes one row or says that there is none.
func (db *DB) remove(ctx context.Context, kind, query, id string) error {
	return db.w.transact(ctx, func(c *conn) error {
		n, err := c.exec(query, id)
		if err == nil && n == 0 {
			return &opError{fmt.Errorf("%s %s: %w", kind, id, persistence.ErrNotFound)}
		}
		return err
	})
}

type loginSessions struct{ db *DB }

const loginColumns = `id, user_id, token_hash, expires_at, created_at`

// Create stores a new session.
func (r loginSessions) Create(ctx context.Context, s persistence.LoginSession) error {
	return r.db.w.transact(ctx, func(c *conn) error {
		err := c.text(`INSERT INTO sessions (`+loginColumns+`) VALUES (?1, ?2, ?3, ?4, ?5)`,
			s.ID, s.UserID, s.TokenHash[:], micros(s.ExpiresAt), micros(s.CreatedAt))
		if isForeignKey(err) {
			return &opError{fmt.Errorf("user %s: %w", s.UserID, persistence.ErrNotFound)}
		}
		return taken(err, "session", s.ID)
	})
}

// ByToken returns the session of a token that is not over.
func (r loginSessions) ByToken(ctx context.Context, h persistence.TokenHash) (persistence.LoginSession, error) {
	list, err := r.list(ctx, ` WHERE token_hash = ? AND expires_at > ?`, h[:], time.Now().UnixMicro())
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("session: %w", persistence.ErrNotFound)
	}
	if err != nil {
		return persistence.LoginSession{}, err
	}
	return list[0], nil
}

// List returns the sessions of a user that are not over.
func (r loginSessions) List(ctx context.Context, user string) ([]persistence.LoginSession, error) {
	return r.list(ctx, ` WHERE user_id = ? AND expires_at > ? ORDER BY created_at, id`, user, time.Now().UnixMicro())
}

func (r loginSessions) list(ctx context.Context, where string, args ...any) ([]persistence.LoginSession, error) {
	return list(ctx, r.db, decodeLogin, 5, `SELECT `+loginColumns+` FROM sessions`+where, args...)
}

func decodeLogin(v []driver.Value) (persistence.LoginSession, error) {
	s := persistence.LoginSession{ID: text(v[0]), UserID: text(v[1]), ExpiresAt: fromMicros(integer(v[3])), CreatedAt: fromMicros(integer(v[4]))}
	copy(s.TokenHash[:], blob(v[2]))
	return s, nil
}

// Delete ends one session.
func (r loginSessions) Delete(ctx context.Context, id string) error {
	return r.db.remove(ctx, "session", `DELETE FROM sessions WHERE id = ?1`, id)
}

// DeleteOf ends all sessions of a user.
func (r loginSessions) DeleteOf(ctx context.Context, user string) (int, error) {
	return r.delete(ctx, `DELETE FROM sessions WHERE user_id = ?1`, user)
}

// Sweep removes sessions that are over.
func (r loginSessions) Sweep(ctx context.Context, limit int) (int, error) {
	return r.delete(ctx, `DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at <= ?1 LIMIT ?2)`, time.Now().UnixMicro(), int64(limit))
}

func (r loginSessions) delete(ctx context.Context, query string, args ...driver.Value) (n int, err error) {
	err = r.db.w.transact(ctx, func(c *conn) error {
		changed, err := c.exec(query, args...)
		n = int(changed)
		return err
	})
	return n, err
}
