// Package report says in a file that people read, and in one that programs
// read, how a soak run went: gates, figures over time, faults and the
// bottleneck. It computes from what it is given and writes two files.
package report

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/dash-fleet/dash/soak/judge"
)

// Report is a soak run. All times of series are seconds since the run began.
type Report struct {
	Profile  string    `json:"profile"`
	Version  string    `json:"version"`
	Began    time.Time `json:"began"`
	Seconds  float64   `json:"seconds"` // of load, without the drain
	Machine  string    `json:"machine"`
	Passed   bool      `json:"passed"`
	Gateways int       `json:"gateways"`
	Slots    int       `json:"slots"` // of all gateways
	Rate     float64   `json:"rate"`  // planned submits per second

	Gates      []Gate         `json:"gates"`
	Figures    []Figure       `json:"figures"`
	Bottleneck string         `json:"bottleneck"`
	Limits     []Utilisation  `json:"limits"`
	Faults     []Fault        `json:"faults,omitempty"`
	Resilience *Resilience    `json:"resilience,omitempty"`
	Verdict    *judge.Verdict `json:"verdict"`
	Plots      []Plot         `json:"plots"`
}

// Gate is a condition that decides whether the run passed.
type Gate struct {
	Name   string `json:"name"`
	Want   string `json:"want"`
	Got    string `json:"got"`
	Passed bool   `json:"passed"`
}

// Figure is a number worth reading.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Text  string  `json:"text"`
}

// Utilisation is how much of one limit was used, 0 to 1.
type Utilisation struct {
	Name string  `json:"name"`
	Used float64 `json:"used"`
	Note string  `json:"note"`
}

// Fault is one injected fault.
type Fault struct {
	Kind     string  `json:"kind"`
	Target   string  `json:"target"`
	At       float64 `json:"at"`
	Seconds  float64 `json:"seconds"` // how long it lasted
	Survived bool    `json:"survived"`
	Recovery float64 `json:"recovery"` // seconds from its end to the first task that succeeded there
}

// Resilience sums the faults up: a fault counts as survived when work went on
// where it hit and the judge found no broken promise in the whole run.
type Resilience struct {
	Injected int     `json:"injected"`
	Survived int     `json:"survived"`
	Score    float64 `json:"score"` // 0 to 1
	Median   float64 `json:"median_recovery"`
	Longest  float64 `json:"longest_recovery"`
}

// Plot is one picture.
type Plot struct {
	Title  string   `json:"title"`
	Unit   string   `json:"unit"`
	Note   string   `json:"note"`
	Log    bool     `json:"log,omitempty"` // logarithmic values
	Series []Series `json:"series"`
}

// Series is one line of a plot; NaN (null in JSON) is a hole.
type Series struct {
	Name string  `json:"name"`
	X    Numbers `json:"x"`
	Y    Numbers `json:"y"`
}

// Numbers are values of which NaN is written as null.
type Numbers []float64

// MarshalJSON writes a list with null for what is no number.
func (n Numbers) MarshalJSON() ([]byte, error) {
	list := make([]*float64, len(n))
	for i, v := range n {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			r := math.Round(v*1e6) / 1e6
			list[i] = &r
		}
	}
	return json.Marshal(list)
}

// Bottleneck names the limit that is used most.
func Bottleneck(limits []Utilisation) string {
	if len(limits) == 0 {
		return "unknown: nothing was measured"
	}
	top := limits[0]
	for _, l := range limits[1:] {
		if l.Used > top.Used {
			top = l
		}
	}
	if top.Used >= 0.85 {
		return fmt.Sprintf("%s: %.0f %% used (%s)", top.Name, 100*top.Used, top.Note)
	}
	return fmt.Sprintf("none reached; the nearest is %s with %.0f %% used (%s)", top.Name, 100*top.Used, top.Note)
}

// Write makes report.json and report.html in dir.
func (r *Report) Write(dir string) error {
	for i := range r.Figures {
		if f := &r.Figures[i]; math.IsNaN(f.Value) || math.IsInf(f.Value, 0) {
			f.Value, f.Text = 0, "not measured"
		}
	}
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "report.json"), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	page, err := r.html()
	if err != nil {
		return fmt.Errorf("draw report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "report.html"), page, 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
