// Package livetest installs and starts a real OpenClaw gateway for tests: a
// private Node.js and the openclaw package from npm, a minimal configuration,
// one process at a time. It is used behind the build tag live only.
package livetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// ErrMissing says that something outside of the code is not there: npm, the
// registry, a supported operating system. It is no verdict on the code.
var ErrMissing = errors.New("infrastructure missing")

// ExitMissing is the exit code of a test binary for ErrMissing.
const ExitMissing = 69

// DefaultVersion is the release that is tested unless OPENCLAW_VERSION says
// otherwise.
const DefaultVersion = "2026.9.6"

// Version is the OpenClaw release to test.
func Version() string {
	if v := os.Getenv("OPENCLAW_VERSION"); v != "" {
		return v
	}
	return DefaultVersion
}

// Installation is an installed release.
type Installation struct {
	Version string
	Node    string // absolute path of the node binary
	Entry   string // absolute path of openclaw.mjs
	dir     string
}

var versionForm = regexp.MustCompile(`^(20[0-9]{2})\.([0-9]{1,2})\.([0-9]{1,3})(-[0-9A-Za-z.]{1,20})?$`)

// nodeRange is the Node.js that a release wants: 2026.9 and later run on 26.
func nodeRange(version string) (string, error) {
	m := versionForm.FindStringSubmatch(version)
	if m == nil {
		return "", fmt.Errorf("openclaw version %q: want year.month.patch", version)
	}
	year, _ := strconv.Atoi(m[1]) // digits by the pattern
	month, _ := strconv.Atoi(m[2])
	if year > 2026 || month >= 9 {
		return "^26", nil
	}
	return "^24", nil
}

// CacheDir is .cache/openclaw in the module's root folder, found upwards from
// the working directory.
func CacheDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, ".cache", "openclaw"), nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod above the working directory")
		}
	}
}

// Install makes sure that a release is in cache/<version>; a second call is
// fast. Two processes may call it at once.
func Install(ctx context.Context, cache, version string) (Installation, error) {
	want, err := nodeRange(version)
	if err != nil {
		return Installation{}, err
	}
	if runtime.GOOS != "linux" {
		return Installation{}, fmt.Errorf("%w: a real gateway is installed on Linux only, this is %s", ErrMissing, runtime.GOOS)
	}
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	if arch == "" {
		return Installation{}, fmt.Errorf("%w: no node package for CPU %s", ErrMissing, runtime.GOARCH)
	}
	dir := filepath.Join(cache, version)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Installation{}, err
	}
	unlock, err := lock(filepath.Join(dir, "install.lock"))
	if err != nil {
		return Installation{}, err
	}
	defer unlock()
	nodePackage := "node-linux-" + arch
	in := Installation{
		Version: version, dir: dir,
		Node:  filepath.Join(dir, "node", "node_modules", nodePackage, "bin", "node"),
		Entry: filepath.Join(dir, "openclaw", "node_modules", "openclaw", "openclaw.mjs"),
	}
	marker := filepath.Join(dir, "installed")
	if _, err := os.Stat(marker); err == nil {
		return in, nil
	}
	if err := in.fetch(ctx, nodePackage+"@"+want); err != nil {
		return Installation{}, err
	}
	return in, os.WriteFile(marker, []byte(version+"\n"), 0o644)
}

func (in Installation) fetch(ctx context.Context, nodeSpec string) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return fmt.Errorf("%w: npm is not on PATH; install Node.js with npm", ErrMissing)
	}
	// The node binary is an npm package too, so one registry serves for both.
	if err := npmInstall(ctx, npm, filepath.Join(in.dir, "node"), nodeSpec, os.Getenv("PATH")); err != nil {
		return err
	}
	// Package scripts must run under the version that the release supports.
	path := filepath.Dir(in.Node) + string(os.PathListSeparator) + os.Getenv("PATH")
	if err := npmInstall(ctx, npm, filepath.Join(in.dir, "openclaw"), "openclaw@"+in.Version, path); err != nil {
		return err
	}
	for _, f := range []string{in.Node, in.Entry} {
		if _, err := os.Stat(f); err != nil {
			return fmt.Errorf("%w: npm installed, but %s is not there", ErrMissing, f)
		}
	}
	return nil
}

func npmInstall(ctx context.Context, npm, prefix, spec, path string) error {
	if err := os.MkdirAll(prefix, 0o755); err != nil {
		return err
	}
	manifest := filepath.Join(prefix, "package.json")
	if _, err := os.Stat(manifest); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(manifest, []byte(`{"private":true}`+"\n"), 0o644); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, npm, "install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", prefix, spec)
	cmd.Env = append(os.Environ(), "PATH="+path)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: npm install %s: %v: %s", ErrMissing, spec, err, tail(out.String(), 600))
	}
	return nil
}

func tail(s string, n int) string {
	s = strings.TrimSpace(s)
	if len(s) > n {
		s = "…" + s[len(s)-n:]
	}
	return s
}

// lock takes an exclusive file lock and waits for it.
func lock(path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}
