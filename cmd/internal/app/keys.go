package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// firstKey makes the admin key when the store has no key at all. Of many
// processes that start at once exactly one makes it.
func (a *App) firstKey(ctx context.Context) error {
	a.keyFile = a.cfg.AdminKeyFile
	if a.keyFile == "" {
		a.keyFile = filepath.Join(a.cfg.Data, "admin.key")
	}
	draft := a.keyFile + ".new"
	keys, err := a.repos.Keys.List(ctx)
	if err != nil {
		return fmt.Errorf("list api keys: %w", err)
	}
	if len(keys) > 0 {
		return a.finishKey(draft, keys)
	}
	text, id, hash, err := auth.NewKey(a.bcryptCost())
	if err != nil {
		return err
	}
	// The file comes first: a key that nobody can read would lock everybody
	// out. It gets its name when the key counts: another process may be first.
	if err := os.WriteFile(draft, []byte(text.Reveal()+"\n"), 0o600); err != nil {
		return fmt.Errorf("write admin key: %w; give another place with --admin-key-file", err)
	}
	made, err := a.repos.Keys.CreateFirst(ctx, persistence.Key{
		ID: id, Hash: hash, Name: "admin", Permissions: []string{string(auth.Admin)},
		RateLimit: 0, // the operator's own: whoever runs Dash is not to be locked out of it
		CreatedAt: messages.Now(), Active: true,
	})
	if err != nil {
		return fmt.Errorf("store admin key: %w", err)
	}
	if !made {
		return os.Remove(draft)
	}
	if err := os.Rename(draft, a.keyFile); err != nil {
		return fmt.Errorf("name admin key: %w; it is in %s", err, draft)
	}
	a.adminKey = text
	a.logger.Info("made the first admin key", slog.String("key_id", id), slog.String("file", a.keyFile))
	_, err = a.repos.Audit.Append(ctx, persistence.AuditEntry{
		Time: messages.Now(), Actor: "system", Action: "createKey", Target: id, Detail: `{"all_tenants":true,"name":"admin","permissions":["admin"]}`,
	})
	if err != nil {
		a.logger.Error("a change is missing in the audit log", slog.String("action", "createKey"), slog.String("target", id), slog.Any("err", err))
	}
	return nil
}

// finishKey names the file of a key that counts, after a crash just before
// that, and forgets one that does not.
func (a *App) finishKey(draft string, keys []persistence.Key) error {
	text, err := os.ReadFile(draft)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read admin key: %w", err)
	}
	for _, k := range keys {
		if strings.Contains(string(text), k.ID) {
			return os.Rename(draft, a.keyFile)
		}
	}
	return os.Remove(draft)
}

// bcryptCost is that of new keys and passwords.
func (a *App) bcryptCost() int {
	if a.deps.BcryptCost == 0 {
		return auth.DefaultCost
	}
	return a.deps.BcryptCost
}

// startKeyStore gives the API the keys as the store has them.
func (a *App) startKeyStore(ctx context.Context) *keyStore {
	a.keys = newKeyStore(a.repos.Keys, a.logger)
	a.keys.start(context.WithoutCancel(ctx))
	a.cleanup.add("key store", func(context.Context) error { a.keys.stop(); return nil })
	return a.keys
}
