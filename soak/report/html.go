package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
)

//go:embed report.html.tmpl
var pageText string

// drawn is a plot with its picture.
type drawn struct {
	Plot
	SVG   template.HTML
	Lines []legend
}

type legend struct{ Name, Color, Last string }

type page struct {
	*Report
	Drawn []drawn
}

func (r *Report) html() ([]byte, error) {
	t, err := template.New("report").Funcs(template.FuncMap{
		"percent": func(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) },
		"width":   func(v float64) string { return fmt.Sprintf("%.1f", 100*min(1, max(0, v))) },
		"seconds": func(v float64) string { return fmt.Sprintf("%.1f s", v) },
	}).Parse(pageText)
	if err != nil {
		return nil, err
	}
	p := page{Report: r}
	for i := range r.Plots {
		svg, lines, err := drawPlot(&r.Plots[i], r.Faults, r.end())
		if err != nil {
			return nil, fmt.Errorf("plot %q: %w", r.Plots[i].Title, err)
		}
		p.Drawn = append(p.Drawn, drawn{r.Plots[i], template.HTML(svg), lines}) //nolint:gosec // drawn by us from numbers
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// end is the last time of any series, so that all plots have the same width.
func (r *Report) end() float64 {
	end := 0.0
	for _, p := range r.Plots {
		for _, s := range p.Series {
			for _, x := range s.X {
				end = max(end, x)
			}
		}
	}
	return end
}
