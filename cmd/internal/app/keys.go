package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dash-fleet/dash/cmd/internal/keystore"
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
		return a.finishKey(keys)
	}
	text, id, hash, err := auth.NewKey(a.bcryptCost())
	if err != nil {
		return err
	}
	// The file comes first: a key that nobody can read would lock everybody
	// out. It gets its name when the key counts: another process may be first,
	// also one that shares the file, so the draft is this one's alone.
	draft := draftOf(a.keyFile, id)
	if err := os.WriteFile(draft, []byte(text.Reveal()+"\n"), 0o600); err != nil {
		return fmt.Errorf("write admin key: %w; give another place with --admin-key-file", err)
	}
	made, err := a.repos.Keys.CreateFirst(ctx, persistence.Key{
		ID: id, Hash: hash, Digest: auth.Digest(text), Name: "admin", Permissions: []string{string(auth.Admin)},
		RateLimit: 0, // the operator's own: whoever runs Dash is not to be locked out of it
		CreatedAt: messages.Now(), Active: true,
	})
	if err != nil {
		return fmt.Errorf("store admin key: %w", err)
	}
	if !made {
		return removeDraft(draft)
	}
	if err := a.nameKey(draft, text); err != nil {
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

// draftOf is where a key waits until it counts.
func draftOf(keyFile, id string) string { return keyFile + "." + id + ".new" }

// drafts lists the drafts beside a key file.
func drafts(keyFile string) (list []string, err error) {
	dir, base := filepath.Split(keyFile)
	files, err := os.ReadDir(filepath.Clean(dir))
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
		return nil, err
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), base+".") && strings.HasSuffix(f.Name(), ".new") {
			list = append(list, dir+f.Name())
		}
	}
	return list, nil
}

// removeDraft forgets a key that does not count. Another process that shares
// the file may have done so.
func removeDraft(draft string) error {
	if err := os.Remove(draft); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// nameKey gives the draft of a key that counts its name. The key of another
// store that is there is kept: nobody else may have it.
func (a *App) nameKey(draft string, text messages.Secret) error {
	old, err := os.ReadFile(a.keyFile)
	if err == nil && strings.TrimSpace(string(old)) != text.Reveal() {
		kept := a.keyFile + "." + time.Now().UTC().Format("20060102T150405.000000Z") + ".old"
		if err := os.Rename(a.keyFile, kept); err != nil {
			return err
		}
		a.logger.Warn("the key file held a key of another store, which is kept", slog.String("file", kept))
	}
	err = os.Rename(draft, a.keyFile)
	if errors.Is(err, os.ErrNotExist) { // a process that shares the file was faster, or took the draft for a left one
		return os.WriteFile(a.keyFile, []byte(text.Reveal()+"\n"), 0o600)
	}
	return err
}

// finishKey names the file of a key that counts, after a crash just before
// that, and forgets those that do not.
func (a *App) finishKey(keys []persistence.Key) error {
	list, err := drafts(a.keyFile)
	if err != nil {
		return fmt.Errorf("look for an admin key: %w", err)
	}
	for _, draft := range list {
		text, err := os.ReadFile(draft)
		if errors.Is(err, os.ErrNotExist) {
			continue // of a process that shares the file
		}
		if err != nil {
			return fmt.Errorf("read admin key: %w", err)
		}
		if slices.ContainsFunc(keys, func(k persistence.Key) bool { return strings.Contains(string(text), k.ID) }) {
			err = a.nameKey(draft, messages.Secret(strings.TrimSpace(string(text))))
		} else {
			err = removeDraft(draft)
		}
		if err != nil {
			return fmt.Errorf("finish admin key: %w", err)
		}
	}
	return nil
}

// bcryptCost is that of new keys and passwords.
func (a *App) bcryptCost() int {
	if a.deps.BcryptCost == 0 {
		return auth.DefaultCost
	}
	return a.deps.BcryptCost
}

// startKeyStore gives the API the keys as the store has them.
func (a *App) startKeyStore(ctx context.Context) *keystore.Store {
	a.keys = keystore.New(a.repos.Keys, a.logger)
	a.keys.Start(context.WithoutCancel(ctx))
	a.cleanup.add("key store", func(context.Context) error { a.keys.Stop(); return nil })
	return a.keys
}
