// Package auth decides who a caller is and what it may do.
//
// Guarantees: the bcrypt hash in the key store is the only authority for an
// API key. A key that passed is remembered for a short time as an HMAC under a
// random key of this process and is checked against the version of its stored
// row on every use, so a revoked key ends as soon as the KeyStore knows of it.
// A wrong key costs no bcrypt comparison: its digest is not that of the row. Of
// a row from before there were digests it costs at most one, and never one of
// somebody else's. No credential is logged, counted or put into an error. Keys owns one
// goroutine from Start to Stop, and one for each background re-check, which
// Stop waits for.
package auth

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// Permission names what a caller may do.
type Permission string

// The permissions. Admin includes all others; Read, Submit and Operate include
// those that Expand lists.
const (
	Admin         Permission = "admin"
	Read          Permission = "read"
	Submit        Permission = "submit"
	Operate       Permission = "operate"
	TasksRead     Permission = "tasks:read"
	TasksWrite    Permission = "tasks:write"
	GatewaysRead  Permission = "gateways:read"
	GatewaysWrite Permission = "gateways:write"
	SessionsRead  Permission = "sessions:read"
	SessionsWrite Permission = "sessions:write"
	PoolsRead     Permission = "pools:read"
	PoolsWrite    Permission = "pools:write"
	NodesRead     Permission = "nodes:read"
	EventsRead    Permission = "events:read"
	MetricsRead   Permission = "metrics:read"
)

// Expand adds to each permission those that it includes, so that what is
// stored keeps its meaning when Dash learns new ones. Accounts, tenants and the
// audit log are for Admin alone.
func Expand(list []Permission) []Permission {
	var all []Permission
	for _, p := range list {
		all = append(all, p)
		switch p {
		case Operate:
			all = append(all, GatewaysWrite, PoolsWrite)
			all = append(all, Expand([]Permission{Read, Submit})...)
		case Submit:
			all = append(all, TasksRead, TasksWrite, SessionsRead, SessionsWrite, PoolsRead, EventsRead)
		case Read:
			all = append(all, TasksRead, GatewaysRead, SessionsRead, PoolsRead, NodesRead, EventsRead, MetricsRead)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// RoleUser is the role of a user who is given none.
const RoleUser = "user"

// Principal is an authenticated caller. It is shared and never changed.
type Principal struct {
	ID          string // public, for logs and audit: "key:<key id>"
	Name        string
	Tenant      string // empty: all tenants
	Permissions []Permission
	RateLimit   int       // requests per minute; 0: no limit
	ExpiresAt   time.Time // zero: never
	// Stale is when the store confirmed the credential for the last time, while
	// the store does not answer; zero: a moment ago.
	Stale time.Time
}

// May reports whether the caller has the permission.
func (p *Principal) May(need Permission) bool {
	return slices.Contains(p.Permissions, need) || slices.Contains(p.Permissions, Admin)
}

// Access is what a route asks of its caller. The zero value lets nobody in, so
// a route that was registered without thinking of it is closed.
type Access struct {
	public bool
	inBand bool
	need   Permission
}

// Public lets everybody in.
func Public() Access { return Access{public: true} }

// Need lets in callers with the permission.
func Need(p Permission) Access { return Access{need: p} }

// InBand lets a caller without credential reach the handler, which must itself
// ask for one and check the permission before it tells anything. A credential
// that is sent with the request is checked as for Need.
func InBand(p Permission) Access { return Access{need: p, inBand: true} }

// IsPublic reports whether everybody is let in.
func (a Access) IsPublic() bool { return a.public }

// IsInBand reports whether the handler checks the credential.
func (a Access) IsInBand() bool { return a.inBand }

// Permission is what the caller needs, empty for a public route.
func (a Access) Permission() Permission { return a.need }

// Allows refuses a caller that may not use the route; p is nil for one without credential.
func (a Access) Allows(p *Principal) error {
	switch {
	case a.public:
		return nil
	case p == nil:
		return Missing()
	case a.need == "" || !p.May(a.need):
		return &messages.Error{
			Code: messages.CodeForbidden, Message: "this credential lacks the permission " + string(a.need),
			NextStep: next.UsePermittedKey,
		}
	}
	return nil
}

// Authenticator checks credentials.
type Authenticator interface {
	// Authenticate returns who the token belongs to. It refuses with a
	// *messages.Error: CodeUnauthorized for a wrong, revoked or expired
	// token, CodeUnavailable with RetryAfter when it cannot be checked now.
	Authenticate(ctx context.Context, token string) (*Principal, error)
	// Changed returns a channel that is closed when any credential may have
	// ended, or the store begins or ceases to answer. An end by time is not told.
	Changed() <-chan struct{}
}

// Token returns the credential of the request's Authorization header, empty
// when there is no header. Anything but one Bearer credential is refused.
func Token(h http.Header) (string, error) {
	v := h["Authorization"]
	if len(v) == 0 {
		return "", nil
	}
	scheme, token, _ := strings.Cut(v[0], " ")
	if len(v) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" || strings.TrimSpace(token) != token {
		return "", &messages.Error{
			Code: messages.CodeUnauthorized, Message: "the Authorization header is not one Bearer credential",
			NextStep: next.SendBearer,
		}
	}
	return token, nil
}

// Missing is the refusal of a caller without credential.
func Missing() *messages.Error {
	return &messages.Error{
		Code: messages.CodeUnauthorized, Message: "this route needs a credential",
		NextStep: next.SendBearerFirstKey,
	}
}

// Wrong is the refusal of a credential that does not hold.
func Wrong() *messages.Error {
	return &messages.Error{
		Code: messages.CodeUnauthorized, Message: "the API key is wrong, revoked or expired",
		NextStep: next.CheckKey,
	}
}
