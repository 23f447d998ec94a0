package report_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/soak/judge"
	"github.com/dash-fleet/dash/soak/report"
)

func sample() *report.Report {
	return &report.Report{
		Profile: "<50>", Began: time.Unix(0, 0).UTC(), Seconds: 10, Verdict: &judge.Verdict{
			Broken:   map[judge.Rule]int{judge.RuleOrder: 1},
			Findings: []judge.Finding{{Rule: judge.RuleOrder, Subject: "t-1", Detail: "<script>alert(1)</script>", Seq: 7}},
		},
		Figures:    []report.Figure{{Name: "nothing", Value: math.NaN(), Text: "NaN ms"}},
		Gates:      []report.Gate{{Name: "judge", Want: "clean", Got: "1 broken"}},
		Faults:     []report.Fault{{Kind: "dash-kill", Target: "dash serve", At: 2, Seconds: 1, Survived: true, Recovery: 0.5}},
		Resilience: &report.Resilience{Injected: 1, Survived: 1, Score: 1, Median: 0.5, Longest: 0.5},
		Plots: []report.Plot{
			{Title: "holes", Unit: "s", Series: []report.Series{{Name: "a", X: []float64{0, 1, 2, 3}, Y: []float64{1, math.NaN(), 2, 3}}}},
			{Title: "logarithmic", Log: true, Series: []report.Series{{Name: "b", X: []float64{0, 1, 2}, Y: []float64{0, 0.01, 5}}}},
			{Title: "empty", Log: true, Series: []report.Series{{Name: "c"}}},
			{Title: "flat", Series: []report.Series{{Name: "d", X: []float64{0, 1}, Y: []float64{0, 0}}}},
		},
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := sample().Write(dir); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"failed", "1 of 1 faults survived", "dash-kill", "strict_order", "not measured", "&lt;script&gt;alert", "profile &lt;50&gt;"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if n := strings.Count(string(page), "<svg"); n != 4 {
		t.Errorf("the page has %d pictures, want 4", n)
	}
	if strings.Contains(string(page), "<script>") || strings.Contains(string(page), "src=") {
		t.Error("the page runs or loads something")
	}
	data, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Plots []struct{ Series []struct{ Y []*float64 } }
	}
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if y := back.Plots[0].Series[0].Y; len(y) != 4 || y[1] != nil || *y[2] != 2 {
		t.Errorf("a hole is not null: %v", y)
	}
}

func TestBottleneck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limits []report.Utilisation
		want   string
	}{
		{nil, "unknown"},
		{[]report.Utilisation{{Name: "slots", Used: 0.97, Note: "n"}, {Name: "cpu", Used: 0.4}}, "slots: 97 % used (n)"},
		{[]report.Utilisation{{Name: "slots", Used: 0.3}, {Name: "cpu", Used: 0.4, Note: "n"}}, "none reached; the nearest is cpu with 40 % used (n)"},
	} {
		if got := report.Bottleneck(tt.limits); !strings.HasPrefix(got, tt.want) {
			t.Errorf("Bottleneck(%v) = %q, want %q", tt.limits, got, tt.want)
		}
	}
}
