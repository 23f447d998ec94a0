package livetest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNodeRange(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"2026.9.6": "^26", "2026.10.1": "^26", "2027.1.1": "^26", "2026.8.2": "^24", "2026.7.35": "^24", "2026.9.6-beta.1": "^26",
	} {
		if got, err := nodeRange(version); err != nil || got != want {
			t.Errorf("node for %s: %q %v, want %s", version, got, err, want)
		}
	}
	for _, version := range []string{"", "latest", "2026.9", "../2026.9.6", "2026.9.6;x", "2026.9.6 "} {
		if _, err := nodeRange(version); err == nil {
			t.Errorf("version %q was taken", version)
		}
	}
}

func TestMissingNpmIsMissingInfrastructure(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Install(t.Context(), t.TempDir(), DefaultVersion)
	if !errors.Is(err, ErrMissing) || !strings.HasPrefix(err.Error(), "infrastructure missing: ") {
		t.Errorf("install without npm: %v", err)
	}
}

func TestFailingNpmIsMissingInfrastructure(t *testing.T) {
	bin := t.TempDir()
	script := "#!/bin/sh\necho no such registry >&2\nexit 1\n"
	if err := os.WriteFile(filepath.Join(bin, "npm"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	_, err := Install(t.Context(), t.TempDir(), DefaultVersion)
	if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "no such registry") {
		t.Errorf("install with a failing npm: %v", err)
	}
}

func TestConfigIsPrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g, err := New(Installation{Version: DefaultVersion, Node: "/node/bin/node", dir: dir}, Options{Dir: dir, ModelURL: "http://127.0.0.1:1/v1"})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "openclaw.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("config %v %v, want mode 0600", info, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "openclaw.json"))
	if err != nil || !strings.Contains(string(b), g.Token().Reveal()) {
		t.Errorf("config without the token: %v", err)
	}
	for _, e := range g.environ() {
		if strings.Contains(e, g.Token().Reveal()) {
			t.Errorf("the token is in the environment: %s", e)
		}
	}
	if err := g.Kill(); err == nil {
		t.Error("killed a gateway that was never started")
	}
}
