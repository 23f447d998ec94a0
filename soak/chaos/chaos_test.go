package chaos_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/dash-fleet/dash/soak/chaos"
)

// binary is built once, without the race detector: these tests look at a node
// from outside, at its real speed.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "dash-chaos-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = os.Getenv("DASH_BINARY")
	if binary == "" {
		binary = filepath.Join(dir, "dash")
		build := exec.Command("go", "build", "-trimpath", "-o", binary, "../../cmd/dash")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build dash: %v\n%s", err, out)
			os.Exit(1)
		}
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func TestScenarios(t *testing.T) {
	rounds := 2
	if s := os.Getenv("DASH_CHAOS_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("DASH_CHAOS_ROUNDS is %q, want a number from 1 on", s)
		}
		rounds = n
	}
	for _, s := range chaos.Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			if s.Root && os.Geteuid() != 0 {
				t.Skip("infrastructure missing: root")
			}
			n := 1
			if s.PerRun > 0 {
				n = min(rounds, s.PerRun)
			}
			seed := uint64(time.Now().UnixNano())
			t.Logf("%s; %d rounds, seed %d", s.Doc, n, seed)
			e := &chaos.Env{Binary: binary, Dir: t.TempDir(), Rounds: n, Engine: s.Engine, Seed: seed, Logf: t.Logf}
			if err := s.Run(t.Context(), e); err != nil {
				t.Error(err)
				tail(t, e.Dir)
			}
		})
	}
}

// tail shows the end of the logs, because the folder is gone after the test.
func tail(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"dash.log", "sim.log"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			t.Logf("end of %s:\n%s", name, data[max(0, len(data)-3000):])
		}
	}
	if keep := os.Getenv("DASH_CHAOS_KEEP"); keep != "" {
		if err := os.CopyFS(filepath.Join(keep, t.Name()+strconv.FormatInt(time.Now().Unix(), 10)), os.DirFS(dir)); err != nil {
			t.Log(err)
		}
	}
}
