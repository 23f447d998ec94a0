package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is one line of go test -json (see "go doc test2json").
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// missingPrefix begins the line by which a test says that something outside of
// the code is not there.
const missingPrefix = "infrastructure missing: "

type counter struct {
	w                       io.Writer
	passed, failed, skipped int
	output                  map[string][]string          // by test, of what still runs or failed
	ended                   map[string]map[string]string // package -> test -> action
	builds                  map[string][]string          // compiler output by import path
	missing                 string                       // first report of missing infrastructure by a failure
}

func newCounter(w io.Writer) *counter {
	return &counter{w: w, output: map[string][]string{}, ended: map[string]map[string]string{}, builds: map[string][]string{}}
}

func (c *counter) read(r io.Reader) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), 16<<20)
	for s.Scan() {
		var e event
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			fmt.Fprintln(c.w, s.Text()) // not an event: show it as it came
			continue
		}
		c.handle(e)
	}
	return s.Err()
}

func (c *counter) handle(e event) {
	key := e.Package + "\x00" + e.Test
	switch e.Action {
	case "build-output":
		c.builds[e.ImportPath] = append(c.builds[e.ImportPath], e.Output)
	case "output":
		c.output[key] = append(c.output[key], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			c.endPackage(e)
			return
		}
		if c.ended[e.Package] == nil {
			c.ended[e.Package] = map[string]string{}
		}
		c.ended[e.Package][e.Test] = e.Action
		if e.Action != "fail" {
			delete(c.output, key)
		}
	}
}

// endPackage counts the leaves of a package and prints what failed in it.
func (c *counter) endPackage(e event) {
	tests := c.ended[e.Package]
	failedTests := 0
	for _, name := range sorted(tests) {
		action := tests[name]
		if action == "fail" {
			failedTests++
			c.show(e.Package+" "+name, strings.Join(c.output[e.Package+"\x00"+name], ""))
		}
		if hasChildren(tests, name) && !(action == "fail" && childrenPassed(tests, name)) {
			continue
		}
		switch action {
		case "pass":
			c.passed++
		case "fail":
			c.failed++
		case "skip":
			c.skipped++
		}
	}
	if e.Action == "fail" && failedTests == 0 {
		c.failed++
		c.show(e.Package, strings.Join(c.builds[e.FailedBuild], "")+strings.Join(c.output[e.Package+"\x00"], "")+c.unfinished(e.Package))
	}
	fmt.Fprintf(c.w, "%-4s %s %.1fs\n", map[string]string{"pass": "ok", "fail": "FAIL", "skip": "none"}[e.Action], e.Package, e.Elapsed)
	delete(c.ended, e.Package)
	for k := range c.output {
		if strings.HasPrefix(k, e.Package+"\x00") {
			delete(c.output, k)
		}
	}
}

// show prints what a failure said, and keeps what it said of missing
// infrastructure: the words of a test that passed mean nothing.
func (c *counter) show(name, said string) {
	fmt.Fprintf(c.w, "\n--- FAILED %s\n%s", name, said)
	if i := strings.Index(said, missingPrefix); i >= 0 && c.missing == "" {
		c.missing, _, _ = strings.Cut(said[i:], "\n")
	}
}

// unfinished is the output of tests that never ended: a panic or a time-out
// speaks there.
func (c *counter) unfinished(pkg string) string {
	var b strings.Builder
	for _, k := range sorted(c.output) {
		if name, ok := strings.CutPrefix(k, pkg+"\x00"); ok && name != "" && c.ended[pkg][name] == "" {
			b.WriteString(strings.Join(c.output[k], ""))
		}
	}
	return b.String()
}

// finish counts packages that never ended and prints the last line, after what
// infrastructure was missing.
func (c *counter) finish() {
	for _, pkg := range sorted(c.ended) {
		c.endPackage(event{Action: "fail", Package: pkg})
	}
	if c.failed > 0 && c.missing != "" {
		fmt.Fprintln(c.w, c.missing)
	}
	fmt.Fprintf(c.w, "%d passed, %d failed, %d skipped\n", c.passed, c.failed, c.skipped)
}

func hasChildren(tests map[string]string, name string) bool {
	for other := range tests {
		if strings.HasPrefix(other, name+"/") {
			return true
		}
	}
	return false
}

// childrenPassed reports a parent that failed by itself.
func childrenPassed(tests map[string]string, name string) bool {
	for other, action := range tests {
		if strings.HasPrefix(other, name+"/") && action == "fail" {
			return false
		}
	}
	return true
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
