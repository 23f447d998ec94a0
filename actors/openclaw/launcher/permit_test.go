package launcher

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dash-fleet/dash/messages"
)

func TestVariablesThatAGatewayMayBeGiven(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"OPENAI_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_BASE_URL", "AWS_REGION", "AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY", "no_proxy", "DASH_SIM_LOG"} {
		if !envPermitted(name) {
			t.Errorf("%s is refused", name)
		}
	}
	for _, name := range []string{
		"", "=", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "DYLD_INSERT_LIBRARIES", "NODE_OPTIONS", "NODE_PATH", "NODE_EXTRA_CA_CERTS", "NODE_COMPILE_CACHE", "PATH", "HOME", "SHELL", "TMPDIR",
		"BASH_ENV", "ENV", "IFS", "PYTHONPATH", "GIT_SSH_COMMAND", "SSL_CERT_FILE", "AWS_CONFIG_FILE", "GOOGLE_APPLICATION_CREDENTIALS", "OPENCLAW_STATE_DIR", "OPENCLAW_GATEWAY_TOKEN",
		"OPENCLAW_X_API_KEY", "DASH_LAUNCH_ID", "DASH_API_KEY", "X_API_KEY\nLD_PRELOAD", "X_API_KEY=1", "x_api_key", "_API_KEY",
	} {
		if envPermitted(name) {
			t.Errorf("%q is permitted", name)
		}
	}
}

func TestFoldersThatAGatewayMayHave(t *testing.T) {
	t.Parallel()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(parts ...string) string { return filepath.Join(append([]string{root}, parts...)...) }
	for _, dir := range []string{at("var", "dash"), at("keys"), at("free")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{at("alias"): at("var", "dash"), at("free", "up"): at("var")} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	l := &Launcher{cfg: Config{Dir: at("alias"), Reserved: []string{at("keys", "admin.key")}}}
	for _, dir := range []string{at("free"), at("free", "new", "deep"), at("var", "dash2"), at("keys", "x"), ""} {
		if r := l.folderRefused(dir); r != nil {
			t.Errorf("%s: %s", dir, r.Reason)
		}
	}
	for _, dir := range []string{
		"x", "/", root, at("var"), at("var", "dash"), at("var", "dash", "gateways", "gw"), at("alias"), at("alias", "new"), at("free", "up"), at("free", "up", "dash", "new"),
		at("keys"), at("keys", "admin.key"), at("free") + "/", at("free") + "//x", at("free") + "/../free",
	} {
		if r := l.folderRefused(dir); r == nil || !slices.Equal(r.Field, []string{"state_dir"}) || r.NextStep == "" {
			t.Errorf("%s is permitted", dir)
		}
	}
}

// TestACommandIsPermittedAsAWhole: no part of it, and none with more.
func TestACommandIsPermittedAsAWhole(t *testing.T) {
	t.Parallel()
	l := &Launcher{cfg: Config{Dir: "/data", Command: []string{"/bin/own", "run"}, Commands: [][]string{{"/bin/other", "a b"}}}}
	for _, c := range [][]string{nil, {"/bin/own", "run"}, {"/bin/other", "a b"}} {
		if r := l.Refusals(messages.Managed{Command: c}); len(r) != 0 {
			t.Errorf("%q: %v", c, r)
		}
	}
	for _, c := range [][]string{{"/bin/own"}, {"/bin/own", "run", "x"}, {"/bin/other", "a", "b"}, {"/bin/sh", "-c", "x"}, {""}} {
		if r := l.Refusals(messages.Managed{Command: c}); len(r) != 1 || r[0].Field[0] != "command" {
			t.Errorf("%q: %v", c, r)
		}
	}
}
