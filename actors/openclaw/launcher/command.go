package launcher

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dash-fleet/dash/messages/next"
)

const (
	envLaunchID = "DASH_LAUNCH_ID"
	envStateDir = "OPENCLAW_STATE_DIR"

	compileCache = "compile-cache" // below Config.Dir
)

// daemonNames are looked for on PATH, in this order, when ProbeNames is set.
var daemonNames = []string{"openclaws", "openclaw", "openclawd"}

// heapFlags keep a gateway at 0.5-0.6 GB instead of 0.7. They go
// on the command line, where programs that an agent starts do not inherit them.
var heapFlags = []string{"--max-old-space-size=512", "--max-semi-space-size=4", "--v8-pool-size=1"}

// refusedArgs would fight with what the launcher writes to the configuration
// file, show the token to every user of the host, or end whoever has the port.
var refusedArgs = []string{"--port", "--bind", "--auth", "--token", "--password", "--force"}

// commandFor returns the program and arguments that start a gateway.
func (l *Launcher) commandFor(own []string) ([]string, error) {
	argv := own
	if len(argv) == 0 {
		argv = l.cfg.Command
	}
	if len(argv) == 0 && l.cfg.ProbeNames {
		found, err := probeNames(l.log)
		if err != nil {
			return nil, err
		}
		argv = []string{found}
	}
	if len(argv) == 0 {
		return nil, permanent(next.SetOpenClawCommand, "no command is configured that starts a gateway")
	}
	return checkCommand(argv)
}

func probeNames(log *slog.Logger) (string, error) {
	for _, name := range daemonNames {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if path, err = filepath.Abs(path); err != nil {
			return "", retryable(err, next.FullPathOpenClaw, "resolve %s", name)
		}
		log.Info("found the gateway program on PATH", "name", name, "path", path)
		return path, nil
	}
	return "", permanent(next.InstallOpenClaw, "none of %s is on PATH", strings.Join(daemonNames, ", "))
}

// checkCommand returns the arguments to run, or a permanent error that says
// what is wrong with them.
func checkCommand(argv []string) ([]string, error) {
	program := argv[0]
	if !filepath.IsAbs(program) {
		return nil, permanent(next.FullPath, "the command %q is not an absolute path", program)
	}
	info, err := os.Stat(program)
	if err != nil {
		e := permanent(next.InstallOrCorrectCommand, "the program %s cannot be started", program)
		e.Err = err
		return nil, e
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return nil, permanent(next.CorrectCommandRights, "%s is not an executable file", program)
	}
	for _, arg := range argv[1:] {
		name, _, _ := strings.Cut(arg, "=")
		if slices.Contains(refusedArgs, name) {
			return nil, permanent(next.RemoveArgument, "the command has the argument %s", name)
		}
		if strings.IndexByte(arg, 0) >= 0 {
			return nil, permanent(next.CorrectCommand, "an argument of the command holds a zero byte")
		}
	}
	base := filepath.Base(program)
	if len(argv) == 1 && slices.Contains(daemonNames, base) {
		return []string{program, "gateway", "run"}, nil
	}
	if base == "node" || base == "nodejs" {
		return withHeapFlags(argv), nil
	}
	return slices.Clone(argv), nil
}

// withHeapFlags adds the memory flags that the command does not set itself.
func withHeapFlags(argv []string) []string {
	out := []string{argv[0]}
	for _, flag := range heapFlags {
		name, _, _ := strings.Cut(flag, "=")
		if !slices.ContainsFunc(argv, func(a string) bool { return a == name || strings.HasPrefix(a, name+"=") }) {
			out = append(out, flag)
		}
	}
	return append(out, argv[1:]...)
}

// inherited are the only variables of Dash's own environment that a gateway
// sees: Dash's holds database URLs and keys.
var inherited = []string{"LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"}

// environment returns the daemon's environment without its launch id, sorted.
func (l *Launcher) environment(dir folder, program string, own map[string]string) ([]string, error) {
	env := map[string]string{
		"PATH": filepath.Dir(program) + ":" + pathOr("/usr/local/bin:/usr/bin:/bin"),
		// Fewer malloc arenas and helper threads save memory.
		"MALLOC_ARENA_MAX": "1", "UV_THREADPOOL_SIZE": "2",
		// One compile cache for all gateways of the node.
		"NODE_COMPILE_CACHE":     filepath.Join(l.cfg.Dir, compileCache),
		"OPENCLAW_SKIP_CHANNELS": "1", "OPENCLAW_SKIP_CRON": "1", "OPENCLAW_SKIP_GMAIL_WATCHER": "1",
		"OPENCLAW_SKIP_CANVAS_HOST": "1", "OPENCLAW_DISABLE_BONJOUR": "1", "OPENCLAW_EXEC_SHELL_SNAPSHOT": "0",
		"OPENCLAW_NO_AUTO_UPDATE": "1", "NO_COLOR": "1",
	}
	for _, name := range inherited {
		if v, ok := os.LookupEnv(name); ok {
			env[name] = v
		}
	}
	fixed := map[string]string{
		"HOME": dir.home(), "OPENCLAW_HOME": dir.home(), envStateDir: dir.state(), "OPENCLAW_CONFIG_PATH": dir.config(),
		// One process: else the pid we know is a parent, and killing it leaves
		// the gateway alive.
		"OPENCLAW_NO_RESPAWN": "1", "OPENCLAW_PACKAGED_COMPILE_CACHE_RESPAWNED": "1",
	}
	for name, v := range own { // the names were permitted, and fixed is none of them
		if strings.IndexByte(v, 0) >= 0 {
			return nil, permanent(next.CorrectEnv, "the value of the variable %s holds a zero byte", name)
		}
	}
	maps.Copy(env, own)
	maps.Copy(env, fixed)
	out := make([]string, 0, len(env)+1)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, fmt.Sprintf("%s=%s", name, env[name]))
	}
	return out, nil
}

func pathOr(fallback string) string {
	if p := os.Getenv("PATH"); p != "" {
		return p
	}
	return fallback
}
