package app

import (
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/bcrypt"

	"github.com/dash-fleet/dash/cmd/internal/accounts"
	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/cmd/internal/engine"
	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence/testserver"
)

// startProcess starts a node as dash serve would, and returns a client with the key.
func startProcess(t *testing.T, cfg config.Config, key messages.Secret) (*App, *api.Client) {
	t.Helper()
	a, err := Start(t.Context(), cfg, Deps{Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Version: "test", BcryptCost: bcrypt.MinCost})
	if err != nil {
		t.Fatal(err)
	}
	if made, _ := a.AdminKey(); key.Empty() {
		key = made
	}
	return a, apiClient(t, a, key)
}

func apiClient(t *testing.T, a *App, key messages.Secret) *api.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := api.NewClient(a.URL(), key.Reveal(), &http.Client{Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantCode checks that a call was refused with a code.
func wantCode(t *testing.T, err error, code messages.Code) {
	t.Helper()
	var refusal *api.Error
	if !errors.As(err, &refusal) || refusal.Code != string(code) {
		t.Errorf("%v, want %s", err, code)
	}
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestAccounts makes keys and users through the API, restarts the node, and
// uses and ends them.
func TestAccounts(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*config.Config){
		"sqlite": func(*config.Config) {},
		"postgres": func(c *config.Config) {
			c.Store, c.PostgresURL = config.EnginePostgres, messages.Secret(testserver.Postgres(t).Database(t))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config.Default()
			cfg.Data, cfg.Node, cfg.Listen = t.TempDir(), "n", "127.0.0.1:0"
			change(&cfg)
			accountsOf(t, cfg)
		})
	}
}

func accountsOf(t *testing.T, cfg config.Config) {
	ctx := t.Context()
	a, admin := startProcess(t, cfg, "")
	adminKey, _ := a.AdminKey()
	key := must(admin.CreateKey(ctx, api.CreateKey{Name: "ci", Permissions: []api.Permission{"submit"}}))(t)
	text := messages.Secret(*key.Key)
	email, password := "ann@example.com", "correct horse battery"
	user := must(admin.CreateUser(ctx, api.CreateUser{Email: "Ann@Example.com", Password: password}))(t)
	if user.Email != email || user.Role != auth.RoleUser || *user.Tenant != messages.DefaultTenant {
		t.Errorf("%+v", user)
	}
	_, err := admin.CreateUser(ctx, api.CreateUser{Email: email, Password: password})
	wantCode(t, err, messages.CodeConflict)
	_, err = admin.CreateUser(ctx, api.CreateUser{Email: "b@example.com", Password: "ääääääääääääääääääääääääääääääääääääääää"})
	wantCode(t, err, messages.CodeInvalid) // 80 bytes in 40 letters
	unknown := "nobody"
	_, err = admin.CreateKey(ctx, api.CreateKey{Name: "x", Permissions: []api.Permission{"read"}, Tenant: &unknown})
	wantCode(t, err, messages.CodeInvalid)
	must(apiClient(t, a, text).ListPools(ctx, api.Page{}))(t)
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}

	a, admin = startProcess(t, cfg, adminKey)
	t.Cleanup(func() {
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
	})
	ci := apiClient(t, a, text)
	must(ci.ListPools(ctx, api.Page{}))(t)
	_, err = ci.ListNodes(ctx)
	wantCode(t, err, messages.CodeForbidden)
	_, err = ci.ListKeys(ctx, api.Page{})
	wantCode(t, err, messages.CodeForbidden)
	usersOf(t, a, admin, user.Id, password)
	revoked := must(admin.RevokeKey(ctx, key.Id))(t)
	if revoked.Active || revoked.Version != 2 {
		t.Errorf("%+v", revoked)
	}
	must(admin.RevokeKey(ctx, key.Id))(t)  // changes nothing, and is no row of the audit log
	_, err = ci.ListPools(ctx, api.Page{}) // at once, on this node
	wantCode(t, err, messages.CodeUnauthorized)
	adminID := lastAdmin(t, admin)
	// A key that ends does not take the place of one that stays.
	all, soon := true, time.Now().Add(4*time.Second).UTC()
	must(admin.CreateKey(ctx, api.CreateKey{Name: "ends", Permissions: []api.Permission{"admin"}, AllTenants: &all, ExpiresAt: &soon}))(t)
	_, err = admin.RevokeKey(ctx, adminID)
	wantCode(t, err, messages.CodeWrongState)
	auditOf(t, admin)
}

// fits reports whether the hash was made of this password.
func fits(hash []byte, password string) bool {
	return bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil
}

// usersOf changes a user and checks the password as a login will.
func usersOf(t *testing.T, a *App, admin *api.Client, id, password string) {
	t.Helper()
	ctx := t.Context()
	stored := must(a.repos.Users.Get(ctx, id))(t)
	if !fits(stored.PasswordHash, password) || fits(stored.PasswordHash, password+"!") {
		t.Error("the password does not fit its hash")
	}
	role, other := api.Role("admin"), "another password"
	changed := must(admin.UpdateUser(ctx, id, api.UpdateUser{Role: &role, Password: &other}, api.WithVersion(1)))(t)
	if changed.Role != "admin" || changed.Version != 2 {
		t.Errorf("%+v", changed)
	}
	_, err := admin.UpdateUser(ctx, id, api.UpdateUser{Role: &role}, api.WithVersion(1))
	wantCode(t, err, messages.CodeVersionClash)
	if stored = must(a.repos.Users.Get(ctx, id))(t); !fits(stored.PasswordHash, other) {
		t.Error("the new password does not fit its hash")
	}
	page := must(admin.ListUsers(ctx, "ANN@example.com", api.Page{}))(t)
	if len(page.Items) != 1 || page.Items[0].Id != id {
		t.Errorf("%+v", page)
	}
	if err := admin.DeleteUser(ctx, id); err != nil {
		t.Fatal(err)
	}
	_, err = admin.GetUser(ctx, id)
	wantCode(t, err, messages.CodeNotFound)
}

func lastAdmin(t *testing.T, admin *api.Client) (id string) {
	t.Helper()
	for _, k := range must(admin.ListKeys(t.Context(), api.Page{}))(t).Items {
		if k.Name == "admin" {
			id = k.Id
			if k.Tenant != nil || !k.Active {
				t.Errorf("%+v", k)
			}
		}
	}
	return id
}

func auditOf(t *testing.T, admin *api.Client) {
	t.Helper()
	var actions []string
	for _, r := range must(admin.ListAudit(t.Context(), api.Page{}))(t).Items {
		if _, refused := r.Detail["refused"]; refused { // and so on record, too, within a second
			continue
		}
		actions = append(actions, r.Action)
		_, before := r.Detail["before"]
		_, after := r.Detail["after"]
		if r.Actor != "system" && (before != (r.Action[:6] != "create") || after != (r.Action != "deleteUser")) && r.Action != "updateUser" {
			t.Errorf("%s: before and after are %v", r.Action, r.Detail)
		}
	}
	want := []string{"createKey", "revokeKey", "deleteUser", "updateUser", "createUser", "createKey", "createKey"}
	if len(actions) != len(want) {
		t.Fatalf("%v, want %v", actions, want)
	}
	for i := range want {
		if actions[i] != want[i] {
			t.Errorf("%v, want %v", actions, want)
		}
	}
	if v := must(admin.VerifyAudit(t.Context()))(t); !v.Intact || v.Rows < int64(len(want)) {
		t.Errorf("%+v", v)
	}
}

// TestKeyRevokedOnAnotherNode: two nodes on one database.
func TestKeyRevokedOnAnotherNode(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), messages.Secret(testserver.Postgres(t).Database(t))
	var nodes [2]*App
	var clients [2]*api.Client
	var key messages.Secret
	for i := range nodes {
		cfg := config.Default()
		cfg.Data, cfg.Node, cfg.Listen = t.TempDir(), "n"+strconv.Itoa(i), "127.0.0.1:0"
		cfg.Store, cfg.PostgresURL = config.EnginePostgres, url
		nodes[i], clients[i] = startProcess(t, cfg, key)
		t.Cleanup(func() {
			if err := nodes[i].Stop(); err != nil {
				t.Error(err)
			}
		})
		if i == 0 {
			key, _ = nodes[0].AdminKey()
		}
	}
	unlimited := 0 // it is used as often as it goes
	made := must(clients[0].CreateKey(ctx, api.CreateKey{Name: "ci", Permissions: []api.Permission{"read"}, RateLimit: &unlimited}))(t)
	ci := apiClient(t, nodes[1], messages.Secret(*made.Key))
	must(ci.ListPools(ctx, api.Page{}))(t)
	must(clients[0].RevokeKey(ctx, made.Id))(t)
	revoked := time.Now()
	for {
		asked := time.Now()
		_, err := ci.ListPools(ctx, api.Page{})
		if err != nil {
			wantCode(t, err, messages.CodeUnauthorized)
			break
		}
		if asked.Sub(revoked) > time.Second {
			t.Fatalf("accepted %v after it was revoked", asked.Sub(revoked))
		}
	}
	t.Logf("refused after %v", time.Since(revoked))
}

// TestLostKeyOfAServerThatLoses: a key is no accepted work. Whoever lost all of
// them gets one on a server without fsync too, on which nodes run that accept it.
func TestLostKeyOfAServerThatLoses(t *testing.T) {
	t.Parallel()
	server := testserver.NewPostgres(t, testserver.PostgresOptions{})
	cfg := config.Default()
	cfg.Store, cfg.PostgresURL, cfg.PostgresAcceptLoss = config.EnginePostgres, messages.Secret(server.Database(t)), true
	cfg.Data, cfg.Listen = t.TempDir(), "127.0.0.1:0"
	if err := server.Set(t.Context(), "fsync", "off"); err != nil {
		t.Fatal(err)
	}
	a, _ := startProcess(t, cfg, "")
	t.Cleanup(func() {
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
	})
	cfg.PostgresAcceptLoss = false // the command has no such flag
	rows, shut, err := engine.Accounts(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, text, err := accounts.CreateAdmin(t.Context(), rows, accounts.AdminKey{Name: "way-back", By: "me", Cost: bcrypt.MinCost})
	if err := errors.Join(err, shut()); err != nil {
		t.Fatal(err)
	}
	if _, err := apiClient(t, a, text).ListKeys(t.Context(), api.Page{}); err != nil {
		t.Errorf("the key is refused: %v", err)
	}
}
