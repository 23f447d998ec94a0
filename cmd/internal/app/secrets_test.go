package app

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/cmd/internal/engine"
	"github.com/dash-fleet/dash/cmd/internal/secrets"
	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence/backup"
	"github.com/dash-fleet/dash/persistence/testserver"
)

const canaryToken = "canary-5f1e-token"

// secretLine is a line of a key file.
func secretLine(fill byte) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32)) + "\n"
}

// archived is what an archive of the store says, without its compression.
func archived(t *testing.T, cfg config.Config) string {
	t.Helper()
	src := must(engine.OpenSource(t.Context(), cfg))(t)
	snap := must(src.Snapshot(t.Context()))(t)
	var b bytes.Buffer
	if _, err := backup.Write(t.Context(), &b, snap, backup.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(snap.Close(), src.Close()); err != nil {
		t.Fatal(err)
	}
	z := must(zstd.NewReader(&b))(t)
	defer z.Close()
	var text bytes.Buffer
	must(text.ReadFrom(z))(t)
	return text.String()
}

// TestGatewaySecretsAreSealed in every engine and its archives, those of before
// at the next start; with another key the node refuses, and names it.
func TestGatewaySecretsAreSealed(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]func(*config.Config){
		config.EngineSQLite: func(*config.Config) {},
		config.EnginePostgres: func(c *config.Config) {
			c.PostgresURL = messages.Secret(testserver.Postgres(t).Database(t))
		},
		config.EngineRedis: func(c *config.Config) {
			c.PostgresURL, c.RedisURL = messages.Secret(testserver.Postgres(t).Database(t)), messages.Secret(testserver.Redis(t).URL())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config.Default()
			cfg.Store, cfg.Listen = name, "127.0.0.1:0"
			store(&cfg)
			data := t.TempDir()
			cfg.Data = data
			file := filepath.Join(t.TempDir(), "keys")
			cfg.SecretKeyFile = file
			live := func(keys string, use func(*App)) {
				t.Helper()
				if err := os.WriteFile(file, []byte(keys), 0o600); err != nil {
					t.Fatal(err)
				}
				a := must(startNode(t, cfg, "n", data))(t)
				use(a)
				if err := a.Stop(); err != nil {
					t.Fatal(err)
				}
			}
			live("clear\n", func(a *App) {
				key, _ := a.AdminKey()
				token, url := canaryToken, "ws://127.0.0.1:1"
				must(apiClient(t, a, key).CreateGateway(t.Context(), api.CreateGateway{Id: "gw", Url: &url, Token: &token}))(t)
			})
			if !strings.Contains(archived(t, cfg), canaryToken) {
				t.Fatal("the token of before is nowhere: this test looks at the wrong place")
			}
			for _, keys := range []string{secretLine(1), secretLine(2) + secretLine(1), secretLine(2)} {
				live(keys, func(a *App) {
					if g := must(a.repos.Gateways.Get(t.Context(), "gw"))(t); g.Token.Reveal() != canaryToken {
						t.Errorf("the token became %q", g.Token.Reveal())
					}
					if g := must(a.engine.Repos.Gateways.Get(t.Context(), "gw"))(t); !strings.HasPrefix(g.Token.Reveal(), "sealed:v1:") {
						t.Errorf("the store holds %q", g.Token.Reveal())
					}
				})
				if strings.Contains(archived(t, cfg), canaryToken) {
					t.Error("the archive holds the token in the clear")
				}
			}
			if err := os.WriteFile(file, []byte(secretLine(1)), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := startNode(t, cfg, "n", data)
			var wrong *secrets.Error
			if !errors.As(err, &wrong) || !strings.Contains(wrong.Error(), file) || !strings.Contains(wrong.NextStep(), "lost "+wrong.KeyID) {
				t.Errorf("with the key of before: %v", err)
			}
		})
	}
}

// TestStandbyWithAWrongKeySaysSo although nothing was sealed when it started:
// while it stands by, and not only when it is needed.
func TestStandbyWithAWrongKeySaysSo(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Store, cfg.Listen, cfg.PostgresURL = config.EnginePostgres, "127.0.0.1:0", messages.Secret(testserver.Postgres(t).Database(t))
	node := func(name string, fill byte) *App {
		file := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(file, []byte(secretLine(fill)), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg.SecretKeyFile = file
		a := must(startNode(t, cfg, name, t.TempDir()))(t)
		t.Cleanup(func() { _ = a.Stop() })
		return a
	}
	owner, looks, takes := node("owner", 1), node("looks", 2), node("takes", 3)
	key, _ := owner.AdminKey()
	token, url := canaryToken, "ws://127.0.0.1:1"
	must(apiClient(t, owner, key).CreateGateway(t.Context(), api.CreateGateway{Id: "gw", Url: &url, Token: &token}))(t)
	wantWrongKey := func(a *App) {
		t.Helper()
		var wrong *secrets.Error
		select {
		case err := <-a.Fatal():
			if !errors.As(err, &wrong) || !strings.Contains(wrong.Error(), "does not hold") || !strings.Contains(wrong.NextStep(), "lost "+wrong.KeyID) {
				t.Errorf("the node gives up with %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("the node stands by as if it could take over")
		}
	}
	if err := takes.secrets.Reseal(t.Context()); !errors.As(err, new(*secrets.Error)) {
		t.Errorf("a take-over fails with %v", err)
	}
	wantWrongKey(looks)
	wantWrongKey(takes)
	if owner.Standby() != "" {
		t.Errorf("the node with the right key: %s", owner.Standby())
	}
}

// TestSecretKeyIsMadeOnce and never beside a store whose secrets another one sealed.
func TestSecretKeyIsMadeOnce(t *testing.T) {
	t.Parallel()
	cfg, data := config.Default(), t.TempDir()
	cfg.Listen, cfg.Data = "127.0.0.1:0", data
	path := filepath.Join(data, "secret.key")
	a := must(startNode(t, cfg, "n", data))(t)
	if info := must(os.Stat(path))(t); info.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	must(a.repos.Gateways.Create(t.Context(), messages.Gateway{ID: "gw", Tenant: "default", Pool: "default", URL: "ws://127.0.0.1:1", Token: canaryToken, MaxConcurrency: 1, Weight: 1}))(t)
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(archived(t, cfg), canaryToken) {
		t.Error("the archive holds the token in the clear")
	}
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	_, err := startNode(t, cfg, "n", data)
	var wrong *secrets.Error
	if !errors.As(err, &wrong) || wrong.KeyID == "" {
		t.Fatalf("without its key: %v", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("a new key was made beside sealed secrets")
	}
}
