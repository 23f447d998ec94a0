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

// TestTaskCodesAreAll: a code that is added among those of failed attempts is
// also one that can be chosen.
func TestTaskCodesAreAll(t *testing.T) {
	t.Parallel()
	f, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || !strings.Contains(g.Doc.Text(), "failed attempts") {
			continue
		}
		for _, s := range g.Specs {
			v, err := strconv.Unquote(s.(*ast.ValueSpec).Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, v)
		}
	}
	if got := messages.TaskCodes(); len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("the codes are %v, want %v", got, want)
	}
}
