package persistence

import (
	"strconv"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// A cursor of Store.Tasks is the place, in the order of lists, behind which the
// page goes on. Places grow in commit order, and none is less than its task's
// time of creation in microseconds.

// Cursor is the cursor behind a place.
func Cursor(place int64) string { return strconv.FormatInt(place, 36) }

// CursorPlace is the place of a cursor, 0 for none.
func CursorPlace(cursor string) (int64, error) {
	if cursor == "" {
		return 0, nil
	}
	place, err := strconv.ParseInt(cursor, 36, 64)
	if err != nil || place <= 0 {
		return 0, &messages.Error{Code: messages.CodeInvalid, Message: "the cursor is not one that this store gave out", NextStep: next.StartWithoutCursor, Err: err}
	}
	return place, nil
}

// SearchedTo is how far a page looked that ended early: every task created
// after this time was looked at.
func SearchedTo(cursor string) time.Time {
	place, err := CursorPlace(cursor)
	if err != nil || place == 0 {
		return time.Time{}
	}
	return time.UnixMicro(place).UTC()
}

// SessionPlace is a session's place in the order of Store.Sessions.
func SessionPlace(s messages.Session) string { return s.ID + "/" + s.Tenant }

// SplitSessionPlace is the id and tenant of a place. A bare id, which no place
// is, stands behind the sessions of that id of all tenants.
func SplitSessionPlace(after string) (id, tenant string) {
	id, tenant, ok := strings.Cut(after, "/")
	if !ok && id != "" {
		tenant = "\x7f"
	}
	return id, tenant
}
