package main

import (
	"bufio"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mutant is one planted bug: a change of one file that breaks a promise.
type mutant struct {
	Name     string   // folder and file name without ".patch"
	Breaks   string   // the promise
	File     string   // from the root of the repository, with slashes
	Test     []string // arguments of go test: the packages that should notice
	Survives string   // why nothing notices it; empty: something must
	hunks    []hunk
}

// tests are the arguments of go test in one text.
func (m *mutant) tests() string { return strings.Join(m.Test, " ") }

// hunk is one place of a change. It has no line numbers: old must stand in the
// file exactly once, wherever that is.
type hunk struct{ old, new string }

// readAll reads every mutant below a folder, in the order of their names.
func readAll(dir string) ([]mutant, error) {
	var all []mutant
	var bad []error
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".patch" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		m, err := parse(string(data))
		name, relErr := filepath.Rel(dir, path)
		if relErr != nil {
			return relErr
		}
		m.Name = strings.TrimSuffix(filepath.ToSlash(name), ".patch")
		if err != nil {
			bad = append(bad, fmt.Errorf("%s: %w", m.Name, err))
		}
		all = append(all, m)
		return nil
	})
	slices.SortFunc(all, func(a, b mutant) int { return strings.Compare(a.Name, b.Name) })
	return all, errors.Join(append(bad, err)...)
}

// parse reads the form that mutants/README.md describes.
func parse(text string) (mutant, error) {
	var m mutant
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() && lines.Text() != "" {
		key, value, ok := strings.Cut(lines.Text(), ": ")
		value = strings.TrimSpace(value)
		switch {
		case !ok || value == "":
			return m, fmt.Errorf("header line %q is not \"key: value\"", lines.Text())
		case key == "breaks":
			m.Breaks = value
		case key == "file":
			m.File = value
		case key == "test":
			m.Test = strings.Fields(value)
		case key == "survives":
			m.Survives = value
		default:
			return m, fmt.Errorf("header %q is unknown: use breaks, file, test or survives", key)
		}
	}
	if m.Breaks == "" || m.File == "" || len(m.Test) == 0 {
		return m, errors.New("the header lacks breaks, file or test")
	}
	var h hunk
	for lines.Scan() {
		line := lines.Text()
		switch {
		case line == "@@":
			m.hunks, h = append(m.hunks, h), hunk{}
		case line == "":
			h.old, h.new = h.old+"\n", h.new+"\n"
		case line[0] == ' ':
			h.old, h.new = h.old+line[1:]+"\n", h.new+line[1:]+"\n"
		case line[0] == '-':
			h.old += line[1:] + "\n"
		case line[0] == '+':
			h.new += line[1:] + "\n"
		default:
			return m, fmt.Errorf("line %q begins neither with a blank nor with - or +", line)
		}
	}
	m.hunks = append(m.hunks, h)
	return m, lines.Err()
}

// apply returns the file with the bug in it.
func (m *mutant) apply(root string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(m.File)))
	if err != nil {
		return nil, err
	}
	text := "\n" + string(data)
	for i, h := range m.hunks {
		if h.old == h.new {
			return nil, fmt.Errorf("hunk %d changes nothing", i+1)
		}
		if n := strings.Count(text, "\n"+h.old); n != 1 {
			return nil, fmt.Errorf("hunk %d fits %s in %d places, it must be one: bring it up to date, or take it off the list if the code it broke is gone",
				i+1, m.File, n)
		}
		text = strings.Replace(text, "\n"+h.old, "\n"+h.new, 1)
	}
	text = text[1:]
	if strings.HasSuffix(m.File, ".go") {
		if _, err := parser.ParseFile(token.NewFileSet(), m.File, text, parser.SkipObjectResolution); err != nil {
			return nil, fmt.Errorf("what it makes is no Go: %w", err)
		}
	}
	return []byte(text), nil
}

// check makes sure that every mutant still applies, so that the list cannot rot.
func check(root string, all []mutant) error {
	var bad []error
	for i := range all {
		if _, err := all[i].apply(root); err != nil {
			bad = append(bad, fmt.Errorf("%s: %w", all[i].Name, err))
		}
	}
	return errors.Join(bad...)
}
