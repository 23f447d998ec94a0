package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/http/api"
)

// nextSteps reads the table of next steps: name -> text.
func nextSteps(t *testing.T) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../../messages/next/next.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		lit, ok := v.Values[0].(*ast.BasicLit)
		if !ok || len(v.Names) != 1 {
			t.Fatalf("%s is not one written text", v.Names[0].Name)
		}
		text, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		all[v.Names[0].Name] = text
		return true
	})
	if len(all) < 100 {
		t.Fatalf("the table has only %d next steps", len(all))
	}
	return all
}

var (
	quoted   = regexp.MustCompile("`([^`]*)`")
	flagName = regexp.MustCompile(`(?:^|[\s(])--([a-z][a-z-]*|%s)`)
	variable = regexp.MustCompile(`\bDASH_[A-Z_]+`)
	endpoint = regexp.MustCompile(`\b(GET|POST|PUT|PATCH|DELETE) (/[^\s,;]*|%s[^\s,;]*)`)
	setting  = regexp.MustCompile(`(?:^|[\s(])(openclaw-[a-z-]+)`)
	fileName = regexp.MustCompile(`\b[\w-]+\.(?:log|key|mark|pid|json|yaml)\b`)
)

// nouns are what `dash %s list` is filled with.
var nouns = []string{"task", "session", "gateway", "pool", "user", "tenant", "key", "node"}

// TestNextStepsExist reads every next step: the verbs, flags, paths, variables
// and files that it names are there.
func TestNextStepsExist(t *testing.T) {
	t.Parallel()
	root := newRoot(&terminal{})
	flags := allFlags(root)
	var doc struct {
		Paths map[string]map[string]any `yaml:"paths"`
	}
	if err := yaml.Unmarshal(api.Document, &doc); err != nil {
		t.Fatal(err)
	}
	for name, text := range nextSteps(t) {
		if text == "" || text != strings.TrimSpace(text) || strings.HasSuffix(text, ".") {
			t.Errorf("%s: %q is not an imperative without a full stop", name, text)
		}
		for _, line := range commandsIn(text) {
			if _, err := resolveLine(root, line); err != "" {
				t.Errorf("%s: `%s`: %s", name, line, err)
			}
		}
		for _, m := range flagName.FindAllStringSubmatch(quoted.ReplaceAllString(text, ""), -1) {
			if m[1] != "%s" && !flags[m[1]] {
				t.Errorf("%s: no command has a flag --%s", name, m[1])
			}
		}
		for _, v := range variable.FindAllString(text, -1) {
			if !slices.Contains(clientVariables, v) && !flags[strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(v, config.EnvPrefix)), "_", "-")] {
				t.Errorf("%s: nobody reads %s", name, v)
			}
		}
		for _, m := range setting.FindAllStringSubmatch(text, -1) {
			t.Errorf("%s: write the setting %s as --%s", name, m[1], m[1])
		}
		for _, m := range endpoint.FindAllStringSubmatch(text, -1) {
			path := strings.TrimPrefix(strings.TrimPrefix(m[2], "%s"), "/api/v1")
			if doc.Paths[path][strings.ToLower(m[1])] == nil {
				t.Errorf("%s: the API has no %s %s", name, m[1], path)
			}
		}
		for _, file := range fileName.FindAllString(text, -1) {
			if !slices.Contains(filesThatExist, file) {
				t.Errorf("%s: no file %s is known; see filesThatExist", name, file)
			}
		}
	}
}

// clientVariables are read by the commands over the API.
var clientVariables = []string{"DASH_URL", "DASH_API_KEY"}

// filesThatExist are written by Dash; other tests look at each of them.
var filesThatExist = []string{"admin.key", "gateway.log"}

// commandsIn lists the command lines of dash in a text. A blank for a noun
// gives one for each.
func commandsIn(text string) (lines []string) {
	for _, m := range quoted.FindAllStringSubmatch(text, -1) {
		line, ok := strings.CutPrefix(m[1], "dash ")
		switch {
		case !ok:
		case strings.HasPrefix(line, "%s "):
			for _, n := range nouns {
				lines = append(lines, n+strings.TrimPrefix(line, "%s"))
			}
		default:
			lines = append(lines, line)
		}
	}
	return lines
}

// resolveLine finds the command of a line and checks its flags and arguments.
// whole says that the line can be run as it stands: it is not just the name of
// a verb.
func resolveLine(root *cobra.Command, line string) (whole bool, wrong string) {
	words := strings.Fields(line)
	if words[0] == "help" {
		_, rest, err := root.Find(words[1:])
		if err != nil || len(rest) > 0 {
			return false, "there is no such topic"
		}
		return true, ""
	}
	cmd, rest, err := root.Find(words)
	if err != nil {
		return false, err.Error()
	}
	if cmd.HasSubCommands() && !slices.Contains(rest, "--help") {
		return false, cmd.CommandPath() + " is no verb"
	}
	var args []string
	for i := 0; i < len(rest); i++ {
		name, ok := strings.CutPrefix(rest[i], "--")
		if rest[i] == "-o" {
			name, ok = "output", true
		}
		if !ok {
			args = append(args, rest[i])
			continue
		}
		name, _, assigned := strings.Cut(name, "=")
		if name == "help" {
			return true, ""
		}
		f := cmd.Flags().Lookup(name)
		if f == nil {
			return false, "it has no flag --" + name
		}
		if f.NoOptDefVal == "" && !assigned {
			i++
			if i == len(rest) {
				return false, "--" + name + " needs a value"
			}
		}
	}
	if len(args) == 0 && cmd.Args != nil && cmd.Args(cmd, nil) != nil {
		return false, "" // names the verb only
	}
	if cmd.Args != nil {
		if err := cmd.Args(cmd, args); err != nil {
			return false, err.Error()
		}
	}
	return true, ""
}

// allFlags is the names of the flags of all commands.
func allFlags(root *cobra.Command) map[string]bool {
	all := map[string]bool{}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) { all[f.Name] = true })
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	return all
}
