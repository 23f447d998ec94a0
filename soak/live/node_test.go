//go:build live && linux

package live

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw/livetest"
	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/persistence/testserver"
)

// node is one data folder and the `dash serve` that runs on it now.
type node struct {
	t      *testing.T
	home   string
	store  []string // variables that name the storage engine and its servers
	data   string
	listen string
	log    *os.File
	cmd    *exec.Cmd
	client *api.Client
}

// bootLimit is generous: a boot takes 10-20 s alone, 90 s on a busy machine,
// and they take turns.
const bootLimit = 8 * time.Minute

func newNode(t *testing.T) *node {
	t.Helper()
	dir := t.TempDir()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, home: filepath.Join(dir, "home"), data: filepath.Join(dir, "data"), listen: ln.Addr().String()}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(n.home, 0o700); err != nil {
		t.Fatal(err)
	}
	if n.log, err = os.Create(filepath.Join(dir, "dash.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.clear)
	n.store = engine(t)
	return n
}

// engine starts the servers of the engine that DASH_TEST_STORE names, the
// embedded one without it, and returns what tells Dash of them.
func engine(t *testing.T) []string {
	name := os.Getenv("DASH_TEST_STORE")
	env := []string{"DASH_STORE=" + name}
	switch name {
	case "", "sqlite":
		return nil
	case "redis":
		env = append(env, "DASH_REDIS_URL="+testserver.NewRedis(t, testserver.RedisOptions{}).URL())
	case "postgres":
	default:
		t.Fatalf("DASH_TEST_STORE is %q, want sqlite, postgres or redis", name)
	}
	return append(env, "DASH_POSTGRES_URL="+testserver.NewPostgres(t, testserver.PostgresOptions{}).URL())
}

// clear leaves no process behind, whatever happened.
func (n *node) clear() {
	if n.cmd != nil {
		_ = n.cmd.Process.Kill() // it may have ended
		_ = n.cmd.Wait()
	}
	for _, pid := range n.processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
	for limit := time.Now().Add(10 * time.Second); len(n.processes()) > 0 && time.Now().Before(limit); {
		time.Sleep(pause)
	}
	if n.t.Failed() {
		b, err := os.ReadFile(n.log.Name())
		n.t.Logf("Dash's log (%v):\n%s", err, b)
	}
	n.log.Close()
}

func (n *node) environ() []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + n.home, "TMPDIR=" + os.TempDir()}, n.store...)
}

// start runs `dash serve` and waits for its API.
func (n *node) start() {
	n.t.Helper()
	n.cmd = exec.Command(binary, "serve", "--data", n.data, "--listen", n.listen, "--node", "live", "--log-format", "json", "--log-level", "debug",
		"--openclaw-auto-start", "--openclaw-startup-timeout", "4m",
		"--openclaw-command", fmt.Sprintf("%s %s gateway run", installed.Node, installed.Entry))
	n.cmd.Env, n.cmd.Stdout, n.cmd.Stderr = n.environ(), n.log, n.log
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	key := ""
	within(n.t, 30*time.Second, "Dash to be ready", func() string {
		b, err := os.ReadFile(filepath.Join(n.data, "admin.key"))
		if err != nil {
			return err.Error()
		}
		key = strings.TrimSpace(string(b))
		if n.client, err = api.NewClient("http://"+n.listen, key, nil); err != nil {
			return err.Error()
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if h, err := n.client.GetReady(ctx); err != nil || h.Status != "ok" {
			return fmt.Sprint(h, err)
		}
		return ""
	})
}

// end signals `dash serve` and returns its exit code, -1 for a signal.
func (n *node) end(s syscall.Signal) int {
	n.t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		n.t.Fatal(err)
	}
	_ = n.cmd.Wait() // the error repeats the code
	code := n.cmd.ProcessState.ExitCode()
	n.cmd = nil
	return code
}

// dash runs one verb of the command line client.
func (n *node) dash(args ...string) string {
	n.t.Helper()
	cmd := exec.CommandContext(n.t.Context(), binary, args...)
	cmd.Env = append(n.environ(), "DASH_URL=http://"+n.listen, "DASH_API_KEY="+n.key())
	out, err := cmd.CombinedOutput()
	if err != nil {
		n.t.Errorf("dash %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (n *node) key() string {
	b, err := os.ReadFile(filepath.Join(n.data, "admin.key"))
	if err != nil {
		n.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// processes lists what runs on a state folder below the data folder.
func (n *node) processes() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		n.t.Fatal(err)
	}
	mark := []byte("OPENCLAW_STATE_DIR=" + n.data + "/")
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ")); err == nil && bytes.Contains(env, mark) {
			found = append(found, pid)
		}
	}
	return found
}

func alive(pid int) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// exit is the exit code of a gateway's process as Dash logged it.
func (n *node) exit(pid int) string {
	n.t.Helper()
	b, err := os.ReadFile(n.log.Name())
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		var l struct {
			Msg  string
			PID  int
			Code int
		}
		if json.Unmarshal(line, &l) == nil && l.Msg == "gateway process ended" && l.PID == pid {
			return strconv.Itoa(l.Code)
		}
	}
	return "not logged"
}

const pause = 100 * time.Millisecond

// within asks until what it is asked for has happened: check returns an empty
// text then, else what is still missing.
func within(t *testing.T, limit time.Duration, what string, check func() string) {
	t.Helper()
	end := time.Now().Add(limit)
	for {
		missing := check()
		if missing == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s: %s", limit, what, missing)
		}
		time.Sleep(pause)
	}
}

// gateway asks for one gateway; a node that is just starting is asked again.
func (n *node) gateway(id string) api.Gateway {
	n.t.Helper()
	g, err := n.client.GetGateway(n.t.Context(), id)
	if err != nil {
		n.t.Fatal(err)
	}
	return *g
}

func (n *node) awaitState(id string, limit time.Duration, want ...api.GatewayState) api.Gateway {
	n.t.Helper()
	var g api.Gateway
	within(n.t, limit, fmt.Sprintf("gateway %s to be %v", id, want), func() string {
		g = n.gateway(id)
		for _, s := range want {
			if g.State == s {
				return ""
			}
		}
		return fmt.Sprintf("%s (%s)", g.State, value(g.Reason))
	})
	return g
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func ptr[T any](v T) *T { return &v }

// provider is the part of a gateway's configuration that names the model.
func provider(url, model string) map[string]any {
	fake := map[string]any{
		"baseUrl": url, "apiKey": "fake-key", "api": "openai-completions",
		"models": []any{map[string]any{"id": model, "name": model, "reasoning": false, "input": []string{"text"},
			"cost":          map[string]any{"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
			"contextWindow": 128000, "maxTokens": 4096}}}
	return map[string]any{
		"agents": map[string]any{"defaults": map[string]any{"model": map[string]any{"primary": "fake/" + model}}},
		"models": map[string]any{"mode": "replace", "providers": map[string]any{"fake": fake, "spent": fake}},
	}
}

var version = livetest.Version()
