package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

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

// keyStore gives the API's authenticator its view of the keys. The embedded
// store has one process, so versions can be kept in memory.
type keyStore struct {
	repo persistence.Keys

	mu       sync.RWMutex
	versions map[string]int64
}

func newKeyStore(repo persistence.Keys) *keyStore {
	return &keyStore{repo: repo, versions: map[string]int64{}}
}

// Version implements auth.KeyStore.
func (k *keyStore) Version(ctx context.Context, id string) (int64, error) {
	k.mu.RLock()
	v, ok := k.versions[id]
	k.mu.RUnlock()
	if ok {
		return v, nil
	}
	key, err := k.Key(ctx, id)
	return key.Version, err
}

// Key implements auth.KeyStore.
func (k *keyStore) Key(ctx context.Context, id string) (auth.Key, error) {
	row, err := k.repo.Get(ctx, id)
	if errors.Is(err, persistence.ErrNotFound) {
		return auth.Key{}, &messages.Error{Code: messages.CodeNotFound, Message: "there is no such key"}
	}
	if err != nil {
		return auth.Key{}, fmt.Errorf("read api key: %w", err)
	}
	k.mu.Lock()
	k.versions[id] = row.Version
	k.mu.Unlock()
	return auth.Key{
		ID: row.ID, Hash: row.Hash, Name: row.Name, Tenant: row.Tenant, Permissions: row.Permissions,
		ExpiresAt: row.ExpiresAt, Active: row.Active, Version: row.Version,
	}, nil
}

// Touch implements auth.KeyStore.
func (k *keyStore) Touch(ctx context.Context, used map[string]time.Time) error {
	return k.repo.Touch(ctx, used)
}
