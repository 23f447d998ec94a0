package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"github.com/dash-fleet/dash/messages"
)

func startError(t *testing.T, err error) *StartError {
	t.Helper()
	var se *StartError
	if !errors.As(err, &se) {
		t.Fatalf("got error %v, want a *StartError", err)
	}
	return se
}

func TestSettings(t *testing.T) {
	t.Parallel()
	dir := folder{"/data/gw"}
	got, err := settingsFor(dir, Spec{ID: "gw", MaxConcurrency: 3, Managed: messages.Managed{Config: map[string]any{
		"gateway": map[string]any{"controlUi": map[string]bool{"enabled": true}},
		"agents":  map[string]any{"defaults": map[string]any{"model": map[string]string{"primary": "fake/fake-1"}}},
		"cron":    nil,
		"models":  map[string]any{"mode": "replace", "providers": nil},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	pl := plan{settings: got}
	b, err := pl.file(20000, "a-token-of-some-length")
	if err != nil {
		t.Fatal(err)
	}
	var file, want map[string]any
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{
	 "gateway": {"mode":"local","bind":"loopback","port":20000,"auth":{"mode":"token","token":"a-token-of-some-length"},"controlUi":{"enabled":true},
	   "http":{"endpoints":{"chatCompletions":{"enabled":true},"responses":{"enabled":true}}}},
	 "agents": {"defaults":{"workspace":"/data/gw/workspace","skipBootstrap":true,"maxConcurrent":3,"heartbeat":{"every":"0m"},"model":{"primary":"fake/fake-1"}}},
	 "models": {"mode":"replace"},
	 "plugins":{"enabled":false},"browser":{"enabled":false},"discovery":{"mdns":{"mode":"off"}},"update":{"checkOnStart":false},
	 "logging":{"file":"/data/gw/openclaw.log"}}`), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, file); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

// TestOwnSettingsCannotTouchOurs: whatever the operator's config says, mode,
// bind, port and auth are ours or it is refused.
func TestOwnSettingsCannotTouchOurs(t *testing.T) {
	t.Parallel()
	key := rapid.SampledFrom([]string{"gateway", "mode", "bind", "port", "auth", "agents", "x"})
	leaf := rapid.OneOf(rapid.Just[any](nil), rapid.Just[any](1.5), rapid.Just[any]("v"), rapid.Just[any]([]any{1}))
	var node func(depth int) *rapid.Generator[any]
	node = func(depth int) *rapid.Generator[any] {
		if depth == 0 {
			return leaf
		}
		return rapid.OneOf(leaf, rapid.Map(rapid.MapOfN(key, node(depth-1), 0, 3), func(m map[string]any) any { return m }))
	}
	rapid.Check(t, func(t *rapid.T) {
		own := rapid.MapOfN(key, node(2), 0, 4).Draw(t, "own")
		settings, err := settingsFor(folder{"/d"}, Spec{Managed: messages.Managed{Config: own}})
		if err != nil {
			return
		}
		b, err := (&plan{settings: settings}).file(20000, "the-token")
		if err != nil {
			t.Fatal(err)
		}
		var c struct {
			Gateway struct {
				Mode, Bind string
				Port       int
				Auth       struct{ Mode, Token string }
			}
		}
		if err := json.Unmarshal(b, &c); err != nil {
			t.Fatal(err)
		}
		if g := c.Gateway; g.Mode != "local" || g.Bind != "loopback" || g.Port != 20000 || g.Auth.Mode != "token" || g.Auth.Token != "the-token" {
			t.Fatalf("got gateway section %+v", g)
		}
	})
}

func TestCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	node, claw, plain := program("node", 0o755), program("openclaw", 0o755), program("plain", 0o644)
	tests := []struct {
		in   []string
		want []string // nil: refused
	}{
		{[]string{claw}, []string{claw, "gateway", "run"}},
		{[]string{claw, "gateway"}, []string{claw, "gateway"}},
		{[]string{node, "x.mjs"}, slices.Concat([]string{node}, heapFlags, []string{"x.mjs"})},
		{[]string{node, "--max-old-space-size=900", "x.mjs"}, []string{node, heapFlags[1], heapFlags[2], "--max-old-space-size=900", "x.mjs"}},
		{[]string{plain}, nil},
		{[]string{dir}, nil},
		{[]string{claw, "gateway", "--force"}, nil},
		{[]string{claw, "gateway", "--port", "1"}, nil},
		{[]string{claw, "a\x00b"}, nil},
	}
	for _, tt := range tests {
		got, err := checkCommand(tt.in)
		if (err == nil) != (tt.want != nil) {
			t.Errorf("%q: error %v", tt.in, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.in, diff)
		}
	}
}

func TestProbedNames(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	l := &Launcher{cfg: Config{ProbeNames: true}.withDefaults()}
	l.log = l.cfg.Logger
	if _, err := l.commandFor(nil); err == nil {
		t.Error("found a program in an empty folder")
	}
	for _, name := range []string{"openclawd", "openclaw"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		got, err := l.commandFor(nil)
		if diff := cmp.Diff([]string{filepath.Join(dir, name), "gateway", "run"}, got); diff != "" || err != nil {
			t.Errorf("error %v, command (-want +got):\n%s", err, diff)
		}
	}
	l.cfg.ProbeNames = false
	if _, err := l.commandFor(nil); err == nil {
		t.Error("names were looked for without being asked to")
	}
}

func TestEnvironmentHoldsNothingOfDash(t *testing.T) {
	t.Setenv("DASH_POSTGRES_URL", "postgres://user:secret@db/dash")
	t.Setenv("NODE_OPTIONS", "--inspect")
	l := &Launcher{cfg: Config{Dir: "/data"}}
	env, err := l.environment(folder{"/data/gateways/gw"}, "/opt/node/bin/node", map[string]string{"EXTRA": "1", "UV_THREADPOOL_SIZE": "9"})
	if err != nil {
		t.Fatal(err)
	}
	all := "\n" + strings.Join(env, "\n") + "\n"
	for _, want := range []string{"HOME=/data/gateways/gw/home", "OPENCLAW_STATE_DIR=/data/gateways/gw/state", "OPENCLAW_CONFIG_PATH=/data/gateways/gw/openclaw.json",
		"EXTRA=1", "UV_THREADPOOL_SIZE=9", "NODE_COMPILE_CACHE=/data/compile-cache", "OPENCLAW_PACKAGED_COMPILE_CACHE_RESPAWNED=1"} {
		if !strings.Contains(all, "\n"+want+"\n") {
			t.Errorf("environment lacks %s:%s", want, all)
		}
	}
	if strings.Contains(all, "secret") || strings.Contains(all, "--inspect") || !strings.Contains(all, "\nPATH=/opt/node/bin:") {
		t.Errorf("environment is%s", all)
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	line := "42 (a (b) c) S 7 42 43 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 1 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 1 1 1 1 1 1 1 256\n"
	got, err := parseStat([]byte(line))
	want := stat{state: 'S', ppid: 7, session: 43, start: 98765, exitCode: 256}
	if err != nil || got != want {
		t.Errorf("got %+v %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "42 (x", "42 (x) S 1 2", strings.Replace(line, "98765", "x", 1)} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzClip(f *testing.F) {
	f.Add("a\x1b[31mb\u202e\xff\x00é", 5)
	f.Fuzz(func(t *testing.T, s string, n int) {
		n &= 1023
		got := clip(s, n)
		if len(got) > n || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("clip(%q, %d) = %q", s, n, got)
		}
	})
}

func TestSpawnErrors(t *testing.T) {
	t.Parallel()
	for cause, permanent := range map[error]bool{syscall.ENOEXEC: true, syscall.ENOENT: true, syscall.EAGAIN: false, syscall.ENOMEM: false} {
		se := startError(t, spawnError(&os.PathError{Op: "fork/exec", Path: "/x", Err: cause}, "/x"))
		if se.Permanent != permanent || !errors.Is(se, cause) || se.NextStep == "" {
			t.Errorf("%v: got %+v", cause, se)
		}
	}
}

func TestReasons(t *testing.T) {
	t.Parallel()
	tests := []struct {
		e     Exit
		ready bool
		kind  string
		want  string
	}{
		{Exit{known: true}, true, "clean", "drained"},
		{Exit{known: true, Code: 1}, false, "failed", "port taken"},
		{Exit{known: true, Code: 1}, true, "failed", "exit code 1 while running"},
		{Exit{known: true, Code: 78}, false, "config", "refused its configuration"},
		{Exit{known: true, Code: -1, Signal: 9}, true, "signal", "signal 9 (killed) while running"},
		{Exit{Code: -1}, true, "unknown", "could not be learnt"},
		{Exit{known: true, Requested: true}, true, "requested", "drained"},
	}
	for _, tt := range tests {
		if got := reasonOf(tt.e, tt.ready); !strings.Contains(got, tt.want) || tt.e.kind() != tt.kind {
			t.Errorf("%+v: kind %s, reason %q; want %s, %q", tt.e, tt.e.kind(), got, tt.kind, tt.want)
		}
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	m := newMetrics(r)
	m.starts.WithLabelValues("ready")
	m.exits.WithLabelValues("clean")
	problems, err := testutil.GatherAndLint(r)
	if err != nil || len(problems) > 0 {
		t.Errorf("got %v %v", problems, err)
	}
	if n, err := testutil.GatherAndCount(r); err != nil || n != 5 {
		t.Errorf("got %d metrics (%v), want 5", n, err)
	}
}

func TestProbeDoesNotFollowOrHang(t *testing.T) {
	t.Parallel()
	l := &Launcher{client: newProbeClient()}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ok, why := l.ready(ctx, 1); ok || why == "" {
		t.Errorf("got %v %q for a port nobody answers on", ok, why)
	}
}

// The text is that of a real gateway, 2026.9.6, on a machine with a load of 40.
func TestAStarvedStartIsNoConfigurationError(t *testing.T) {
	t.Parallel()
	said := "Failing check media-persistence (step-refused): Agent database maintenance deferred: agent database maintenance lease core:agent-database-maintenance/global was lost | state lease heartbeat did not become ready (phase=startup, trigger=timeout)"
	if !starved(said) || starved("Invalid config: gateway.prot: unknown key") || starved("") {
		t.Error("exit 78 for want of CPU is not told from a bad configuration")
	}
}
