package gcfloor

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestPercent(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, c := range []struct {
		live, roots uint64
		want        int
	}{{16, 0, 700}, {12, 4, 725}, {64, 0, 100}, {63, 1, 101}, {100, 20, 100}, {128, 0, 100}, {500, 5, 100}, {0, 0, 3200}, {4, 0, 3100}, {1, 0, 3200}} {
		if got := percent(128*mib, c.live*mib, c.roots*mib); got != c.want {
			t.Errorf("live %d MiB, roots %d MiB: %d, want %d", c.live, c.roots, got, c.want)
		}
	}
}

// TestSet counts collections in processes of their own: the setting is one of
// the process. A GOGC in the environment is left alone.
func TestSet(t *testing.T) {
	if os.Getenv("GCFLOOR_CHILD") != "" {
		fmt.Printf("collections=%d\n", collections(t, 512<<20))
		return
	}
	own, floor := child(t, "100"), child(t, "")
	t.Logf("collections of 256 MiB: %d with GOGC=100, %d with a floor of 512 MiB", own, floor)
	if floor != 0 || own == 0 {
		t.Errorf("%d collections with the floor, %d without", floor, own)
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, c := range []struct {
		live, roots, other uint64
		want               int64
	}{{0, 0, 0, 144}, {20, 1, 10, 154}, {64, 0, 16, 160}, {100, 8, 20, 254}, {512, 0, 100, 1252}} {
		if got := limit(128*mib, c.live*mib, c.roots*mib, c.other*mib); got != c.want*mib {
			t.Errorf("live %d MiB, roots %d MiB, other %d MiB: %d MiB, want %d", c.live, c.roots, c.other, got/mib, c.want)
		}
	}
}

// The limit follows the heap in a process of its own. A GOMEMLIMIT of the
// environment is left alone.
func TestTheLimitFollowsTheHeap(t *testing.T) {
	if os.Getenv("GCFLOOR_LIMIT") != "" {
		Set(64 << 20)
		first := debug.SetMemoryLimit(-1)
		kept := make([]byte, 100<<20)
		collect(t, func() bool { return gogc() == leastPercent })
		fmt.Printf("limits=%d %d\n", first>>20, debug.SetMemoryLimit(-1)>>20)
		runtime.KeepAlive(kept)
		return
	}
	const other = 16 // what is no heap, at most
	for env, want := range map[string][2]int{"": {64 + 64/8, 200 + 200/8}, "1000MiB": {1000, 1000}} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTheLimitFollowsTheHeap$")
		cmd.Env = append(os.Environ(), "GCFLOOR_LIMIT=1", "GOGC=", "GOMEMLIMIT="+env)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		var got [2]int
		if _, err := fmt.Sscanf(string(out), "limits=%d %d", &got[0], &got[1]); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		for i := range got {
			if got[i] < want[i] || got[i] > want[i]+other {
				t.Errorf("GOMEMLIMIT=%q: the limits are %d MiB, want %d", env, got, want)
			}
		}
	}
}

// collect runs collections until it has been followed.
func collect(t *testing.T, followed func() bool) {
	t.Helper()
	for late := time.Now().Add(time.Minute); !followed(); runtime.Gosched() {
		if time.Now().After(late) {
			t.Fatal("nothing follows a collection")
		}
		runtime.GC()
	}
}

func gogc() uint64 {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
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

// collections allocates 256 MiB of garbage after a first collection.
func collections(t *testing.T, floor uint64) uint64 {
	Set(floor)
	kept := make([]byte, 16<<20)
	if before := gogc(); os.Getenv("GOGC") == "" {
		collect(t, func() bool { return gogc() != before })
	}
	s := []metrics.Sample{{Name: "/gc/cycles/automatic:gc-cycles"}}
	metrics.Read(s)
	begun := s[0].Value.Uint64()
	for range 4 * 1024 {
		sink = make([]byte, 64<<10)
	}
	metrics.Read(s)
	runtime.KeepAlive(kept)
	return s[0].Value.Uint64() - begun
}

var sink []byte
