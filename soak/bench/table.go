package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// printTable reads results.jsonl and prints and writes the table.
func printTable(o runOptions, out io.Writer) error {
	file, err := os.Open(filepath.Join(o.out, "results.jsonl"))
	if err != nil {
		return err
	}
	defer file.Close()
	var all []measurement
	for d := json.NewDecoder(file); ; {
		var m measurement
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("read results: %w", err)
		}
		all = append(all, m)
	}
	text := table(o, all)
	if _, err := io.WriteString(out, text); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.out, "table.md"), []byte(text), 0o644)
}

// summary is the medians of one system in one row.
type summary struct {
	row               row
	system            string
	rounds, failed    int
	rate, cpu         float64 // tasks/s; processor time of Redis per task in µs
	p50, p99          float64
	fill, load, first float64
}

func table(o runOptions, all []measurement) string {
	var b strings.Builder
	sums := summarize(o, all)
	section(&b, sums, "throughput", "| store, durability | producers | system | tasks/s | Dash is faster | Redis CPU µs/task | Dash uses less | rounds |\n|---|---|---|---|---|---|---|---|\n",
		func(s, dash summary) string {
			return fmt.Sprintf("| %s | %d | %s | %.0f | %s | %s | %s | %s |\n", s.row.store, s.row.producers, s.system, s.rate,
				times(dash.rate, s.rate, s, dash), positive("%.1f", s.cpu), times(s.cpu, dash.cpu, s, dash), s.count())
		})
	section(&b, sums, "latency", "| store, durability | system | start p50 ms | start p99 ms | rounds |\n|---|---|---|---|---|\n",
		func(s, _ summary) string {
			return fmt.Sprintf("| %s | %s | %.2f | %.2f | %s |\n", s.row.store, s.system, s.p50, s.p99, s.count())
		})
	section(&b, sums, "load", "| store, durability | system | queue filled s | loaded s | first start s | rounds |\n|---|---|---|---|---|---|\n",
		func(s, _ summary) string {
			return fmt.Sprintf("| %s | %s | %.1f | %s | %.2f | %s |\n", s.row.store, s.system, s.fill, positive("%.2f", s.load), s.first, s.count())
		})
	for _, m := range all {
		if m.Error != "" {
			fmt.Fprintf(&b, "failed: %s, %s: %s\n", m.Row, m.System, strings.ReplaceAll(m.Error, "\n", " "))
		}
	}
	return b.String()
}

func section(b *strings.Builder, sums []summary, mode, head string, line func(s, dash summary) string) {
	wrote := false
	for _, s := range sums {
		if s.row.mode != mode {
			continue
		}
		if !wrote {
			fmt.Fprintf(b, "%s\n\n%s", mode, head)
			wrote = true
		}
		var dash summary
		if i := slices.IndexFunc(sums, func(o summary) bool { return o.row == s.row && o.system == "Dash" }); i >= 0 {
			dash = sums[i]
		}
		b.WriteString(line(s, dash))
	}
	if wrote {
		b.WriteString("\n")
	}
}

// summarize takes the medians in the order of rows and systems.
func summarize(o runOptions, all []measurement) []summary {
	var sums []summary
	for _, r := range o.rows {
		for _, sys := range o.systems {
			s := summary{row: r, system: sys.name}
			var rate, cpu, p50, p99, fill, load, first []float64
			for _, m := range all {
				if m.Row != r.String() || m.System != sys.name {
					continue
				}
				s.rounds++
				if m.Error != "" {
					s.failed++
					continue
				}
				rate, cpu = append(rate, m.rate()), append(cpu, m.RedisCPUSeconds*1e6/float64(m.Tasks))
				p50, p99 = append(p50, m.P50), append(p99, m.P99)
				fill, load, first = append(fill, m.EnqueueSeconds), append(load, m.LoadSeconds), append(first, m.FirstSeconds)
			}
			if s.rounds == 0 {
				continue
			}
			s.rate, s.cpu, s.p50, s.p99 = median(rate), median(cpu), median(p50), median(p99)
			s.fill, s.load, s.first = median(fill), median(load), median(first)
			sums = append(sums, s)
		}
	}
	return sums
}

// median of an even number is the mean of the two in the middle; 0 of none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func (s summary) count() string {
	if s.failed > 0 {
		return fmt.Sprintf("%d, %d failed", s.rounds, s.failed)
	}
	return fmt.Sprint(s.rounds)
}

// times is a ratio of another system and Dash, empty for Dash itself.
func times(a, b float64, s, dash summary) string {
	if s.system == dash.system || a == 0 || b == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f x", a/b)
}

func positive(format string, v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf(format, v)
}
