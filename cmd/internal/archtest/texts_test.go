package archtest_test

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// numbered are references to a numbered part of a document, such as "PROTOCOL 1.2".
	numbered = regexp.MustCompile(`\b(PROTOCOL|COMPAT|CONTRACT|DESIGN|REQUIREMENTS|STYLE|CLUSTER|FACTS|[Ii]ssue) #?[0-9]+(\.[0-9]+)*\b|\bprotocol notes\b`)
	document = regexp.MustCompile(`[\w./-]*\b[\w-]+\.md\b`)
	// written are documents that programs of this repository write.
	written = []string{"report.md", "table.md"}
)

// TestTextsNameDocumentsThatAreHere: whoever has this repository and nothing
// else finds every document that a text names.
func TestTextsNameDocumentsThatAreHere(t *testing.T) {
	t.Parallel()
	const root = "../../.."
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "-z")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("not a clone: %v", err)
	}
	files := strings.Split(strings.TrimRight(string(out), "\x00"), "\x00")
	isHere := func(name string) bool {
		name = strings.TrimLeft(name, "./")
		return slices.Contains(written, path.Base(name)) || slices.ContainsFunc(files, func(f string) bool {
			return f == name || strings.HasSuffix(f, "/"+name)
		})
	}
	names := 0
	for _, file := range files {
		b, err := os.ReadFile(filepath.Join(root, file))
		if err != nil || path.Base(file) == "texts_test.go" {
			continue // one that cannot be read is removed, and not committed yet
		}
		for i, line := range strings.Split(string(b), "\n") {
			for _, word := range numbered.FindAllString(line, -1) {
				t.Errorf("%s:%d points to %q, which is not here", file, i+1, word)
			}
			for _, name := range document.FindAllString(line, -1) {
				if names++; !isHere(name) {
					t.Errorf("%s:%d names %s, which is not here", file, i+1, name)
				}
			}
		}
	}
	if names < 20 {
		t.Errorf("only %d documents are named: the test does not find them", names)
	}
}
