package messages

import "time"

// Key is an API key as everybody may see it who may see keys: without its text and
// hash.
type Key struct {
	ID          string // public key_id, part of the key's text
	Name        string
	Tenant      string // empty: all tenants
	Permissions []string
	RateLimit   int // requests per minute; 0: no limit
	CreatedAt   time.Time
	ExpiresAt   time.Time // zero: never
	LastUsedAt  time.Time // zero: not yet
	Active      bool
	Version     int64  // grows with every change but that of LastUsedAt
	Parent      string `json:",omitempty"` // the key that made it; empty: none did
}

// User is a person with a password, which is never told.
type User struct {
	ID        string
	Email     string // in lower case, unique
	Role      string
	Tenant    string // empty: all tenants
	CreatedAt time.Time
	Version   int64
}

// Tenant owns gateways, pools, tasks, keys and users.
type Tenant struct {
	ID        string
	Name      string
	CreatedAt time.Time
	Version   int64
}
