package accounts

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

	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// FirstKey makes the admin key of a store that has none.
type FirstKey struct {
	Rows       persistence.Repositories // of keys and the audit log
	File       string                   // that holds it
	BcryptCost int
	Logger     *slog.Logger
}

// Make makes the key when the store has no key at all. Of many processes that
// start at once exactly one makes it; the others, and later starts, return none.
func (f *FirstKey) Make(ctx context.Context) (messages.Secret, error) {
	keys, err := f.Rows.Keys.List(ctx)
	if err != nil {
		return "", fmt.Errorf("list api keys: %w", err)
	}
	if len(keys) > 0 {
		return "", f.finish(keys)
	}
	text, id, hash, err := auth.NewKey(f.BcryptCost)
	if err != nil {
		return "", err
	}
	// The file comes first: a key that nobody can read would lock everybody
	// out. It gets its name when the key counts: another process may be first,
	// also one that shares the file, so the draft is this one's alone.
	draft := draftOf(f.File, id)
	if err := os.WriteFile(draft, []byte(text.Reveal()+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write admin key: %w; give another place with --admin-key-file", err)
	}
	made, err := f.Rows.Keys.CreateFirst(ctx, persistence.Key{
		Hash: hash, Digest: auth.Digest(text), Key: messages.Key{
			ID: id, Name: "admin", Permissions: []string{string(auth.Admin)}, CreatedAt: messages.Now(), Active: true,
			RateLimit: 0, // the operator's own: whoever runs Dash is not to be locked out of it
		},
	})
	if err != nil {
		return "", fmt.Errorf("store admin key: %w", err)
	}
	if !made {
		return "", removeDraft(draft)
	}
	if err := f.name(draft, text); err != nil {
		return "", fmt.Errorf("name admin key: %w; it is in %s", err, draft)
	}
	f.Logger.Info("made the first admin key", slog.String("key_id", id), slog.String("file", f.File))
	_, err = f.Rows.Audit.Append(ctx, persistence.AuditEntry{
		Time: messages.Now(), Actor: "system", Action: "createKey", Target: id, Detail: `{"all_tenants":true,"name":"admin","permissions":["admin"]}`,
	})
	if err != nil {
		f.Logger.Error("a change is missing in the audit log", slog.String("action", "createKey"), slog.String("target", id), slog.Any("err", err))
	}
	return text, nil
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
	for _, file := range files {
		if strings.HasPrefix(file.Name(), base+".") && strings.HasSuffix(file.Name(), ".new") {
			list = append(list, dir+file.Name())
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

// name gives the draft of a key that counts its name. The key of another
// store that is there is kept: nobody else may have it.
func (f *FirstKey) name(draft string, text messages.Secret) error {
	old, err := os.ReadFile(f.File)
	if err == nil && strings.TrimSpace(string(old)) != text.Reveal() {
		kept := f.File + "." + time.Now().UTC().Format("20060102T150405.000000Z") + ".old"
		if err := os.Rename(f.File, kept); err != nil {
			return err
		}
		f.Logger.Warn("the key file held a key of another store, which is kept", slog.String("file", kept))
	}
	err = os.Rename(draft, f.File)
	if errors.Is(err, os.ErrNotExist) { // a process that shares the file was faster, or took the draft for a left one
		return os.WriteFile(f.File, []byte(text.Reveal()+"\n"), 0o600)
	}
	return err
}

// finish names the file of a key that counts, after a crash just before
// that, and forgets those that do not.
func (f *FirstKey) finish(keys []persistence.Key) error {
	list, err := drafts(f.File)
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
			err = f.name(draft, messages.Secret(strings.TrimSpace(string(text))))
		} else {
			err = removeDraft(draft)
		}
		if err != nil {
			return fmt.Errorf("finish admin key: %w", err)
		}
	}
	return nil
}
