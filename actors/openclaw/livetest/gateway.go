package livetest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/openclaw/fakemodel"
	"github.com/dash-fleet/dash/messages"
)

// Options of a test gateway.
type Options struct {
	Dir           string // private folder: state, home, workspace, logs
	ModelURL      string // provider base URL with /v1
	MaxConcurrent int    // lane limit; 0: 8
}

// Gateway is one real gateway on a port of its own. Its state folder stays
// over Kill, Terminate and Start.
type Gateway struct {
	in    Installation
	opt   Options
	port  int
	token messages.Secret

	mu   sync.Mutex
	proc *process
}

// process is one life. done is closed after the exit; code is valid then.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	code int // exit code, -1 when killed by a signal
}

// bootBudget is generous: a boot takes 10-20 s alone, 70 s on a loaded machine.
const bootBudget = 4 * time.Minute

// New writes the configuration of a gateway that is not running yet.
func New(in Installation, opt Options) (*Gateway, error) {
	if opt.MaxConcurrent == 0 {
		opt.MaxConcurrent = 8
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	g := &Gateway{in: in, opt: opt, port: port, token: messages.Secret(rand.Text())}
	for _, d := range []string{"state", "home", "workspace", "tmp"} {
		if err := os.MkdirAll(filepath.Join(opt.Dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	b, err := json.MarshalIndent(g.config(), "", "  ")
	if err != nil {
		return nil, err
	}
	return g, os.WriteFile(g.path("openclaw.json"), b, 0o600)
}

// freePort picks a port below those that the system gives to others: the
// gateway takes it seconds later, and again after each restart.
func freePort() (int, error) {
	var last error
	for range 50 {
		port := 20_000 + mathrand.IntN(10_000)
		ln, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			return port, ln.Close()
		}
		last = err
	}
	return 0, fmt.Errorf("no free port: %w", last)
}

type object = map[string]any

// config is the smallest configuration that runs turns on the fake model.
func (g *Gateway) config() object {
	return object{
		"gateway": object{"mode": "local", "bind": "loopback", "port": g.port,
			"auth":      object{"mode": "token", "token": g.token.Reveal()},
			"controlUi": object{"enabled": false}},
		"agents": object{"defaults": object{"workspace": g.path("workspace"), "skipBootstrap": true,
			"model": object{"primary": Provider + "/" + fakemodel.Model}, "maxConcurrent": g.opt.MaxConcurrent,
			"heartbeat": object{"every": "0m"}}},
		"models":    object{"mode": "replace", "providers": g.providers()},
		"plugins":   object{"enabled": false},
		"browser":   object{"enabled": false},
		"cron":      object{"enabled": false},
		"discovery": object{"mdns": object{"mode": "off"}},
		"update":    object{"checkOnStart": false},
		"logging":   object{"file": g.path("gateway.log")},
	}
}

// Providers of a test gateway; Provider is the default model's. All but Refusing,
// at which nobody listens, are the fake model, which is asked in its other two
// APIs by two of them. Spoilt and Spent are for tests that have them switched off.
const (
	Provider  = "fake"
	Spoilt    = "spoilt"
	Spent     = "spent"
	Refusing  = "refusing"
	Anthropic = "fake-anthropic"
	Responses = "fake-responses"
)

func (g *Gateway) providers() object {
	provider := func(url, api string) object {
		return object{"baseUrl": url, "apiKey": "fake-key", "api": api,
			"models": []any{object{"id": fakemodel.Model, "name": fakemodel.Model, "reasoning": false, "input": []string{"text"},
				"cost":          object{"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
				"contextWindow": 128000, "maxTokens": 4096}}}
	}
	const chat = "openai-completions"
	return object{
		Provider:  provider(g.opt.ModelURL, chat),
		Spoilt:    provider(g.opt.ModelURL, chat),
		Spent:     provider(g.opt.ModelURL, chat),
		Refusing:  provider("http://127.0.0.1:9/v1", chat),
		Anthropic: provider(g.opt.ModelURL, "anthropic-messages"),
		Responses: provider(g.opt.ModelURL, "openai-responses"),
	}
}

func (g *Gateway) path(name string) string { return filepath.Join(g.opt.Dir, name) }

// ConfigPath is the configuration file, which the gateway watches.
func (g *Gateway) ConfigPath() string { return g.path("openclaw.json") }

// URL is the WebSocket address.
func (g *Gateway) URL() string { return "ws://127.0.0.1:" + strconv.Itoa(g.port) + "/" }

// Token is the shared token.
func (g *Gateway) Token() messages.Secret { return g.token }

// Version is the installed release.
func (g *Gateway) Version() string { return g.in.Version }

// Start boots the gateway and waits until it is ready. One gateway of this
// machine boots at a time: a boot that starves for CPU fails.
func (g *Gateway) Start(ctx context.Context) error {
	unlock, err := lock(filepath.Join(g.in.dir, "boot.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(ctx, bootBudget)
	defer cancel()
	p, err := g.spawn()
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.proc = p
	g.mu.Unlock()
	return g.awaitReady(ctx, p)
}

func (g *Gateway) spawn() (*process, error) {
	out, err := os.OpenFile(g.path("stdout.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	// The memory flags save a fifth; on the command line, so that programs
	// started by the agent do not inherit them.
	cmd := exec.Command(g.in.Node, "--max-old-space-size=512", "--max-semi-space-size=4", "--v8-pool-size=1",
		g.in.Entry, "gateway", "run", "--port", strconv.Itoa(g.port), "--bind", "loopback", "--auth", "token")
	cmd.Dir = g.opt.Dir
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = g.environ()
	// A test gateway must not outlive its test, not even after a panic.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The death signal follows the thread that forked, so keep it.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		// The error repeats the exit code.
		_ = cmd.Wait()
		p.code = cmd.ProcessState.ExitCode()
		close(p.done)
	}()
	return p, <-started
}

// environ is complete: nothing of the caller's environment reaches the gateway.
func (g *Gateway) environ() []string {
	return []string{
		"PATH=" + filepath.Dir(g.in.Node) + ":/usr/bin:/bin",
		"HOME=" + g.path("home"), "OPENCLAW_HOME=" + g.path("home"),
		"TMPDIR=" + g.path("tmp"),
		"OPENCLAW_STATE_DIR=" + g.path("state"), "OPENCLAW_CONFIG_PATH=" + g.path("openclaw.json"),
		"OPENCLAW_SKIP_CHANNELS=1", "OPENCLAW_SKIP_CRON=1", "OPENCLAW_SKIP_GMAIL_WATCHER=1", "OPENCLAW_SKIP_CANVAS_HOST=1",
		"OPENCLAW_DISABLE_BONJOUR=1", "OPENCLAW_NO_RESPAWN=1", "OPENCLAW_EXEC_SHELL_SNAPSHOT=0", "OPENCLAW_NO_AUTO_UPDATE=1",
		// The second one keeps the launcher from re-executing itself as a child.
		"NODE_COMPILE_CACHE=" + filepath.Join(g.in.dir, "compile-cache"), "OPENCLAW_PACKAGED_COMPILE_CACHE_RESPAWNED=1",
		"MALLOC_ARENA_MAX=1", "UV_THREADPOOL_SIZE=2", "NO_COLOR=1",
	}
}

const poll = 100 * time.Millisecond

func (g *Gateway) awaitReady(ctx context.Context, p *process) error {
	url := "http://127.0.0.1:" + strconv.Itoa(g.port) + "/readyz"
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		if ready(ctx, client, url) {
			return g.verify(ctx)
		}
		select {
		case <-p.done:
			return fmt.Errorf("the gateway exited with %d while starting: %s", p.code, g.Log())
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the gateway was not ready in time: %s", g.Log()), g.Kill())
		case <-tick.C:
		}
	}
}

// verify makes sure that it is our gateway that answers on the port.
func (g *Gateway) verify(ctx context.Context) error {
	c, err := openclaw.Dial(ctx, openclaw.Config{URL: g.URL(), Token: g.token, DialTimeout: bootBudget}, nil)
	if err != nil {
		return fmt.Errorf("somebody else answers on port %d, or the gateway refuses us: %w", g.port, err)
	}
	c.Close()
	return nil
}

func ready(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Log is the end of what the gateway printed.
func (g *Gateway) Log() string {
	b, err := os.ReadFile(g.path("stdout.log"))
	if err != nil {
		return err.Error()
	}
	return tail(string(b), 2000)
}

func (g *Gateway) current() (*process, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.proc == nil {
		return nil, errors.New("the gateway was never started")
	}
	return g.proc, nil
}

// Kill sends SIGKILL and waits for the exit. Killing a dead gateway is fine.
func (g *Gateway) Kill() error {
	p, err := g.current()
	if err != nil {
		return err
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// Terminate sends SIGTERM and does not wait.
func (g *Gateway) Terminate() error {
	p, err := g.current()
	if err != nil {
		return err
	}
	return p.signal(syscall.SIGTERM)
}

// Wait waits for the exit and returns its code, -1 for a signal.
func (g *Gateway) Wait(ctx context.Context) (int, error) {
	p, err := g.current()
	if err != nil {
		return 0, err
	}
	select {
	case <-p.done:
		return p.code, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (p *process) signal(s syscall.Signal) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}
