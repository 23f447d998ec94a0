package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

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
	keys, err := a.repos.Keys.List(ctx)
	if err != nil {
		return fmt.Errorf("list api keys: %w", err)
	}
	if len(keys) > 0 {
		return nil
	}
	cost := a.deps.BcryptCost
	if cost == 0 {
		cost = auth.DefaultCost
	}
	text, id, hash, err := auth.NewKey(cost)
	if err != nil {
		return err
	}
	// The file comes first: a key that nobody can read would lock everybody out.
	if err := os.WriteFile(a.keyFile, []byte(text.Reveal()+"\n"), 0o600); err != nil {
		return fmt.Errorf("write admin key: %w; give another place with --admin-key-file", err)
	}
	made, err := a.repos.Keys.CreateFirst(ctx, persistence.Key{
		ID: id, Hash: hash, Name: "admin", Permissions: []string{string(auth.Admin)},
		RateLimit: 100, CreatedAt: messages.Now(), Active: true,
	})
	if err != nil {
		return fmt.Errorf("store admin key: %w", err)
	}
	if made {
		a.adminKey = text
		a.logger.Info("made the first admin key", slog.String("key_id", id), slog.String("file", a.keyFile))
	}
	return nil
}

// startKeyStore gives the API the keys as the store has them.
func (a *App) startKeyStore(ctx context.Context) *keyStore {
	a.keys = newKeyStore(a.repos.Keys, a.logger)
	a.keys.start(context.WithoutCancel(ctx))
	a.cleanup.add("key store", func(context.Context) error { a.keys.stop(); return nil })
	return a.keys
}
