package openclawtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Exit codes of the real daemon.
const (
	exitOK      = 0
	exitStart   = 1
	exitConfig  = 78
	exitKilled  = 137
	lockName    = "gateway.lock"
	bindPatient = 10 * time.Second
)

// RunManaged is a stand-in for the real daemon, for tests of a launcher. It
// reads its settings from the environment given by getenv:
//
//	OPENCLAW_CONFIG_PATH   JSON configuration; required
//	OPENCLAW_STATE_DIR     state folder, locked while the process lives; required
//	OPENCLAW_GATEWAY_TOKEN token when the configuration has none
//	DASH_SIM_LOG           ground-truth log
//	DASH_SIM_NAME          name in that log; default "gw-<port>"
//	DASH_SIM_RUN_TIME      run time, as "50ms"
//	DASH_SIM_STARTUP       time between listening and ready, scaled; default 2s
//	DASH_SIM_TIME_SCALE    time scale; default 1
//	DASH_SIM_SEED          seed of the fault dice
//	DASH_SIM_VERSION       version in hello-ok
//	DASH_SIM_CRASH_AFTER   crashes this long after its start, as "6s"
//
// When ctx ends (SIGTERM) it drains and returns 0. It returns 78 for a
// configuration no gateway accepts and for a state folder in use, 1 when the port
// cannot be had within 10 s (scaled), 137 after a crash ordered by POST /__sim or
// DASH_SIM_CRASH_AFTER.
func RunManaged(ctx context.Context, getenv func(string) string, logger *slog.Logger) int {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	cfg, tree, err := managedConfig(getenv)
	if err != nil {
		logger.Error("gateway configuration refused", "err", err)
		return exitConfig
	}
	unlock, err := lockState(cfg.StateDir)
	if err != nil {
		logger.Error("gateway state folder refused; run doctor", "err", err)
		return exitConfig
	}
	defer unlock()
	lines, err := openLines(tree)
	if err != nil {
		logger.Error("gateway log refused", "err", err)
		return exitConfig
	}
	defer func() { _ = lines.Close() }() // every line was written when it was made
	cfg.Logger = slog.New(slog.NewTextHandler(lines, nil))
	if path := getenv("DASH_SIM_LOG"); path != "" {
		if cfg.Log, err = OpenLog(path); err != nil {
			logger.Error("ground-truth log refused", "err", err)
			return exitConfig
		}
		defer func() { _ = cfg.Log.Close() }()
	}
	var crashAfter time.Duration
	if err := durationOf(getenv, "DASH_SIM_CRASH_AFTER", &crashAfter); err != nil {
		logger.Error("gateway configuration refused", "err", err)
		return exitConfig
	}
	return serveManaged(ctx, cfg, crashAfter, logger)
}

// serveManaged serves until ctx ends or the gateway ends by itself; crashAfter
// 0 means that it does not crash.
func serveManaged(ctx context.Context, cfg Config, crashAfter time.Duration, logger *slog.Logger) int {
	g, err := New(cfg)
	if err != nil {
		logger.Error("gateway configuration refused", "err", err)
		return exitConfig
	}
	g.exit = make(chan int, 1)
	defer func() { _ = g.Stop(context.Background()) }() // Stop cannot fail
	starting, cancel := context.WithTimeout(ctx, g.scaledMin(bindPatient, 100*time.Millisecond))
	defer cancel()
	if err := g.Start(starting); err != nil {
		if ctx.Err() != nil {
			return exitOK
		}
		logger.Error("gateway did not start", "err", err)
		return exitStart
	}
	var crash <-chan time.Time
	if crashAfter > 0 {
		t := time.NewTimer(crashAfter)
		defer t.Stop()
		crash = t.C
	}
	select {
	case <-crash:
		g.Crash()
		return exitKilled
	case <-ctx.Done():
		limit, cancel := context.WithTimeout(context.Background(), g.scaledMin(325*time.Second, 10*time.Second))
		defer cancel()
		if err := g.Drain(limit); err != nil {
			logger.Warn("gateway drain ran out of time", "err", err)
		}
		return exitOK
	case code := <-g.exit:
		return code
	}
}

// openLines opens logging.file, which every managed gateway should have.
func openLines(tree map[string]any) (*os.File, error) {
	path := lookupString(tree, "logging", "file")
	if path == "" {
		path = os.DevNull
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

func managedConfig(getenv func(string) string) (Config, map[string]any, error) {
	tree, err := readTree(getenv("OPENCLAW_CONFIG_PATH"))
	if err != nil {
		return Config{}, nil, err
	}
	cfg := Config{StateDir: getenv("OPENCLAW_STATE_DIR"), Version: getenv("DASH_SIM_VERSION"), StartupTime: 2 * time.Second,
		ConfigPath: getenv("OPENCLAW_CONFIG_PATH")}
	if cfg.StateDir == "" {
		return Config{}, nil, errors.New("OPENCLAW_STATE_DIR is not set; give the gateway a folder of its own")
	}
	if lookupString(tree, "gateway", "mode") != "local" {
		return Config{}, nil, errors.New(`gateway.mode is not set; set gateway.mode="local"`)
	}
	port, ok := lookup2(tree, "gateway", "port").(float64)
	if !ok || port < 1 || port > 65535 || port != float64(int(port)) {
		return Config{}, nil, errors.New("gateway.port: expected integer 1..65535")
	}
	cfg.Listen = fmt.Sprintf("127.0.0.1:%d", int(port))
	cfg.Name = cmpOr(getenv("DASH_SIM_NAME"), fmt.Sprintf("gw-%d", int(port)))
	auth, _ := lookup2(tree, "gateway", "auth").(map[string]any)
	token, _ := auth["token"].(string)
	if cfg.Token = cmpOr(token, getenv("OPENCLAW_GATEWAY_TOKEN")); cfg.Token == "" {
		return Config{}, nil, errors.New("gateway.auth.token is empty and OPENCLAW_GATEWAY_TOKEN is not set")
	}
	limit, ok := laneLimit(tree)
	if !ok {
		return Config{}, nil, errors.New("agents.defaults.maxConcurrent: expected integer >=1")
	}
	cfg.MaxConcurrent = limit
	if err := managedTimes(&cfg, getenv); err != nil {
		return Config{}, nil, err
	}
	return cfg, tree, cfg.Validate()
}

func managedTimes(cfg *Config, getenv func(string) string) error {
	for name, field := range map[string]*time.Duration{"DASH_SIM_RUN_TIME": &cfg.RunTime, "DASH_SIM_STARTUP": &cfg.StartupTime} {
		if err := durationOf(getenv, name, field); err != nil {
			return err
		}
	}
	if text := getenv("DASH_SIM_TIME_SCALE"); text != "" {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("DASH_SIM_TIME_SCALE: %w", err)
		}
		cfg.TimeScale = f
	}
	if text := getenv("DASH_SIM_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fmt.Errorf("DASH_SIM_SEED: %w", err)
		}
		cfg.Seed = n
	}
	return nil
}

// durationOf reads a variable that holds a duration; without it the field stays.
func durationOf(getenv func(string) string, name string, field *time.Duration) error {
	text := getenv(name)
	if text == "" {
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%s: %w; write for example 50ms", name, err)
	}
	*field = d
	return nil
}

func readTree(path string) (map[string]any, error) {
	if path == "" {
		return nil, errors.New("OPENCLAW_CONFIG_PATH is not set")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	file := parseConfig(data)
	if file.tree == nil {
		return nil, fmt.Errorf("configuration %s: %s: %s", path, file.issues[0]["path"], file.issues[0]["message"])
	}
	return file.tree, nil
}

func lookup2(tree map[string]any, a, b string) any {
	sub, _ := tree[a].(map[string]any)
	return sub[b]
}

func lookupString(tree map[string]any, a, b string) string {
	s, _ := lookup2(tree, a, b).(string)
	return s
}

// lockState takes the state folder for this process. The kernel gives the lock
// back when the process dies, however it dies.
func lockState(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("state folder %s is in use by another gateway: %w", dir, err)
	}
	return func() { _ = f.Close() }, nil
}
