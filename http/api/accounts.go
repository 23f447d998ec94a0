package api

import (
	"context"
	"net/http"
)

// CreateKey makes an API key; the answer alone holds its text.
func (c *Client) CreateKey(ctx context.Context, in CreateKey, opts ...Option) (*ApiKey, error) {
	return call[ApiKey](ctx, c, http.MethodPost, "/keys", nil, in, opts)
}

// ListKeys returns a page of API keys.
func (c *Client) ListKeys(ctx context.Context, p Page) (*ApiKeyPage, error) {
	return call[ApiKeyPage](ctx, c, http.MethodGet, "/keys", query{}.page(p), nil, nil)
}

// GetKey returns one API key.
func (c *Client) GetKey(ctx context.Context, id string) (*ApiKey, error) {
	return call[ApiKey](ctx, c, http.MethodGet, "/keys"+seg(id), nil, nil, nil)
}

// RevokeKey ends an API key.
func (c *Client) RevokeKey(ctx context.Context, id string, opts ...Option) (*ApiKey, error) {
	return call[ApiKey](ctx, c, http.MethodDelete, "/keys"+seg(id), nil, nil, opts)
}

// CreateUser makes a user.
func (c *Client) CreateUser(ctx context.Context, in CreateUser, opts ...Option) (*User, error) {
	return call[User](ctx, c, http.MethodPost, "/users", nil, in, opts)
}

// ListUsers returns a page of users, or with email the one who has it.
func (c *Client) ListUsers(ctx context.Context, email string, p Page) (*UserPage, error) {
	return call[UserPage](ctx, c, http.MethodGet, "/users", query{}.set("email", email).page(p), nil, nil)
}

// GetUser returns one user.
func (c *Client) GetUser(ctx context.Context, id string) (*User, error) {
	return call[User](ctx, c, http.MethodGet, "/users"+seg(id), nil, nil, nil)
}

// UpdateUser changes the fields of a user that are set.
func (c *Client) UpdateUser(ctx context.Context, id string, in UpdateUser, opts ...Option) (*User, error) {
	return call[User](ctx, c, http.MethodPatch, "/users"+seg(id), nil, in, opts)
}

// DeleteUser removes a user with all login sessions.
func (c *Client) DeleteUser(ctx context.Context, id string, opts ...Option) error {
	return c.Do(ctx, http.MethodDelete, "/users"+seg(id), nil, nil, nil, opts...)
}

// CreateTenant makes a tenant.
func (c *Client) CreateTenant(ctx context.Context, in CreateTenant, opts ...Option) (*TenantEntry, error) {
	return call[TenantEntry](ctx, c, http.MethodPost, "/tenants", nil, in, opts)
}

// ListTenants returns a page of tenants.
func (c *Client) ListTenants(ctx context.Context, p Page) (*TenantPage, error) {
	return call[TenantPage](ctx, c, http.MethodGet, "/tenants", query{}.page(p), nil, nil)
}

// ListAudit returns a page of the audit log, newest first.
func (c *Client) ListAudit(ctx context.Context, p Page) (*AuditPage, error) {
	return call[AuditPage](ctx, c, http.MethodGet, "/audit", query{}.page(p), nil, nil)
}

// VerifyAudit checks the whole audit log.
func (c *Client) VerifyAudit(ctx context.Context) (*AuditVerification, error) {
	return call[AuditVerification](ctx, c, http.MethodGet, "/audit/verification", nil, nil, nil)
}
