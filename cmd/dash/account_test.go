package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/http/api"
)

func TestKeyRevoke(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	tenant := "acme"
	key := api.ApiKey{Id: "mfzwizltoq2d", Name: "ci", Tenant: &tenant, Permissions: []string{"submit"}, Active: true, CreatedAt: time.Now(), Version: 1}
	f.answer("GET /api/v1/keys", 200, api.ApiKeyPage{Items: []api.ApiKey{key, {Id: "other"}}})
	f.answer("GET /api/v1/keys/mfzwizltoq2d", 200, key)
	revoked := key
	revoked.Active = false
	f.answer("DELETE /api/v1/keys/mfzwizltoq2d", 200, revoked)
	wantResult(t, f.dash(t.Context(), "", "key", "revoke", "mfzw", "--dry-run"), exitOK, "key mfzwizltoq2d (ci, submit, active) will be refused")
	wantResult(t, f.dash(t.Context(), "", "key", "revoke", "mfzw"), exitUsage, "", "there is no terminal to ask on")
	if slices.ContainsFunc(f.requests(), func(r string) bool { return strings.HasPrefix(r, "DELETE") }) {
		t.Fatal("revoked without a word")
	}
	wantResult(t, f.dash(t.Context(), "", "key", "revoke", "mfzw", "--yes"), exitOK, "revoked")
	wantResult(t, f.dash(t.Context(), "", "key", "show", "mfzwizltoq2d"), exitOK, "tenant       acme")
	wantResult(t, f.dash(t.Context(), "", "key", "list", "--active", "-o", "name"), exitOK, "mfzwizltoq2d")
}

func TestKeyCreateSendsWhatIsAsked(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	text := "dash_mfzwizltoq2d_text"
	f.answer("POST /api/v1/keys", 201, api.ApiKey{Id: "mfzwizltoq2d", Key: &text, Permissions: []string{"read"}, Active: true})
	wantResult(t, f.dash(t.Context(), "", "key", "create", "n", "--permission", "read,tasks:write", "--all-tenants", "--rate-limit", "5", "--expires-in", "1h"),
		exitOK, text, "not shown again")
	wantResult(t, f.dash(t.Context(), "", "key", "create", "n", "--permission", "read", "--all-tenants", "--tenant", "t"), exitUsage, "", "all-tenants")
	wantResult(t, f.dash(t.Context(), "", "key", "create", "n", "--permission", "read", "--expires-in", "-1h"), exitUsage, "", "negative")
	sent := f.requests()[0]
	for _, part := range []string{`"all_tenants":true`, `"permissions":["read","tasks:write"]`, `"rate_limit":5`, `"expires_at":"`} {
		if !strings.Contains(sent, part) {
			t.Errorf("%s lacks %s", sent, part)
		}
	}
}

func TestAuditVerifyTells(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	at, why := int64(7), "the row or the one before was changed"
	f.answer("GET /api/v1/audit/verification", 200, api.AuditVerification{Rows: 6, Head: "ab", BrokenAt: &at, Why: &why})
	wantResult(t, f.dash(t.Context(), "", "audit", "verify"), exitFailed, "intact  false", "broken at row 7")
}

func TestUserPasswords(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.answer("POST /api/v1/users", 201, api.User{Id: "u1", Email: "a@b", Role: "user"})
	wantResult(t, f.dash(t.Context(), "correct horse battery\n", "user", "create", "a@b", "--password-file", "-"), exitOK, "a@b")
	if sent := f.requests()[0]; !strings.Contains(sent, `"password":"correct horse battery"`) {
		t.Errorf("sent %s", sent)
	}
	wantResult(t, f.dash(t.Context(), "\n", "user", "create", "a@b", "--password-file", "-"), exitUsage, "", "empty")
	wantResult(t, f.dash(t.Context(), "", "user", "create", "a@b", "--password-file", "/nowhere"), exitUsage, "", "cannot be read")
}
