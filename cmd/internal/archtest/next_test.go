package archtest_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// nextNames are how the code calls what a person can do next.
var nextNames = map[string]bool{"next": true, "Next": true, "NextStep": true, "nextStep": true, "next_step": true, "advice": true, "Advice": true}

// TestNextStepsStandInOneTable: advice that is written beside an error is
// never checked, and in time names verbs that do not exist. So every next step
// is a constant of messages/next, where tests read it.
func TestNextStepsStandInOneTable(t *testing.T) {
	t.Parallel()
	files := parseTree(t, "../../..")
	takers := map[string]map[string][]int{} // folder -> function -> which arguments are next steps
	for path, f := range files {
		dir := filepath.Dir(path)
		if takers[dir] == nil {
			takers[dir] = map[string][]int{}
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				if at := nextFields(fn.Type.Params); len(at) > 0 {
					takers[dir][fn.Name.Name] = at
				}
			}
		}
	}
	seen := 0
	for path, f := range files {
		if strings.HasSuffix(filepath.Dir(path), filepath.Join("messages", "next")) {
			continue
		}
		s := &nextScan{takers: takers[filepath.Dir(path)]}
		ast.Walk(s, f)
		seen += s.seen
		for _, e := range s.bad {
			p := fset.Position(e.Pos())
			t.Errorf("%s:%d: a next step that is not a constant of messages/next", p.Filename, p.Line)
		}
	}
	if seen < 100 {
		t.Errorf("only %d next steps were seen; the test looks in the wrong place", seen)
	}
}

var fset = token.NewFileSet()

// parseTree reads the code that ships: no tests, nothing generated, none of
// the programs that only test.
func parseTree(t *testing.T, root string) map[string]*ast.File {
	t.Helper()
	files := map[string]*ast.File{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			switch {
			case strings.HasPrefix(name, ".") && path != root, name == "testdata", name == "soak", name == "bench", name == "testserver", strings.HasSuffix(name, "test"):
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, ".pb.go") || strings.HasSuffix(name, ".gen.go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(fset, path, src, parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("parse %s: %w", path, err)
		}
		files[path] = f
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestCommandsStandInOneTable: a command that a message tells to type is a next
// step wherever it stands, in a reason as well. The help texts of cmd/dash may
// speak of commands.
func TestCommandsStandInOneTable(t *testing.T) {
	t.Parallel()
	for path, f := range parseTree(t, "../../..") {
		if dir := filepath.ToSlash(filepath.Dir(path)); strings.HasSuffix(dir, "messages/next") || strings.HasSuffix(dir, "cmd/dash") {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && strings.Contains(lit.Value, "`dash ") {
				p := fset.Position(lit.Pos())
				t.Errorf("%s:%d: names a command; take it from messages/next, where a test runs it", p.Filename, p.Line)
			}
			return true
		})
	}
}

// nextFields says at which places of a list of parameters or results a next
// step stands.
func nextFields(list *ast.FieldList) (at []int) {
	if list == nil {
		return nil
	}
	i := 0
	for _, f := range list.List {
		kind, ok := f.Type.(*ast.Ident)
		for _, n := range f.Names {
			if ok && kind.Name == "string" && nextNames[n.Name] {
				at = append(at, i)
			}
			i++
		}
		if len(f.Names) == 0 {
			i++
		}
	}
	return at
}

// nextScan walks a file and collects next steps that are written in place.
type nextScan struct {
	takers map[string][]int
	gives  []int // which results of the function around are next steps
	seen   int
	bad    []ast.Expr
}

func (s *nextScan) Visit(n ast.Node) ast.Visitor {
	switch n := n.(type) {
	case *ast.FuncDecl:
		return s.inside(n.Type)
	case *ast.FuncLit:
		return s.inside(n.Type)
	case *ast.ReturnStmt:
		for _, i := range s.gives {
			if i < len(n.Results) {
				s.judge(n.Results[i])
			}
		}
	case *ast.KeyValueExpr:
		if k, ok := n.Key.(*ast.Ident); ok && nextNames[k.Name] {
			s.judge(n.Value)
		}
	case *ast.AssignStmt:
		for i, l := range n.Lhs {
			if nextNames[nameOf(l)] && i < len(n.Rhs) {
				s.judge(n.Rhs[i])
			}
		}
	case *ast.CallExpr:
		name := nameOf(n.Fun)
		for _, i := range s.takers[name] {
			if i < len(n.Args) {
				s.judge(n.Args[i])
			}
		}
		if name == "String" && len(n.Args) == 2 { // slog.String("next_step", …)
			if key, ok := n.Args[0].(*ast.BasicLit); ok && nextNames[strings.Trim(key.Value, `"`)] {
				s.judge(n.Args[1])
			}
		}
	case *ast.BasicLit:
		if _, rest, said := strings.Cut(n.Value, "next: "); said && len(rest) > 1 && !strings.HasPrefix(rest, "%s") {
			s.bad = append(s.bad, n)
		}
	}
	return s
}

// inside is the scan of a function's body. It shares what was found.
func (s *nextScan) inside(f *ast.FuncType) ast.Visitor {
	return &nested{nextScan: s, gives: nextFields(f.Results)}
}

// nested is the scan within one function.
type nested struct {
	*nextScan
	gives []int
}

func (s *nested) Visit(n ast.Node) ast.Visitor {
	if n == nil {
		return nil
	}
	s.nextScan.gives = s.gives
	if v := s.nextScan.Visit(n); v != ast.Visitor(s.nextScan) {
		return v
	}
	return s
}

// judge accepts an expression without a written text in it.
func (s *nextScan) judge(e ast.Expr) {
	s.seen++
	written := false
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr: // what fills the blanks, and what other calls are given, is theirs
			if nameOf(n.Fun) == "Sprintf" && len(n.Args) > 0 {
				_, lit := n.Args[0].(*ast.BasicLit)
				written = written || lit
			}
			return nameOf(n.Fun) == "Or"
		case *ast.BasicLit:
			written = written || n.Kind == token.STRING && strings.ContainsFunc(n.Value, unicode.IsLetter)
		}
		return true
	})
	if written {
		s.bad = append(s.bad, e)
	}
}

func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.IndexExpr: // a generic function
		return nameOf(e.X)
	}
	return ""
}
