//go:build live && linux

package live

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dash-fleet/dash/actors/openclaw/livetest"
)

var (
	installed livetest.Installation
	binary    string // of dash
)

// TestMain installs the gateway and builds Dash: missing infrastructure is no
// failure of the code and has an exit code of its own.
func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
		if errors.Is(err, livetest.ErrMissing) {
			code = livetest.ExitMissing
		}
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	cache, err := livetest.CacheDir()
	if err != nil {
		return 0, err
	}
	if installed, err = livetest.Install(ctx, cache, livetest.Version()); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "dash-live-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "dash")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/dash-fleet/dash/cmd/dash")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build dash: %w: %s", err, out)
	}
	// Real gateways of one machine take turns: a boot that starves for CPU fails.
	lock, err := os.OpenFile(filepath.Join(cache, livetest.Version(), "boot.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return 0, err
	}
	return m.Run(), nil
}
