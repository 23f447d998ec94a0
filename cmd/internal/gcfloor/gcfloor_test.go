package gcfloor

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"testing"
)

func TestPercent(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, c := range []struct {
		live, roots uint64
		want        int
	}{{16, 0, 700}, {12, 4, 725}, {64, 0, 100}, {63, 1, 101}, {100, 20, 100}, {128, 0, 100}, {500, 5, 100}, {0, 0, 100}, {4, 0, 3100}, {1, 0, 3200}} {
		if got := percent(128*mib, c.live*mib, c.roots*mib); got != c.want {
			t.Errorf("live %d MiB, roots %d MiB: %d, want %d", c.live, c.roots, got, c.want)
		}
	}
}

// TestSet counts collections in processes of their own: the setting is one of
// the process. A GOGC in the environment is left alone.
func TestSet(t *testing.T) {
	if os.Getenv("GCFLOOR_CHILD") != "" {
		fmt.Printf("collections=%d\n", collections(32<<20))
		return
	}
	own, floor := child(t, "100"), child(t, "")
	t.Logf("collections of 256 MiB: %d with GOGC=100, %d with a floor of 32 MiB", own, floor)
	if floor == 0 || floor*2 > own {
		t.Errorf("%d collections with the floor, %d without", floor, own)
	}
}

func child(t *testing.T, gogc string) (n int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSet$")
	cmd.Env = append(os.Environ(), "GCFLOOR_CHILD=1", "GOGC="+gogc)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("GOGC=%q: %v\n%s", gogc, err, out)
	}
	if _, err := fmt.Sscanf(string(out), "collections=%d", &n); err != nil {
		t.Fatalf("GOGC=%q: %v in %s", gogc, err, out)
	}
	return n
}

// collections allocates 256 MiB, of which next to nothing stays alive.
func collections(floor uint64) uint64 {
	Set(floor)
	s := []metrics.Sample{{Name: "/gc/cycles/automatic:gc-cycles"}}
	metrics.Read(s)
	begun := s[0].Value.Uint64()
	for range 4 * 1024 {
		sink = make([]byte, 64<<10)
	}
	runtime.KeepAlive(sink)
	metrics.Read(s)
	return s[0].Value.Uint64() - begun
}

var sink []byte
