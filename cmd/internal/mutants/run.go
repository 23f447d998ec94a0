package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// What became of a mutant.
const (
	killed    = "killed"    // a test failed
	timedOut  = "timed out" // the tests hung, though they end without the mutant
	survived  = "survived"  // every test passed
	notBuilt  = "not built" // it does not compile: an error of the list
	noServers = "no verdict"
)

// result of one mutant. Digest names what it was found out about: a result
// counts while neither the mutant nor anything its tests are built of changes.
type result struct {
	Mutant  string  `json:"mutant"`
	Digest  string  `json:"digest"`
	Result  string  `json:"result"`
	By      string  `json:"by,omitempty"` // the first test that failed
	Seconds float64 `json:"seconds"`
}

func (r result) found() bool { return r.Result == killed || r.Result == timedOut }

type runner struct {
	root, dir string
	limit     time.Duration
	out       io.Writer

	mu      sync.Mutex
	journal *os.File
	known   map[string]result // by mutant
	groups  map[string]*group // by the arguments of their tests
}

// runAll runs the mutants without a result of an earlier run.
func (r *runner) runAll(ctx context.Context, chosen []mutant, jobs int) {
	work := make(chan mutant)
	var all sync.WaitGroup
	for range jobs {
		all.Go(func() {
			for m := range work {
				if res, err := r.one(ctx, &m); err == nil {
					r.record(res)
				} else if ctx.Err() == nil {
					r.say("%-10s  %s: %v\n", "error", m.Name, err)
				}
			}
		})
	}
	for _, m := range chosen {
		if r.has(&m) {
			continue
		}
		select {
		case work <- m:
		case <-ctx.Done():
		}
	}
	close(work)
	all.Wait()
}

// has reports whether an earlier run has left the result of a mutant.
func (r *runner) has(m *mutant) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, ok := r.known[m.Name]
	return ok && old.Digest == r.digest(m)
}

// one runs the tests of a mutant with its file laid over the one of the tree.
func (r *runner) one(ctx context.Context, m *mutant) (result, error) {
	if err := r.groups[m.tests()].passes(); err != nil {
		return result{}, err
	}
	text, err := m.apply(r.root)
	if err != nil {
		return result{}, err
	}
	tmp, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return result{}, err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // the system sweeps its folder
	file := filepath.Join(tmp, filepath.Base(m.File))
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(r.root, filepath.FromSlash(m.File)): file}})
	if err != nil {
		return result{}, err
	}
	list := filepath.Join(tmp, "overlay.json")
	if err := errors.Join(os.WriteFile(file, text, 0o600), os.WriteFile(list, overlay, 0o600)); err != nil {
		return result{}, err
	}
	began := time.Now()
	v, err := r.test(ctx, m, "-overlay", list, "-count", "1", "-failfast")
	if err != nil {
		return result{}, err
	}
	return result{Mutant: m.Name, Digest: r.digest(m), Result: v.result, By: v.by, Seconds: time.Since(began).Round(100 * time.Millisecond).Seconds()}, nil
}

// verdict is what a run of go test says.
type verdict struct {
	result, by string
	output     string // of what failed
}

// test runs the tests of a mutant, with or without it. One that hangs is ended
// by go test's own limit, which covers the tests and not the build.
func (r *runner) test(ctx context.Context, m *mutant, flags ...string) (verdict, error) {
	args := slices.Concat([]string{"test", "-json", "-vet", "off", "-p", "1", "-timeout", r.limit.String()}, flags, m.Test, r.groups[m.tests()].flags)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = r.root
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it passes the signal on to the test
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return verdict{}, ctx.Err()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return verdict{}, err
	}
	v := judge(&stdout, err == nil)
	if v.result == notBuilt || err != nil && v.output == "" {
		v.output += stderr.String()
	}
	return v, nil
}

// judge reads what go test -json said.
func judge(stdout io.Reader, passed bool) verdict {
	v := verdict{result: killed}
	if passed {
		v.result = survived
	}
	var said strings.Builder
	for d := json.NewDecoder(stdout); ; {
		var e struct{ Action, Package, Test, Output, FailedBuild string }
		if d.Decode(&e) != nil {
			break
		}
		switch {
		case e.Action == "build-fail" || e.FailedBuild != "":
			v.result = notBuilt
		case e.Action == "fail" && (v.by == "" || strings.HasPrefix(e.Test, v.by+"/")):
			// Of a test and its parts, the part is told first.
			v.by = strings.TrimSpace(e.Test)
			if v.by == "" {
				v.by = "package " + e.Package
			}
		}
		said.WriteString(e.Output)
	}
	if !passed {
		v.output = said.String()
	}
	if v.result == killed && strings.Contains(v.output, "panic: test timed out after") {
		v.result = timedOut
	}
	if v.result == killed && strings.Contains(v.output, "infrastructure missing: ") {
		v.result = noServers
	}
	return v
}

func (r *runner) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, format, args...)
}
