package harness

import (
	"math"
	"os"
	"strings"
	"testing"
)

func TestQuantileOfTheDifference(t *testing.T) {
	t.Parallel()
	bounds := []float64{0.001, 0.01, 0.1, math.Inf(1)}
	before := Buckets{Bounds: bounds, Counts: []float64{100, 100, 100, 100}}
	now := Buckets{Bounds: bounds, Counts: []float64{100, 150, 200, 200}}
	if got := now.Quantile(0.5, before); math.Abs(got-0.01) > 1e-9 {
		t.Errorf("p50 = %g, want 0.01", got)
	}
	if got := now.Quantile(0.75, before); math.Abs(got-0.055) > 1e-9 {
		t.Errorf("p75 = %g, want 0.055", got)
	}
	if got := now.Quantile(0.5, now); !math.IsNaN(got) {
		t.Errorf("p50 of nothing = %g, want NaN", got)
	}
}

func TestReadMetrics(t *testing.T) {
	t.Parallel()
	text := `# HELP go_goroutines x
go_goroutines 42
dash_store_commit_seconds_bucket{engine="sqlite",le="0.001"} 3
dash_store_commit_seconds_bucket{engine="sqlite",le="+Inf"} 5
dash_store_commit_seconds_sum{engine="sqlite"} 1.5
`
	var s Sample
	if err := readMetrics(strings.NewReader(text), &s); err != nil {
		t.Fatal(err)
	}
	if s.Goroutines != 42 || s.Commits.Sum != 1.5 || len(s.Commits.Counts) != 2 || s.Commits.Counts[1] != 5 || !math.IsInf(s.Commits.Bounds[1], 1) {
		t.Errorf("read %+v", s)
	}
}

func TestUsageOfThisProcess(t *testing.T) {
	t.Parallel()
	rss, cpu, err := usage(os.Getpid())
	if err != nil || rss < 1<<20 || cpu < 0 {
		t.Errorf("usage = %d bytes, %g s, %v", rss, cpu, err)
	}
	used, capacity, err := machine()
	if err != nil || used <= 0 || capacity < used {
		t.Errorf("machine = %g of %g, %v", used, capacity, err)
	}
}
