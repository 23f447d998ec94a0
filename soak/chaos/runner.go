package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// RunConfig of Run.
type RunConfig struct {
	Binary string
	Rounds int    // of each repeated fault; other scenarios run once
	Only   string // run scenarios whose name contains this; empty: all
	Engine string // run scenarios on this engine; empty: on all
	Out    string // folder of report.json and of the logs of failed runs
	Logf   func(format string, args ...any)
}

// Progress is report.json: what was done so far. A run with the same rounds
// goes on where the last one was interrupted.
type Progress struct {
	Rounds    int                `json:"rounds"`
	Began     time.Time          `json:"began"`
	Updated   time.Time          `json:"updated"`
	Scenarios map[string]*Result `json:"scenarios"`
}

// Result of one scenario.
type Result struct {
	Promise  string   `json:"promise"`
	Wanted   int      `json:"wanted"` // rounds
	Done     int      `json:"done"`
	Failed   int      `json:"failed"` // runs
	Seconds  float64  `json:"seconds"`
	Failures []string `json:"failures,omitempty"`
	Notes    []string `json:"notes,omitempty"` // of the last run
}

// Run runs the scenarios to their full counts. The error tells which failed.
func Run(ctx context.Context, cfg RunConfig) error {
	if err := os.MkdirAll(cfg.Out, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	path := filepath.Join(cfg.Out, "report.json")
	p, err := resume(path, cfg)
	if err != nil {
		return err
	}
	matched := false
	for _, s := range Scenarios() {
		if !cfg.wants(s) {
			continue
		}
		matched = true
		if err := p.scenario(ctx, cfg, s, path); err != nil {
			return err
		}
	}
	if !matched {
		return fmt.Errorf("no scenario's name contains %q on engine %q", cfg.Only, cfg.Engine)
	}
	return p.verdict(cfg, path)
}

// resume reads an unfinished report of the same rounds, else begins anew.
func resume(path string, cfg RunConfig) (*Progress, error) {
	fresh := &Progress{Rounds: cfg.Rounds, Began: time.Now().UTC(), Scenarios: map[string]*Result{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return fresh, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	var old Progress
	if err := json.Unmarshal(data, &old); err != nil {
		return nil, fmt.Errorf("read report: %w; remove %s to begin anew", err, path)
	}
	if old.Rounds != cfg.Rounds || old.finished(cfg) {
		return fresh, nil
	}
	cfg.Logf("going on with the run of %s", old.Began.Format(time.RFC3339))
	return &old, nil
}

func (c RunConfig) wants(s Scenario) bool {
	return strings.Contains(s.Name, c.Only) && (c.Engine == "" || c.Engine == s.Engine)
}

func (p *Progress) finished(cfg RunConfig) bool {
	for _, s := range Scenarios() {
		if cfg.wants(s) && (p.Scenarios[s.Name] == nil || p.Scenarios[s.Name].Done < p.Scenarios[s.Name].Wanted) {
			return false
		}
	}
	return true
}

func (p *Progress) scenario(ctx context.Context, cfg RunConfig, s Scenario, path string) error {
	r := p.Scenarios[s.Name]
	if r == nil {
		r = &Result{Promise: s.Doc, Wanted: 1}
		if s.PerRun > 0 {
			r.Wanted = cfg.Rounds
		}
		p.Scenarios[s.Name] = r
	}
	for r.Done < r.Wanted {
		n := 1
		if s.PerRun > 0 {
			n = min(s.PerRun, r.Wanted-r.Done)
		}
		began := time.Now()
		err := r.once(ctx, cfg, s, n)
		if ctx.Err() != nil {
			return fmt.Errorf("%s was interrupted after %d of %d rounds: %w", s.Name, r.Done, r.Wanted, ctx.Err())
		}
		r.Done += n
		r.Seconds += time.Since(began).Seconds()
		state := "passed"
		if err != nil {
			state = "FAILED: " + err.Error()
			r.Failed++
			r.Failures = append(r.Failures, err.Error())
		}
		cfg.Logf("%-24s %3d of %d rounds, %5.1fs, %s", s.Name, r.Done, r.Wanted, time.Since(began).Seconds(), state)
		if err := p.save(path); err != nil {
			return err
		}
	}
	return nil
}

// once is one run; what it leaves is kept when it failed.
func (r *Result) once(ctx context.Context, cfg RunConfig, s Scenario, rounds int) error {
	dir, err := os.MkdirTemp(cfg.Out, strings.ReplaceAll(s.Name, "/", "-")+"-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	r.Notes = nil
	e := &Env{Binary: cfg.Binary, Dir: dir, Rounds: rounds, Engine: s.Engine, Seed: uint64(time.Now().UnixNano()),
		Logf: func(format string, args ...any) { r.Notes = append(r.Notes, fmt.Sprintf(format, args...)) }}
	if err := s.Run(ctx, e); err != nil {
		return fmt.Errorf("seed %d, logs in %s: %w", e.Seed, dir, err)
	}
	return e.Remove()
}

func (p *Progress) save(path string) error {
	p.Updated = time.Now().UTC()
	data, err := json.MarshalIndent(p, "", " ")
	if err == nil {
		err = os.WriteFile(path+".new", append(data, '\n'), 0o644)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func (p *Progress) verdict(cfg RunConfig, path string) error {
	failed := 0
	for _, s := range Scenarios() {
		r := p.Scenarios[s.Name]
		if r == nil || !cfg.wants(s) {
			continue
		}
		failed += r.Failed
		cfg.Logf("%-24s %d rounds, %d runs failed: %s", s.Name, r.Done, r.Failed, s.Doc)
	}
	cfg.Logf("report: %s", path)
	if failed > 0 {
		return fmt.Errorf("%d runs failed", failed)
	}
	return nil
}
