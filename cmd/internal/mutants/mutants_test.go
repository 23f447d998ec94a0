package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryMutantApplies keeps the list of this repository from rotting.
func TestEveryMutantApplies(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	all, err := readAll(filepath.Join(root, "mutants"))
	if err != nil {
		t.Fatal(err)
	}
	if err := check(root, all); err != nil {
		t.Error(err)
	}
	if len(all) < 60 {
		t.Errorf("%d mutants are listed, want 60 at least", len(all))
	}
}

func TestWhatIsNoMutant(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root, "a.go", "package a\n\nfunc f() int { return 1 }\n\nvar x = 1\n\nvar y = 1 // x\nvar z = 1 // x\n")
	head := "breaks: a promise\nfile: a.go\ntest: .\n\n"
	for name, c := range map[string]struct{ text, says string }{
		"no header":        {"-var x = 1\n+var x = 2\n", "is not"},
		"unknown header":   {"breaks: x\nwhy: y\n\n", "unknown"},
		"no test":          {"breaks: x\nfile: a.go\n\n-var x = 1\n+var x = 2\n", "lacks"},
		"no sign":          {head + "var x = 1\n", "begins neither"},
		"nothing changes":  {head + " var x = 1\n", "changes nothing"},
		"stands nowhere":   {head + "-var x = 7\n+var x = 2\n", "in 0 places"},
		"part of a line":   {head + "-var y = 1\n+var y = 2\n", "in 0 places"},
		"stands twice":     {head + "-\n+// twice\n", "in 3 places"},
		"no Go":            {head + "-var x = 1\n+var x = (\n", "is no Go"},
		"file is gone":     {"breaks: x\nfile: gone.go\ntest: .\n\n-a\n+b\n", "no such file"},
		"second hunk lost": {head + "-var x = 1\n+var x = 2\n@@\n-var x = 1\n+var x = 3\n", "hunk 2"},
	} {
		m, err := parse(c.text)
		if err == nil {
			_, err = m.apply(root)
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want something with %q", name, err, c.says)
		}
	}
	m, err := parse(head + "-func f() int { return 1 }\n+func f() int { return 2 }\n \n var x = 1\n@@\n-var z = 1 // x\n")
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.apply(root)
	if want := "package a\n\nfunc f() int { return 2 }\n\nvar x = 1\n\nvar y = 1 // x\n"; err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

func write(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// tree is a small module with one mutant of every fate.
func tree(t *testing.T) string {
	root := t.TempDir()
	write(t, root, "go.mod", "module example.test/m\n\ngo 1.26\n")
	write(t, root, "a/a.go", "package a\n\n// Add adds.\nfunc Add(x, y int) int { return x + y }\n\n// Twice doubles.\nfunc Twice(x int) int { return 2 * x }\n")
	write(t, root, "a/a_test.go", "package a\n\nimport \"testing\"\n\nfunc TestAdd(t *testing.T) {\n\tt.Run(\"small\", func(t *testing.T) {\n\t\tif Add(2, 3) != 5 {\n\t\t\tt.Error(\"wrong\")\n\t\t}\n\t})\n}\n")
	add := "breaks: sums are right\nfile: a/a.go\ntest: ./a\n\n-func Add(x, y int) int { return x + y }\n"
	write(t, root, "mutants/a/found.patch", add+"+func Add(x, y int) int { return x - y }\n")
	write(t, root, "mutants/a/hangs.patch", add+"+func Add(x, y int) int { select {} }\n")
	write(t, root, "mutants/a/unbuilt.patch", add+"+func Add(x, y int) int { return z }\n")
	write(t, root, "mutants/a/missed.patch",
		"breaks: doubles are right\nfile: a/a.go\ntest: ./a\n\n-func Twice(x int) int { return 2 * x }\n+func Twice(x int) int { return 3 * x }\n")
	return root
}

// TestRun plants real bugs in a module of its own: each fate is told apart, a
// second run has nothing to do, and the report says what is missing.
func TestRun(t *testing.T) {
	t.Parallel()
	root := tree(t)
	var out bytes.Buffer
	args := []string{"-root", root, "-timeout", "8s"}
	err := run(t.Context(), args, &out)
	if err == nil || !strings.Contains(err.Error(), "2 of the list need work") {
		t.Errorf("%v, want two that need work", err)
	}
	for _, want := range []string{
		"killed ", "a/found  TestAdd/small\n", "timed out ", "a/hangs", "not built ", "survived ", "2 of 4 planted bugs found (50.0 %)",
		"- a/unbuilt: not built\n", "- a/missed survived, and nobody says why: doubles are right\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
	report, err := os.ReadFile(filepath.Join(root, "mutants/out/report.md"))
	if err != nil || !strings.Contains(string(report), "| a/found | sums are right | killed | TestAdd/small |") {
		t.Errorf("report: %v\n%s", err, report)
	}

	out.Reset()
	_ = run(t.Context(), args, &out)
	if strings.Contains(out.String(), "a/found") {
		t.Errorf("what is known is run again:\n%s", out.String())
	}

	// A new test, and nothing of the old results counts.
	write(t, root, "a/b_test.go", "package a\n\nimport \"testing\"\n\nfunc TestTwice(t *testing.T) {\n\tif Twice(4) != 8 {\n\t\tt.Error(\"wrong\")\n\t}\n}\n")
	out.Reset()
	if err := run(t.Context(), append(args, "-only", "found|missed"), &out); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "2 of 2 planted bugs found (100.0 %)") || !strings.Contains(out.String(), "a/missed  TestTwice") {
		t.Errorf("after a new test:\n%s", out.String())
	}
}

// TestFailingTestsFindNothing: a test that fails anyway is no proof.
func TestFailingTestsFindNothing(t *testing.T) {
	t.Parallel()
	root := tree(t)
	write(t, root, "a/b_test.go", "package a\n\nimport \"testing\"\n\nfunc TestBroken(t *testing.T) { t.Error(\"always\") }\n")
	var out bytes.Buffer
	err := run(t.Context(), []string{"-root", root}, &out)
	if err == nil || !strings.Contains(out.String(), `without any mutant "go test ./a" fails in TestBroken`) || strings.Contains(out.String(), "killed") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	if err := run(ctx, []string{"-root", tree(t)}, &out); err == nil {
		t.Error("an interrupted run ends well")
	}
}

// TestSurvivorsAreExplained: an explanation makes a survivor known, not found;
// one that is found loses its explanation.
func TestSurvivorsAreExplained(t *testing.T) {
	t.Parallel()
	list := []mutant{{Name: "a/x", Breaks: "b", Survives: "power has to fail for it"}, {Name: "a/y", Breaks: "c"}}
	r := &runner{known: map[string]result{"a/x": {Result: survived}, "a/y": {Result: killed}}}
	text, err := r.report(list)
	if err == nil || !strings.Contains(err.Error(), "95 %") || !strings.Contains(text, "- survives: a/x: power has to fail") {
		t.Errorf("%v\n%s", err, text)
	}
	for range 20 {
		list = append(list, list[1])
	}
	if text, err = r.report(list); err != nil {
		t.Errorf("21 of 22: %v\n%s", err, text)
	}
	r.known["a/x"] = result{Result: timedOut}
	if _, err = r.report(list); err == nil {
		t.Error("an explanation of a found one stays")
	}
}
