//go:build live && linux

package launcher

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dash-fleet/dash/actors/openclaw/livetest"
	"github.com/dash-fleet/dash/messages"
)

// fakeProvider is a provider that no turn is sent to here.
func fakeProvider() map[string]any {
	return map[string]any{
		"agents": map[string]any{"defaults": map[string]any{"model": map[string]any{"primary": "fake/fake-1"}}},
		"models": map[string]any{"mode": "replace", "providers": map[string]any{"fake": map[string]any{
			"baseUrl": "http://127.0.0.1:9/v1", "apiKey": "fake-key", "api": "openai-completions",
			"models": []any{map[string]any{"id": "fake-1", "name": "fake-1", "reasoning": false, "input": []string{"text"},
				"cost":          map[string]any{"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
				"contextWindow": 128000, "maxTokens": 4096}}}}},
	}
}

// bootAlone holds the machine's lock for boots of real gateways: a boot that
// starves for CPU fails.
func bootAlone(t *testing.T, cache string) {
	t.Helper()
	lock, err := os.OpenFile(filepath.Join(cache, livetest.Version(), "boot.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
}

func status(t *testing.T, ep Endpoint, token messages.Secret) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http"+strings.TrimPrefix(ep.URL, "ws")+"v1/models", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	tr := &http.Transport{DisableKeepAlives: true}
	res, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// TestLiveGateway starts, adopts, stops and breaks one real OpenClaw gateway.
func TestLiveGateway(t *testing.T) {
	cache, err := livetest.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	in, err := livetest.Install(t.Context(), cache, livetest.Version())
	if err != nil {
		t.Fatal(err)
	}
	bootAlone(t, cache)
	spec := Spec{ID: "real", Managed: messages.Managed{Config: fakeProvider()}}
	real := func(c *Config) {
		c.Command = []string{in.Node, in.Entry, "gateway", "run"}
		c.StartupTimeout = 4 * time.Minute
	}
	l := setup(t, real)
	began := time.Now()
	ep := mustEnsure(t, l.Launcher, spec)
	t.Logf("openclaw %s ready after %v", in.Version, time.Since(began).Round(100*time.Millisecond))
	rec, _, err := readRecord(homeOf(t, l.Launcher, "real"))
	if err != nil {
		t.Fatal(err)
	}
	if rec.PID != ep.PID || environ(ep.PID, envLaunchID) != rec.LaunchID {
		t.Errorf("process %d has launch id %q; record %+v", ep.PID, environ(ep.PID, envLaunchID), rec)
	}
	tree := processesWith(envLaunchID, rec.LaunchID)
	if rootOf(tree) != ep.PID {
		t.Errorf("root of %v is %d, want %d", tree, rootOf(tree), ep.PID)
	}
	for _, pid := range tree {
		for _, name := range []string{"cmdline", "environ"} {
			if b, err := os.ReadFile(procPath(pid, name)); err == nil && strings.Contains(string(b), ep.Token.Reveal()) {
				t.Errorf("process %d shows the token in its %s", pid, name)
			}
		}
	}
	if got := status(t, ep, ep.Token); got != http.StatusOK {
		t.Errorf("with the token got %d", got)
	}
	if got := status(t, ep, "another-token-altogether"); got != http.StatusUnauthorized {
		t.Errorf("with another token got %d", got)
	}

	l.Close()
	next := again(t, l.dir, real)
	began = time.Now()
	if got := mustEnsure(t, next, spec); got.PID != ep.PID || !got.Adopted || got.Stale || got.Token != ep.Token {
		t.Errorf("got %+v, want %+v adopted", got, ep)
	}
	t.Logf("adopted after %v", time.Since(began).Round(time.Millisecond))
	next.Close()

	// Without any record the living gateway is found by its state folder.
	if err := os.Remove(homeOf(t, next, "real").record()); err != nil {
		t.Fatal(err)
	}
	third := again(t, l.dir, real)
	if got := mustEnsure(t, third, spec); got.PID != ep.PID || !got.Adopted || got.Token != ep.Token {
		t.Errorf("without a record got %+v, want %+v adopted", got, ep)
	}
	began = time.Now()
	e, err := third.Stop(t.Context(), "real")
	if err != nil || !e.clean() {
		t.Errorf("Stop: %+v %v, want exit 0", e, err)
	}
	t.Logf("drained after %v", time.Since(began).Round(time.Millisecond))
	until(t, "the helpers' end", func() bool { return len(processesWith(envStateDir, homeOf(t, third, "real").state())) == 0 })

	broken := spec
	broken.Managed.Config = fakeProvider()
	broken.Managed.Config["gateway"] = map[string]any{"prot": 1}
	_, err = third.Ensure(t.Context(), broken)
	if se := startError(t, err); !se.Permanent || se.ExitCode != 78 || len(se.LogTail) == 0 {
		t.Errorf("with an unknown key got %+v", se)
	} else {
		t.Logf("unknown key: %v\n%s", se, strings.Join(se.LogTail, "\n"))
	}

	began = time.Now()
	if got := mustEnsure(t, third, spec); got.Adopted || got.URL != ep.URL || got.Token != ep.Token {
		t.Errorf("after the repair got %+v, want port and token of %+v", got, ep)
	}
	t.Logf("second boot ready after %v", time.Since(began).Round(100*time.Millisecond))
	if e, err := third.Kill(t.Context(), "real"); err != nil || e.Signal != syscall.SIGKILL {
		t.Errorf("Kill: %+v %v", e, err)
	}
	until(t, "the end of the tree", func() bool { return len(processesWith(envStateDir, homeOf(t, third, "real").state())) == 0 })
}
