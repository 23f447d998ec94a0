package main

import (
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		of   []float64
		want float64
	}{{nil, 0}, {[]float64{7}, 7}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := median(tt.of); got != tt.want {
			t.Errorf("median of %v is %v, want %v", tt.of, got, tt.want)
		}
	}
}

// TestTableShowsRatiosAndFailures: medians over rounds, the ratio within a row,
// and a failed round is neither counted nor hidden.
func TestTableShowsRatiosAndFailures(t *testing.T) {
	t.Parallel()
	r := row{mode: "throughput", store: redisAlways, producers: 64}
	one := func(system string, tasks int, cpu float64) measurement {
		return measurement{Row: r.String(), Mode: r.mode, Store: r.store, System: system,
			result: result{Tasks: tasks, Seconds: 2}, RedisCPUSeconds: cpu}
	}
	failed := one("Dash", 0, 0)
	failed.Error = "it\nbroke"
	got := table(runOptions{rows: rows(), systems: systems}, []measurement{one("asynq best", 2000, 0.2), one("Dash", 20000, 0.2), one("Dash", 22000, 0.2), one("Dash", 90000, 0.2), failed})
	for _, want := range []string{
		"| redis always | 64 | asynq best | 1000 | 11.0 x | 100.0 | 11.0 x | 1 |",
		"| redis always | 64 | Dash | 11000 |  | 9.1 |  | 4, 1 failed |",
		"failed: throughput redis always 64, Dash: it broke",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the table lacks %q:\n%s", want, got)
		}
	}
}

// TestEveryRowHasDash: there is nothing to compare with otherwise.
func TestEveryRowHasDash(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range rows() {
		if seen[r.String()] {
			t.Errorf("the row %s is there twice", r)
		}
		seen[r.String()] = true
	}
	dash := systems[len(systems)-1]
	for _, store := range []string{redisAlways, redisEverysec, postgresOn, sqliteFull} {
		if !strings.Contains(strings.Join(dash.stores, ","), store) {
			t.Errorf("Dash is not measured on %s", store)
		}
	}
}

func TestCandidatesDiffer(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"asynq", "river"} {
		all, err := candidates(name)
		if err != nil || len(all) < 10 {
			t.Fatalf("%d candidates of %s, %v", len(all), name, err)
		}
		seen := map[string]bool{}
		for _, s := range all {
			if seen[s.name] {
				t.Errorf("twice: %s", s.name)
			}
			seen[s.name] = true
		}
	}
	if _, err := candidates("other"); err == nil {
		t.Error("searched for an unknown system")
	}
}
