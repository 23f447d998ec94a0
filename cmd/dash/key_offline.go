package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/cmd/internal/accounts"
	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/cmd/internal/engine"
	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/sqlite"
)

// storeFlagNames go with --admin alone: without it a node is asked.
var storeFlagNames = []string{"data", "store", "postgres-url", "redis-url", config.FileFlag, "admin-key-file"}

// createOffline makes an admin key in the store, without a node.
func createOffline(t *terminal, cmd *cobra.Command, o output, name string, life time.Duration) error {
	if name == "" || len(name) > 100 {
		return usage(next.NameWhoUses, "the name has %d bytes, 1 to 100 are possible", len(name))
	}
	l, err := storeConfig(t, cmd, true)
	if err != nil {
		return err
	}
	if err := ownStore(l); err != nil {
		return err
	}
	k := accounts.AdminKey{Name: name, By: whoRuns(), Cost: bcryptCost}
	if life > 0 {
		k.Expires = time.Now().Add(life).UTC().Truncate(time.Second)
	}
	key, text, err := createAdmin(cmd.Context(), l.Config, k)
	var locked *sqlite.LockedError
	if errors.As(err, &locked) {
		return &failure{code: exitConflict, what: fmt.Sprintf("the store in %s is in use by %s", locked.Dir, locked.Holder),
			next: next.StopNodeRepeat, err: err}
	}
	if err != nil {
		return storeError(err)
	}
	shown := text.Reveal()
	view := api.ApiKey{Id: key.ID, Name: key.Name, Permissions: key.Permissions, Active: true, CreatedAt: key.CreatedAt, Version: key.Version, Key: &shown}
	if !key.ExpiresAt.IsZero() {
		view.ExpiresAt = &key.ExpiresAt
	}
	if err := printOne(t, o, keyColumns, view); err != nil {
		return err
	}
	fmt.Fprintln(t.err, "keep the key now: it is not shown again; "+keepKey(l.KeyFile(), l.AdminKeyFile != "", text))
	return nil
}

func createAdmin(ctx context.Context, cfg config.Config, k accounts.AdminKey) (key persistence.Key, text messages.Secret, err error) {
	rows, shut, err := engine.Accounts(ctx, cfg)
	if err != nil {
		return key, "", err
	}
	defer func() { err = errors.Join(err, shut()) }()
	return accounts.CreateAdmin(ctx, rows, k)
}

// keepKey puts the key where clients on the node's machine look for it, unless
// a key is there, and says so. Not every store has a folder on this machine.
func keepKey(file string, asked bool, key messages.Secret) string {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return file + " holds another one and stays as it is"
	case err != nil && asked:
		return fmt.Sprintf("it could not be written to %s (%v), so clients need it in DASH_API_KEY", file, err)
	case err != nil:
		return "clients need it in DASH_API_KEY"
	}
	_, err = f.WriteString(key.Reveal() + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Sprintf("it could not be written to %s: %v", file, err)
	}
	return "it is also in " + file + ", where clients of this machine find it"
}

// ownStore refuses root on the folder of somebody else: what it would write
// there the node could not open afterwards.
func ownStore(l *config.Loaded) error {
	if l.Store != config.EngineSQLite {
		return nil
	}
	info, err := os.Stat(filepath.Join(l.Data, sqlite.FileName))
	if errors.Is(err, fs.ErrNotExist) {
		return &failure{code: exitNotFound, what: "there is no store in " + l.Data, next: next.GiveNodeFolder}
	}
	if err != nil {
		return &failure{code: exitFailed, what: err.Error(), next: next.RunAsNodeUser, err: err}
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 && s.Uid != 0 {
		return usage(fmt.Sprintf(next.RunAsStoreOwner, s.Uid),
			"the store in %s belongs to the user %d, who could not open what root writes there", l.Data, s.Uid)
	}
	return nil
}

// whoRuns names the person in front of this command for the audit log.
func whoRuns() string {
	name := fmt.Sprintf("uid %d", os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}
