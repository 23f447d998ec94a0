package accounts

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// AdminKey is what CreateAdmin makes.
type AdminKey struct {
	Name    string
	Expires time.Time // zero: never
	// By says who made it, for the audit log: the store cannot know.
	By   string
	Cost int // of bcrypt; 0: auth.DefaultCost
}

// CreateAdmin makes a key that may do everything in the store itself, for
// whoever can read the store and has lost all such keys. Nodes that run on a
// shared store accept it at once; the embedded one must have no node.
func CreateAdmin(ctx context.Context, rows persistence.Repositories, k AdminKey) (key persistence.Key, text messages.Secret, err error) {
	if k.Cost == 0 {
		k.Cost = auth.DefaultCost
	}
	text, id, hash, err := auth.NewKey(k.Cost)
	if err != nil {
		return key, "", err
	}
	key = persistence.Key{Hash: hash, Digest: auth.Digest(text), Key: messages.Key{
		ID: id, Name: k.Name, Permissions: []string{persistence.AdminPermission}, CreatedAt: messages.Now(), ExpiresAt: k.Expires, Active: true, Version: 1,
	}}
	detail, err := json.Marshal(map[string]any{"all_tenants": true, "by": k.By, "name": k.Name, "offline": true, "permissions": key.Permissions})
	if err != nil {
		return key, "", fmt.Errorf("encode for the audit log: %w", err)
	}
	// The audit log first: no key counts that it does not name.
	_, err = rows.Audit.Append(ctx, persistence.AuditEntry{Time: messages.Now(), Actor: "system", Action: "createKey", Target: id, Detail: string(detail)})
	if err != nil {
		return key, "", fmt.Errorf("write to the audit log: %w", err)
	}
	if err := rows.Keys.Create(ctx, key); err != nil {
		return key, "", fmt.Errorf("store admin key: %w", err)
	}
	return key, text, nil
}
