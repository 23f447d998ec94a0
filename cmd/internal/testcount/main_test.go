package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// module writes a module with these files and returns its folder.
func module(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	files["go.mod"] = "module example.org/m\n\ngo 1.26\n"
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func test(body string) string {
	return "package m\n\nimport (\n\"os\"\n\"testing\"\n)\n\nvar _ = os.Exit\n\n" + body
}

func TestCounts(t *testing.T) {
	t.Parallel()
	const good = "func TestA(t *testing.T) {}\nfunc TestB(t *testing.T) { t.Run(\"x\", func(*testing.T) {}); t.Run(\"y\", func(t *testing.T) { t.Skip(\"why\") }) }\n"
	tests := []struct {
		name, body, want string
		code             int
		shows            []string
	}{
		{"all pass", good, "2 passed, 0 failed, 1 skipped", 0, []string{"ok   example.org/m"}},
		{"a subtest fails", good + "func TestC(t *testing.T) { t.Run(\"z\", func(t *testing.T) { t.Error(\"because of z\") }) }\n",
			"2 passed, 1 failed, 1 skipped", 1, []string{"--- FAILED example.org/m TestC/z", "because of z"}},
		{"a parent fails by itself", "func TestC(t *testing.T) { t.Run(\"z\", func(*testing.T) {}); t.Error(\"because of C\") }\n",
			"1 passed, 1 failed, 0 skipped", 1, []string{"because of C"}},
		{"a panic", good + "func TestP(t *testing.T) { panic(\"because of P\") }\n", "2 passed, 1 failed, 1 skipped", 1, []string{"because of P"}},
		{"an early exit", "func TestA(t *testing.T) {}\nfunc TestMain(m *testing.M) { m.Run(); println(\"because of Main\"); os.Exit(3) }\n",
			"1 passed, 1 failed, 0 skipped", 1, []string{"because of Main"}},
		{"missing infrastructure", "func TestA(t *testing.T) {}\nfunc TestM(t *testing.T) { t.Fatal(\"start it: infrastructure missing: npm is not there\") }\n",
			"1 passed, 1 failed, 0 skipped", 69, []string{"\ninfrastructure missing: npm is not there\n1 passed"}},
		{"a passed test talks of missing infrastructure", "func TestA(t *testing.T) { t.Log(\"infrastructure missing: npm\") }\nfunc TestF(t *testing.T) { t.Fatal(\"because of F\") }\n",
			"1 passed, 1 failed, 0 skipped", 1, []string{"because of F"}},
		{"does not compile", "func TestA(t *testing.T) { because() }\n", "0 passed, 1 failed, 0 skipped", 1, []string{"undefined: because"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := module(t, map[string]string{"m_test.go": test(tt.body)})
			var out, talk bytes.Buffer
			code, err := run([]string{"-C", dir, "./..."}, &out, &talk)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if got := lines[len(lines)-1]; got != tt.want || code != tt.code {
				t.Errorf("last line %q and code %d, want %q and %d; all:\n%s%s", got, code, tt.want, tt.code, out.String(), talk.String())
			}
			for _, s := range tt.shows {
				if !strings.Contains(out.String(), s) {
					t.Errorf("output lacks %q:\n%s", s, out.String())
				}
			}
		})
	}
}

func TestNoPackages(t *testing.T) {
	t.Parallel()
	var out, talk bytes.Buffer
	code, err := run([]string{"-C", t.TempDir(), "./..."}, &out, &talk)
	if code == 0 || err != nil || !strings.HasSuffix(out.String(), "0 passed, 1 failed, 0 skipped\n") {
		t.Errorf("code %d, error %v, output %q", code, err, out.String())
	}
}
