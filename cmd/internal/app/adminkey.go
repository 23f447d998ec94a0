package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/postgres"
	"github.com/dash-fleet/dash/persistence/sqlite"
)

// AdminKey is what CreateAdminKey makes.
type AdminKey struct {
	Name    string
	Expires time.Time // zero: never
	// By says who made it, for the audit log: the store cannot know.
	By   string
	Cost int // of bcrypt; 0: auth.DefaultCost
}

// CreateAdminKey makes a key that may do everything in the store itself, for
// whoever can read the store and has lost all such keys. Nodes that run on a
// shared store accept it at once; the embedded one must have no node.
func CreateAdminKey(ctx context.Context, cfg config.Config, k AdminKey) (key persistence.Key, text messages.Secret, err error) {
	if k.Cost == 0 {
		k.Cost = auth.DefaultCost
	}
	text, id, hash, err := auth.NewKey(k.Cost)
	if err != nil {
		return key, "", err
	}
	key = persistence.Key{
		ID: id, Hash: hash, Digest: auth.Digest(text), Name: k.Name, Permissions: []string{persistence.AdminPermission},
		CreatedAt: messages.Now(), ExpiresAt: k.Expires, Active: true, Version: 1,
	}
	repos, shut, err := openAccounts(ctx, cfg)
	if err != nil {
		return key, "", err
	}
	defer func() { err = errors.Join(err, shut()) }()
	detail, err := json.Marshal(map[string]any{"all_tenants": true, "by": k.By, "name": k.Name, "offline": true, "permissions": key.Permissions})
	if err != nil {
		return key, "", fmt.Errorf("encode for the audit log: %w", err)
	}
	// The audit log first: no key counts that it does not name.
	_, err = repos.Audit.Append(ctx, persistence.AuditEntry{Time: messages.Now(), Actor: "system", Action: "createKey", Target: id, Detail: string(detail)})
	if err != nil {
		return key, "", fmt.Errorf("write to the audit log: %w", err)
	}
	if err := repos.Keys.Create(ctx, key); err != nil {
		return key, "", fmt.Errorf("store admin key: %w", err)
	}
	return key, text, nil
}

// openAccounts opens the part of the configured store that holds the keys.
func openAccounts(ctx context.Context, cfg config.Config) (persistence.Repositories, func() error, error) {
	if cfg.Store == config.EngineSQLite {
		db, err := sqlite.Open(ctx, sqlite.Config{Dir: cfg.Data})
		if err != nil {
			return persistence.Repositories{}, nil, err
		}
		return db.Repositories(), db.Close, nil
	}
	// What the server may lose was decided when its nodes were started: a key is
	// no accepted work, and there is no other way back to it.
	db, err := postgres.Open(ctx, postgres.Config{URL: cfg.PostgresURL, AcceptLoss: true})
	if err != nil {
		return persistence.Repositories{}, nil, err
	}
	return db.Repositories(), db.Close, nil
}
