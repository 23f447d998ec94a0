package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/dash-fleet/dash/http/api"
)

func TestOutputFormats(t *testing.T) {
	t.Parallel()
	type thing struct {
		Name string `json:"name"`
		Note string `json:"note"`
	}
	columns := []column[thing]{
		{name: "NAME", value: func(v thing) string { return v.Name }},
		{name: "NOTE", value: func(v thing) string { return v.Note }},
		{name: "SIZE", wide: true, value: func(v thing) string { return "big" }},
	}
	items := []thing{{"a", "two\nlines"}, {"bcd", "esc\x1b[31m"}, {"e", ""}}
	tests := []struct {
		o    output
		want string
	}{
		{output{format: "table"}, "NAME  NOTE\na     two lines\nbcd   esc�[31m\ne     -\n"},
		{output{format: "wide", noHeaders: true}, "a    two lines  big\nbcd  esc�[31m   big\ne    -          big\n"},
		{output{format: "table", columns: []string{"size", "Name"}}, "SIZE  NAME\nbig   a\nbig   bcd\nbig   e\n"},
		{output{format: "name"}, "a\nbcd\ne\n"},
		{output{format: "jsonl"}, "{\"name\":\"a\",\"note\":\"two\\nlines\"}\n{\"name\":\"bcd\",\"note\":\"esc\\u001b[31m\"}\n{\"name\":\"e\",\"note\":\"\"}\n"},
		{output{format: "yaml"}, "- name: a\n  note: |-\n    two\n    lines\n- name: bcd\n  note: \"esc\\e[31m\"\n- name: e\n  note: \"\"\n"},
	}
	for _, tt := range tests {
		var b bytes.Buffer
		if err := printList(&terminal{out: &b}, tt.o, columns, items); err != nil {
			t.Fatal(err)
		}
		if got := b.String(); got != tt.want {
			t.Errorf("%+v:\n%q\nwant\n%q", tt.o, got, tt.want)
		}
	}
	var b bytes.Buffer
	if err := printList(&terminal{out: &b}, output{format: "json"}, columns, nil); err != nil || b.String() != "[]\n" {
		t.Errorf("no items: %q, %v; want an empty list", b.String(), err)
	}
}

// TestNoFormatSteersTheTerminal: what moves the cursor or turns a text around is
// escaped where a format can, and the text that is parsed is the same.
func TestNoFormatSteersTheTerminal(t *testing.T) {
	t.Parallel()
	type thing struct {
		Name string `json:"name"`
	}
	columns := []column[thing]{{name: "NAME", value: func(v thing) string { return v.Name }}}
	hostile := "a\u0085b\u009b31mc\x7fd\u202ee\u2066f\u200fg\u061ch <ü>"
	items := []thing{{hostile}, {"plain"}}
	for _, format := range []string{"json", "jsonl", "yaml", "name", "table"} {
		var b bytes.Buffer
		if err := printList(&terminal{out: &b, screen: true}, output{format: format}, columns, items); err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		if strings.ContainsFunc(b.String(), steers) {
			t.Errorf("%s lets it through: %q", format, b.String())
		}
		var got []thing
		switch format {
		case "json":
			if err := json.Unmarshal(b.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
		case "yaml":
			if err := yaml.Unmarshal(b.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
		default:
			continue
		}
		if len(got) != 2 || got[0].Name != hostile || got[1].Name != "plain" {
			t.Errorf("%s changes the text: %q", format, got)
		}
	}
}

func TestLongTexts(t *testing.T) {
	t.Parallel()
	type thing struct{ Name, Text string }
	columns := []column[thing]{
		{name: "NAME", value: func(v thing) string { return v.Name }},
		{name: "TEXT", long: true, value: func(v thing) string { return v.Text }},
		{name: "SIZE", value: func(thing) string { return "big" }},
	}
	items := []thing{{"a<b", strings.Repeat("é", longCell+1)}}
	var b bytes.Buffer
	for screen, want := range map[bool]string{true: strings.Repeat("é", longCell-1) + "…", false: strings.Repeat("é", longCell+1)} {
		b.Reset()
		if err := printList(&terminal{out: &b, screen: screen}, output{format: "table", noHeaders: true}, columns, items); err != nil {
			t.Fatal(err)
		}
		if got, want := b.String(), "a<b  "+want+"  big\n"; got != want {
			t.Errorf("among other columns, on a screen %v: %q, want %q", screen, got, want)
		}
	}
	for _, o := range []output{{format: "table", columns: []string{"name", "text"}}, {format: "jsonl"}} {
		b.Reset()
		if err := printList(&terminal{out: &b}, o, columns, items); err != nil {
			t.Fatal(err)
		}
		if got := b.String(); !strings.Contains(got, items[0].Text) || !strings.Contains(got, "a<b") {
			t.Errorf("%+v changes the text: %q", o, got)
		}
	}
}

func TestTableFitsTheTerminal(t *testing.T) {
	t.Parallel()
	got := layout([][]string{{"ID", "REASON"}, {"gw-1", strings.Repeat("x", 100)}}, 20)
	for _, line := range strings.Split(strings.TrimSpace(got), "\n") {
		if n := len([]rune(line)); n > 20 {
			t.Errorf("line of %d columns: %q", n, line)
		}
	}
}

func TestWrongOutputFlagsChangeNothing(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.answer("POST /api/v1/tasks", 202, fakeTask(longID+"1", api.TaskStateQueued))
	wantResult(t, f.dash(t.Context(), "", "task", "submit", "--message", "x", "-o", "xml"), exitUsage, "", "no output format")
	wantResult(t, f.dash(t.Context(), "", "task", "submit", "--message", "x", "--columns", "color"), exitUsage, "", "no column")
	if r := f.requests(); len(r) > 0 {
		t.Errorf("the API was called: %v", r)
	}
}

func TestMessageFromStdin(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.answer("POST /api/v1/tasks", 202, fakeTask(longID+"1", api.TaskStateQueued))
	wantResult(t, f.dash(t.Context(), "from stdin", "task", "submit", "-o", "name"), 0, longID+"1\n")
	wantResult(t, f.dash(t.Context(), "", "task", "submit"), exitUsage, "", "no message")
	wantResult(t, f.dash(t.Context(), strings.Repeat("x", maxMessage+1), "task", "submit"), exitUsage, "", "longer than 256 KiB")
	wantResult(t, f.dash(t.Context(), "\xff", "task", "submit"), exitUsage, "", "not valid UTF-8")
	if r := f.requests(); len(r) != 1 || !strings.Contains(r[0], `"message":"from stdin"`) {
		t.Errorf("requests %v", r)
	}
}

// TestEveryVerbExplainsItself keeps help complete: each command that runs has a
// summary and an example that begins with its own name.
func TestEveryVerbExplainsItself(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	root := newRoot(&terminal{in: &b, out: &b, err: &b})
	for _, noun := range root.Commands() {
		for _, c := range append(noun.Commands(), noun) {
			if c.HasSubCommands() || !c.Runnable() {
				continue
			}
			if c.Short == "" || !strings.Contains(c.Example, c.CommandPath()) {
				t.Errorf("%s: summary %q, example %q", c.CommandPath(), c.Short, c.Example)
			}
		}
	}
}

// A screen shows the end of a task's id, by which it is named; wide characters
// take two columns of it.
func TestTableOfAScreen(t *testing.T) {
	t.Parallel()
	v := fakeTask(longID+"1", api.TaskStateQueued)
	var b bytes.Buffer
	for screen, want := range map[bool]string{true: v.Id[24:] + "\n", false: v.Id + "\n"} {
		b.Reset()
		if err := printList(&terminal{out: &b, screen: screen}, output{format: "table", noHeaders: true, columns: []string{"id"}}, taskColumns, []api.Task{v}); err != nil || b.String() != want {
			t.Errorf("on a screen %v: %q, %v; want %q", screen, b.String(), err, want)
		}
	}
	if got, want := layout([][]string{{"日本", "x"}, {"abcd", "y"}}, 0), "日本  x\nabcd  y\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := cut("日本語", 4), "日…"; got != want {
		t.Errorf("cut to %q, want %q", got, want)
	}
}

// TestTranscriptKeepsBytes: what was said reaches a file or a pipe as it is, and
// a screen without what would steer it.
func TestTranscriptKeepsBytes(t *testing.T) {
	t.Parallel()
	for screen, want := range map[bool]string{false: "> in\x1b[1m\nout\x01\x07\n\n", true: "> in\uFFFD[1m\nout\uFFFD\uFFFD\n\n"} {
		f := newFake(t)
		f.answer("GET /api/v1/sessions/s-1", 200, api.Session{Id: "s-1"})
		f.answer("GET /api/v1/sessions/s-1/transcript", 200, api.Transcript{Session: "s-1", Items: []api.Turn{{Message: "in\x1b[1m", Text: "out\x01\x07"}}})
		var out, talk strings.Builder
		term := &terminal{in: strings.NewReader(""), out: &out, err: &talk, screen: screen, environ: []string{"DASH_URL=" + f.URL, "DASH_API_KEY=k"}}
		if code := run(t.Context(), []string{"session", "transcript", "s-1"}, term); code != 0 || out.String() != want {
			t.Errorf("on a screen %v: exit %d, %q, want %q; %s", screen, code, out.String(), want, talk.String())
		}
	}
	for screen, want := range map[bool]string{false: "text  a\x1bb\n", true: "text  a\uFFFDb\n"} {
		var out strings.Builder
		columns := []column[string]{{name: "TEXT", value: func(s string) string { return s }}}
		if err := printOne(&terminal{out: &out, screen: screen}, output{format: "table"}, columns, "a\x1bb"); err != nil || out.String() != want {
			t.Errorf("one thing, on a screen %v: %q, %v", screen, out.String(), err)
		}
	}
}
