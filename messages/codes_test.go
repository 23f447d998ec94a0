package messages_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/messages"
)

// constants are the values of the block of constants whose comment has words.
func constants(t *testing.T, file, words string) (values []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || !strings.Contains(g.Doc.Text(), words) {
			continue
		}
		for _, s := range g.Specs {
			c, ok := s.(*ast.ValueSpec)
			if !ok {
				continue
			}
			v, err := strconv.Unquote(c.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, v)
		}
	}
	return values
}

// TestTaskCodesAreAll: a code that is added among those of failed attempts is
// also one that can be chosen.
func TestTaskCodesAreAll(t *testing.T) {
	t.Parallel()
	want := constants(t, "errors.go", "failed attempts")
	if got := messages.TaskCodes(); len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("the codes are %v, want %v", got, want)
	}
}
