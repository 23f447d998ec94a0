package hostile

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// binary of dash, without the race detector: memory is measured.
func binary(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("DASH_BINARY"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "dash")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", path, "../../cmd/dash")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build dash: %v\n%s", err, out)
	}
	return path
}

// Whatever one gateway sends, its node's memory grows by a bounded amount, and
// nothing of it is seen at other gateways' tasks. How much slower those are is
// measured by the long form, `soak hostile`: a busy machine says nothing about it.
func TestOneHostileGateway(t *testing.T) {
	window := 2 * time.Second
	if s := os.Getenv("DASH_HOSTILE_SECONDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("DASH_HOSTILE_SECONDS is %q, want a number from 1 on", s)
		}
		window = time.Duration(n) * time.Second
	}
	r, err := Run(t.Context(), Config{Binary: binary(t), Dir: t.TempDir(), Window: window, Before: window / 4, Warm: 15 * time.Second, Rounds: 1, Only: os.Getenv("DASH_HOSTILE_ONLY"), Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("memory grew by %d MiB at most; p99 %s honest, %s hostile; %d tasks; %+v", r.Growth()>>20, r.Honest, r.Hostile, r.Tasks, r.Fake)
	if err := r.Err(false); err != nil {
		t.Error(err)
	}
}
