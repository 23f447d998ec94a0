package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/dash-fleet/dash/messages/next"
)

// output is how a command prints its data. JSON is the API's own, unwrapped:
// a list prints as an array, one thing as an object.
type output struct {
	format    string
	columns   []string
	noHeaders bool
}

// shows says whether any of the columns is in the output.
func (o *output) shows(columns ...string) bool {
	if o.format != "table" || len(o.columns) == 0 {
		return o.format != "table" && o.format != "name"
	}
	return slices.ContainsFunc(o.columns, func(c string) bool {
		return slices.ContainsFunc(columns, func(n string) bool { return strings.EqualFold(n, c) })
	})
}

var formats = []string{"table", "wide", "json", "jsonl", "yaml", "name"}

func (o *output) addFlags(c *cobra.Command) {
	c.Flags().StringVarP(&o.format, "output", "o", "table", "output format: "+strings.Join(formats, "|"))
	c.Flags().StringSliceVar(&o.columns, "columns", nil, "columns of the table, by name, in this order")
	c.Flags().BoolVar(&o.noHeaders, "no-headers", false, "print the table without its first line")
	// The only error is a flag that does not exist.
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

// column is one column of a table. The first column of a table is the name of
// the thing, which is what -o name prints.
type column[T any] struct {
	name  string
	wide  bool // only with -o wide or by --columns
	end   bool // an id that its end names: a screen shows just that
	long  bool // text of any length: cut in a table, unless it stands last
	value func(T) string
	brief func(T) string // what a table says that nobody asked for words: one of a few names; nil: value
}

// cell is what a table in this output says.
func (c column[T]) cell(o output, v T) string {
	if c.brief != nil && o.format == "table" && len(o.columns) == 0 {
		return c.brief(v)
	}
	return c.value(v)
}

// shownEnd is how much of an id a screen shows: random enough to be unique.
const shownEnd = 12

// longCell is how many characters of a long text a table shows.
const longCell = 60

// check refuses unknown formats and columns before anything is asked of the API.
func check[T any](o output, columns []column[T]) error {
	if !slices.Contains(formats, o.format) {
		return usage(fmt.Sprintf(next.UseOneOf, strings.Join(formats, ", ")), "there is no output format %q", o.format)
	}
	_, err := choose(o, columns)
	return err
}

func choose[T any](o output, columns []column[T]) ([]column[T], error) {
	if len(o.columns) == 0 {
		return slices.DeleteFunc(slices.Clone(columns), func(c column[T]) bool { return c.wide && o.format != "wide" }), nil
	}
	chosen := make([]column[T], 0, len(o.columns))
	for _, name := range o.columns {
		i := slices.IndexFunc(columns, func(c column[T]) bool { return strings.EqualFold(c.name, strings.TrimSpace(name)) })
		if i < 0 {
			names := make([]string, len(columns))
			for j, c := range columns {
				names[j] = strings.ToLower(c.name)
			}
			return nil, usage(fmt.Sprintf(next.UseSomeOf, strings.Join(names, ",")), "there is no column %q", name)
		}
		chosen = append(chosen, columns[i])
	}
	return chosen, nil
}

// printList prints a list of things.
func printList[T any](t *terminal, o output, columns []column[T], items []T) error {
	if err := check(o, columns); err != nil {
		return err
	}
	if items == nil {
		items = []T{}
	}
	switch o.format {
	case "json":
		return printJSON(t, items)
	case "yaml":
		return printYAML(t, items)
	case "jsonl":
		return printLines(t, items)
	case "name":
		return printNames(t, columns, items)
	}
	return printTable(t, o, columns, items)
}

// printOne prints one thing: as a table it is a list of its fields.
func printOne[T any](t *terminal, o output, columns []column[T], item T) error {
	if err := check(o, columns); err != nil {
		return err
	}
	switch o.format {
	case "json":
		return printJSON(t, item)
	case "yaml":
		return printYAML(t, item)
	case "jsonl":
		return printLines(t, []T{item})
	case "name":
		return printNames(t, columns, []T{item})
	}
	chosen, err := choose(o, columns)
	if err != nil {
		return err
	}
	if len(o.columns) == 0 {
		chosen = columns
	}
	width := 0
	for _, c := range chosen {
		width = max(width, utf8.RuneCountInString(c.name))
	}
	var b strings.Builder
	for _, c := range chosen {
		v := t.said(c.value(item))
		if v == "" {
			continue
		}
		v = strings.ReplaceAll(strings.TrimRight(v, "\n"), "\n", "\n"+strings.Repeat(" ", width+2))
		fmt.Fprintf(&b, "%-*s  %s\n", width, strings.ToLower(c.name), v)
	}
	return write(t, b.String())
}

func printJSON(t *terminal, v any) error {
	return encode(t, "  ", v)
}

func printLines[T any](t *terminal, items []T) error {
	all := make([]any, len(items))
	for i, v := range items {
		all[i] = v
	}
	return encode(t, "", all...)
}

// encode writes values as JSON with a line end after each. It leaves <, > and
// & as they are: nobody puts this output into a web page.
func encode(t *terminal, indent string, values ...any) error {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	for _, v := range values {
		if err := e.Encode(v); err != nil {
			return fmt.Errorf("encode the answer: %w", err)
		}
	}
	return write(t, escaped(b.String()))
}

// printYAML prints the JSON form as YAML, so that both have the same keys.
func printYAML(t *terminal, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	var node yaml.Node
	if err := yaml.Unmarshal([]byte(escaped(string(raw))), &node); err != nil { // JSON is YAML; a node keeps the order of keys
		return fmt.Errorf("encode the answer: %w", err)
	}
	block(&node)
	text, err := yaml.Marshal(&node)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return write(t, escaped(string(text)))
}

// block turns JSON's flow style and quotes into YAML's usual ones. A text that
// has to be escaped needs double quotes.
func block(n *yaml.Node) {
	n.Style = 0
	if strings.ContainsFunc(n.Value, steers) {
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, c := range n.Content {
		block(c)
	}
}

func printNames[T any](t *terminal, columns []column[T], items []T) error {
	var b strings.Builder
	for _, v := range items {
		b.WriteString(clean(columns[0].value(v)) + "\n")
	}
	return write(t, b.String())
}

func printTable[T any](t *terminal, o output, columns []column[T], items []T) error {
	chosen, err := choose(o, columns)
	if err != nil {
		return err
	}
	rows := make([][]string, 0, len(items)+1)
	if !o.noHeaders {
		head := make([]string, len(chosen))
		for i, c := range chosen {
			head[i] = c.name
		}
		rows = append(rows, head)
	}
	for _, v := range items {
		row := make([]string, len(chosen))
		for i, c := range chosen {
			row[i] = oneLine(c.cell(o, v))
			if n := len(row[i]); c.end && t.screen && o.format == "table" && n == fullTaskID {
				row[i] = row[i][n-shownEnd:]
			}
			if text := []rune(row[i]); c.long && t.screen && len(chosen) > 2 && len(text) > longCell {
				row[i] = string(text[:longCell-1]) + "…"
			}
		}
		rows = append(rows, row)
	}
	width := t.width
	if o.format == "wide" {
		width = 0 // who wants everything gets it; the terminal breaks the lines
	}
	return write(t, layout(rows, width))
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(clean(s)), " ")
	if s == "" {
		return "-"
	}
	return s
}

// text is somebody's text for stdout: as it is for a file or a pipe, clean and
// with a line's end on a screen.
func (t *terminal) text(s string) string {
	if !t.screen {
		return s
	}
	return clean(strings.TrimRight(s, "\n")) + "\n"
}

// said is somebody's text inside other output: clean on a screen alone.
func (t *terminal) said(s string) string {
	if !t.screen {
		return s
	}
	return clean(s)
}

func write(t *terminal, text string) error {
	if _, err := t.out.Write([]byte(text)); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}
