package messages

import (
	"errors"
	"regexp"

	"github.com/google/uuid"
)

// NewID returns a UUIDv7: ids made later sort later, which keeps inserts at the
// right edge of every index (scattered ids cost SQLite four times as much).
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

var idPattern = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)

// ErrBadID says what an id may look like.
var ErrBadID = errors.New("an id is 1 to 128 characters of A-Z a-z 0-9 . _ : -")

// CheckID returns ErrBadID unless id may name a task, session, gateway, pool or tenant.
func CheckID(id string) error {
	if !idPattern.MatchString(id) {
		return ErrBadID
	}
	return nil
}

// DefaultTenant and DefaultPool own what names no tenant or pool.
const (
	DefaultTenant = "default"
	DefaultPool   = "default"
)
