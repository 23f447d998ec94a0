package server

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

const defaultRateLimit = 100 // per minute

// accountTenant is the tenant of a new or changed account, empty for all:
// nobody gives away more than he has.
func (c *call) accountTenant(named *string, all *bool) (string, error) {
	switch {
	case !value(all):
		return c.ownTenant(named)
	case named != nil:
		return "", invalid(messages.FieldError{Pointer: "/all_tenants", Detail: "must not be given together with tenant"})
	case c.tenant() != "":
		return "", otherTenant()
	}
	return "", nil
}

func (s *Server) createKey(c *call) error {
	var b api.CreateKey
	if err := c.body(&b); err != nil {
		return err
	}
	tenant, err := c.accountTenant(b.Tenant, b.AllTenants)
	if err != nil {
		return err
	}
	k := messages.Key{Name: b.Name, Tenant: tenant, RateLimit: defaultRateLimit}
	if b.RateLimit != nil {
		k.RateLimit = *b.RateLimit
	}
	for _, p := range b.Permissions {
		k.Permissions = append(k.Permissions, string(p))
	}
	if b.ExpiresAt != nil {
		if k.ExpiresAt = b.ExpiresAt.UTC(); !k.ExpiresAt.After(messages.Now()) {
			return invalid(messages.FieldError{Pointer: "/expires_at", Detail: "is over already"})
		}
	}
	if err := inherit(&k, c.principal, b.RateLimit != nil); err != nil {
		return err
	}
	k, text, err := s.cmd.Accounts.CreateKey(c.ctx(), k, c.onceID())
	if err != nil {
		return err
	}
	v := viewKey(k)
	if c.kept, err = json.Marshal(v); err != nil { // a repetition tells all but the text
		return err
	}
	if text != "" {
		shown := text.Reveal()
		v.Key = &shown
	} else { // it was made before, and its answer was forgotten
		c.repeated()
	}
	return c.created(http.StatusCreated, prefix+"/keys/"+k.ID, v)
}

// inherit makes a key no stronger than its maker: what was not asked for ends and
// is limited with it, and what was asked for is refused beyond that.
func inherit(k *messages.Key, maker *auth.Principal, rateAsked bool) error {
	var wrong []messages.FieldError
	k.Parent, _ = strings.CutPrefix(maker.ID, "key:")
	if end := maker.ExpiresAt; !end.IsZero() {
		if k.ExpiresAt.IsZero() {
			k.ExpiresAt = end
		} else if k.ExpiresAt.After(end) {
			wrong = append(wrong, messages.FieldError{Pointer: "/expires_at", Detail: "must not be later than the end of the key that makes it, " + end.UTC().Format(time.RFC3339)})
		}
	}
	if most := maker.RateLimit; most > 0 {
		if !rateAsked {
			k.RateLimit = min(k.RateLimit, most)
		} else if k.RateLimit == 0 || k.RateLimit > most {
			wrong = append(wrong, messages.FieldError{Pointer: "/rate_limit", Detail: "must be 1 to " + strconv.Itoa(most) + ", the limit of the key that makes it"})
		}
	}
	for i, p := range k.Permissions {
		for _, one := range auth.Expand([]auth.Permission{auth.Permission(p)}) {
			if !maker.May(one) {
				wrong = append(wrong, messages.FieldError{Pointer: "/permissions/" + strconv.Itoa(i), Detail: "the key that makes it lacks " + string(one)})
				break
			}
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return &messages.Error{
		Code: messages.CodeForbidden, Message: "a key makes none that is stronger than itself", NextStep: next.AskForLess, Fields: wrong,
	}
}

// lasting refuses to let a key that ends make what does not.
func (c *call) lasting() error {
	if c.principal.ExpiresAt.IsZero() {
		return nil
	}
	return &messages.Error{
		Code: messages.CodeForbidden, Message: "this key ends at " + c.principal.ExpiresAt.UTC().Format(time.RFC3339) + ", and users do not: it makes and changes none",
		NextStep: next.UseLastingKey,
	}
}

func viewKey(k messages.Key) api.ApiKey {
	return api.ApiKey{
		Id: k.ID, Parent: text(k.Parent), Name: k.Name, Tenant: text(k.Tenant), Permissions: list(k.Permissions), RateLimit: k.RateLimit, Active: k.Active,
		CreatedAt: k.CreatedAt.UTC(), ExpiresAt: moment(k.ExpiresAt), LastUsedAt: moment(k.LastUsedAt), Version: k.Version,
	}
}

func (s *Server) listKeys(c *call) error {
	after, err := c.afterID()
	if err != nil {
		return err
	}
	h, err := c.weigh(weighList)
	if err != nil {
		return err
	}
	defer h.release()
	some, err := s.cmd.Accounts.Keys(c.ctx(), c.tenant(), after, c.limit()+1) // one more tells whether there is a next page
	if err != nil {
		return err
	}
	return page(c, some, func(k messages.Key) string { return k.ID }, viewKey)
}

func (s *Server) getKey(c *call) error {
	k, err := s.cmd.Accounts.Key(c.ctx(), c.tenant(), c.param)
	if err != nil {
		return err
	}
	return c.ok(http.StatusOK, viewKey(k))
}

func (s *Server) revokeKey(c *call) error {
	k, err := s.cmd.Accounts.RevokeKey(c.ctx(), c.tenant(), c.param, c.query.Get("keep_children") == "true")
	if err != nil {
		return err
	}
	return c.ok(http.StatusOK, viewKey(k))
}

func (s *Server) createUser(c *call) error {
	if err := c.lasting(); err != nil {
		return err
	}
	var b api.CreateUser
	if err := c.body(&b); err != nil {
		return err
	}
	tenant, err := c.accountTenant(b.Tenant, b.AllTenants)
	if err != nil {
		return err
	}
	u := messages.User{Email: strings.ToLower(b.Email), Tenant: tenant, Role: string(or(b.Role, auth.RoleUser))}
	if u, err = s.cmd.Accounts.CreateUser(c.ctx(), u, messages.Secret(b.Password)); err != nil {
		return err
	}
	c.etag(u.Version)
	return c.created(http.StatusCreated, prefix+"/users/"+u.ID, viewUser(u))
}

func viewUser(u messages.User) api.User {
	return api.User{Id: u.ID, Email: u.Email, Role: u.Role, Tenant: text(u.Tenant), CreatedAt: u.CreatedAt.UTC(), Version: u.Version}
}

func (s *Server) listUsers(c *call) error {
	after, err := c.afterID()
	if err != nil {
		return err
	}
	h, err := c.weigh(weighList)
	if err != nil {
		return err
	}
	defer h.release()
	some, err := s.cmd.Accounts.Users(c.ctx(), c.tenant(), strings.ToLower(c.query.Get("email")), after, c.limit()+1)
	if err != nil {
		return err
	}
	return page(c, some, func(u messages.User) string { return u.ID }, viewUser)
}

func (s *Server) getUser(c *call) error {
	u, err := s.cmd.Accounts.User(c.ctx(), c.tenant(), c.param)
	if err != nil {
		return err
	}
	c.etag(u.Version)
	return c.ok(http.StatusOK, viewUser(u))
}

func (s *Server) updateUser(c *call) error {
	if err := c.lasting(); err != nil {
		return err
	}
	var b api.UpdateUser
	if err := c.body(&b); err != nil {
		return err
	}
	var ch UserChange
	if b.Tenant != nil || value(b.AllTenants) {
		tenant, err := c.accountTenant(b.Tenant, b.AllTenants)
		if err != nil {
			return err
		}
		ch.Tenant = &tenant
	}
	if b.Role != nil {
		role := string(*b.Role)
		ch.Role = &role
	}
	if b.Password != nil {
		p := messages.Secret(*b.Password)
		ch.Password = &p
	}
	u, err := s.cmd.Accounts.UpdateUser(c.ctx(), c.tenant(), c.param, ch, c.ifMatch())
	if err != nil {
		return err
	}
	c.etag(u.Version)
	return c.ok(http.StatusOK, viewUser(u))
}

func (s *Server) deleteUser(c *call) error {
	if err := s.cmd.Accounts.DeleteUser(c.ctx(), c.tenant(), c.param); err != nil {
		return err
	}
	c.noContent(http.StatusNoContent)
	return nil
}

func (s *Server) createTenant(c *call) error {
	var b api.CreateTenant
	if err := c.body(&b); err != nil {
		return err
	}
	if c.tenant() != "" {
		return otherTenant()
	}
	if strings.Contains(b.Id, ":") {
		// At a gateway a session's key is <tenant>:<session>:…: a:b with c must not be a with b:c.
		return invalid(messages.FieldError{Pointer: "/id", Detail: "must not hold a colon, which parts tenant and session at gateways"})
	}
	t, err := s.cmd.Accounts.CreateTenant(c.ctx(), messages.Tenant{ID: b.Id, Name: or(b.Name, b.Id)})
	if err != nil {
		return err
	}
	c.made = t.ID
	return c.ok(http.StatusCreated, viewTenant(t))
}

func viewTenant(t messages.Tenant) api.TenantEntry {
	return api.TenantEntry{Id: t.ID, Name: t.Name, CreatedAt: t.CreatedAt.UTC(), Version: t.Version}
}

func (s *Server) listTenants(c *call) error {
	after, err := c.afterID()
	if err != nil {
		return err
	}
	h, err := c.weigh(weighList)
	if err != nil {
		return err
	}
	defer h.release()
	some, err := s.cmd.Accounts.Tenants(c.ctx(), c.tenant(), after, c.limit()+1)
	if err != nil {
		return err
	}
	return page(c, some, func(t messages.Tenant) string { return t.ID }, viewTenant)
}
