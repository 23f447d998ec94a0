package messages

import (
	"errors"

	"github.com/google/uuid"
)

// NewID returns a UUIDv7: ids made later sort later, which keeps inserts at the
// right edge of every index (scattered ids cost SQLite four times as much).
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// ErrBadID says what an id may look like.
var ErrBadID = errors.New("an id is neither . nor .. but 1 to 128 characters of A-Z a-z 0-9 . _ : -")

// CheckID returns ErrBadID unless id may name a task, session, gateway, pool,
// tenant, node, key or user. It is the one rule for ids, the same as that of the
// API's document. . and .. mean something else in paths, of URLs and of folders.
func CheckID(id string) error {
	if id == "" || len(id) > 128 || id == "." || id == ".." {
		return ErrBadID
	}
	for i := range len(id) {
		if !IDChar(id[i]) {
			return ErrBadID
		}
	}
	return nil
}

// IDChar says whether ids may hold c.
func IDChar(c byte) bool {
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == ':' || c == '-'
}

// DefaultTenant owns what names no tenant; DefaultPool is its own pool.
const (
	DefaultTenant = "default"
	DefaultPool   = DefaultTenant
)

// OwnPool is the pool that a tenant has without making it, for what names no
// pool. It has the tenant's name, and nobody else can have a pool of that name.
func OwnPool(tenant string) string { return tenant }
