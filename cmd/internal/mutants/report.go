package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// goal is the part of the list that the tests have to find, in percent.
const goal = 95

// open reads the results of earlier runs; new ones are added as they come, so
// that a run that was interrupted goes on where it was.
func (r *runner) open(again bool) error {
	if err := os.MkdirAll(r.dir, 0o750); err != nil {
		return err
	}
	path := filepath.Join(r.dir, "results.jsonl")
	if again {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640) //nolint:gosec // a report for whoever works on the tree
	if err != nil {
		return err
	}
	r.journal, r.known = file, map[string]result{}
	for d := json.NewDecoder(file); ; {
		var res result
		if d.Decode(&res) != nil {
			return nil // the end, or the half line of a killed run
		}
		r.known[res.Mutant] = res
	}
}

func (r *runner) close() { r.journal.Close() }

// record keeps and prints one result.
func (r *runner) record(res result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	line, err := json.Marshal(res)
	if err == nil {
		_, err = r.journal.Write(append(line, '\n'))
	}
	if err != nil {
		fmt.Fprintf(r.out, "%-10s  the result of %s could not be written: %v\n", "error", res.Mutant, err)
	}
	r.known[res.Mutant] = res
	fmt.Fprintf(r.out, "%-10s  %5.1f s  %s  %s\n", res.Result, res.Seconds, res.Mutant, res.By)
}

// finish writes the report and judges the list.
func (r *runner) finish(all, chosen []mutant) error {
	text, err := r.report(chosen)
	fmt.Fprint(r.out, "\n", text)
	if len(chosen) < len(all) {
		return err // a part of the list has no report
	}
	path := filepath.Join(r.dir, "report.md")
	if writeErr := os.WriteFile(path, []byte("# Planted bugs, and which tests notice\n\n"+text+"\n"+r.table(chosen)), 0o640); writeErr != nil { //nolint:gosec // as the journal
		return errors.Join(err, writeErr)
	}
	fmt.Fprintln(r.out, "written to", path)
	return err
}

// report is the score, in all and by package, and what is wrong.
func (r *runner) report(chosen []mutant) (string, error) {
	type score struct{ found, of int }
	var total score
	parts := map[string]score{}
	var wrong, left []string
	for i := range chosen {
		m := &chosen[i]
		res := r.known[m.Name]
		part, _, _ := strings.Cut(m.Name, "/")
		s := parts[part]
		s.of, total.of = s.of+1, total.of+1
		switch {
		case res.found():
			s.found, total.found = s.found+1, total.found+1
			if m.Survives != "" {
				wrong = append(wrong, m.Name+" is found now: take its line \"survives\" away")
			}
		case res.Result != survived:
			wrong = append(wrong, m.Name+": "+orElse(res.Result, "no result"))
		case m.Survives == "":
			wrong = append(wrong, m.Name+" survived, and nobody says why: "+m.Breaks)
		default:
			left = append(left, "survives: "+m.Name+": "+m.Survives)
		}
		parts[part] = s
	}
	var sb strings.Builder
	fmt.Fprintf(&sb, "%d of %d planted bugs found (%.1f %%)\n", total.found, total.of, 100*float64(total.found)/float64(total.of))
	for _, name := range sortedKeys(parts) {
		fmt.Fprintf(&sb, "- %s: %d of %d\n", name, parts[name].found, parts[name].of)
	}
	for _, line := range append(left, wrong...) {
		fmt.Fprintf(&sb, "- %s\n", line)
	}
	switch {
	case len(wrong) > 0:
		return sb.String(), fmt.Errorf("%d of the list need work", len(wrong))
	case 100*total.found < goal*total.of:
		return sb.String(), fmt.Errorf("less than %d %% are found", goal)
	}
	return sb.String(), nil
}

// table lists every mutant with what noticed it.
func (r *runner) table(chosen []mutant) string {
	var sb strings.Builder
	sb.WriteString("| planted bug | breaks | result | noticed by | s |\n|---|---|---|---|---|\n")
	for i := range chosen {
		m := &chosen[i]
		res := r.known[m.Name]
		fmt.Fprintf(&sb, "| %s | %s | %s | %s | %.1f |\n", m.Name, m.Breaks, res.Result, res.By, res.Seconds)
	}
	return sb.String()
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
