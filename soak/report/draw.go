package report

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Colours that differ in brightness too, for those who see no hue.
var palette = []color.RGBA{
	{0xc2, 0x33, 0x3d, 0xff}, {0xd9, 0x8a, 0x1f, 0xff}, {0x2b, 0x6c, 0xb0, 0xff}, {0x5f, 0x6b, 0x7a, 0xff},
	{0x2f, 0x85, 0x5a, 0xff}, {0x80, 0x5a, 0xd5, 0xff},
}

func hex(c color.RGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

var (
	ink  = color.RGBA{0x3a, 0x44, 0x51, 0xff}
	rule = color.RGBA{0xd3, 0xda, 0xe2, 0xff}
	hurt = color.NRGBA{0xc2, 0x33, 0x3d, 0x28}
)

const plotWidth, plotHeight = 520, 210

// picture renders a plot as inline SVG.
func picture(p *plot.Plot) (string, error) {
	c := vgsvg.New(plotWidth, plotHeight)
	p.Draw(draw.New(c))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return "", err
	}
	s := b.String()
	if i := strings.Index(s, "<svg"); i > 0 {
		s = s[i:] // without the XML header
	}
	return s, nil
}

// drawPlot makes the picture of one plot, with faults as red bands.
func drawPlot(in *Plot, faults []Fault, end float64) (string, []legend, error) {
	p := plot.New()
	p.BackgroundColor = color.Transparent
	p.X.Min = 0
	for _, f := range faults {
		p.Add(band{f.At, f.At + max(f.Seconds, 0.3)})
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = rule, rule
	p.Add(grid)
	var lines []legend
	for i, s := range in.Series {
		c := palette[i%len(palette)]
		for _, part := range parts(s, in.Log) {
			l, err := plotter.NewLine(part)
			if err != nil {
				return "", nil, err
			}
			l.Color, l.Width = c, vg.Points(1.6)
			p.Add(l)
		}
		lines = append(lines, legend{s.Name, hex(c), peak(s, in.Unit)})
	}
	style(p, in)
	p.X.Max = max(end, 1)
	svg, err := picture(p)
	return svg, lines, err
}

func style(p *plot.Plot, in *Plot) {
	p.Y.Min = 0
	if in.Log {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, decades{}
		p.Y.Min = math.Pow(10, math.Floor(math.Log10(max(p.Y.Min, smallest(in)))))
		p.Y.Max = math.Pow(10, math.Ceil(math.Log10(max(p.Y.Max, p.Y.Min*10))))
	} else {
		p.Y.Max = max(p.Y.Max*1.08, 1e-9)
		p.Y.Tick.Marker = short{}
	}
	p.X.Label.Text, p.X.Tick.Marker = "seconds since the beginning", short{}
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Color, a.Tick.Color = rule, rule
		a.Tick.Label.Color, a.Label.TextStyle.Color = ink, ink
		a.Tick.Label.Font = font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, vg.Points(9))
		a.Label.TextStyle.Font = font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, vg.Points(9))
	}
}

func smallest(in *Plot) float64 {
	low := math.Inf(1)
	for _, s := range in.Series {
		for _, v := range s.Y {
			if v > 0 && v < low {
				low = v
			}
		}
	}
	if math.IsInf(low, 1) {
		return 0.1
	}
	return low
}

// parts cuts a series where values are missing.
func parts(s Series, log bool) []plotter.XYs {
	var all []plotter.XYs
	var now plotter.XYs
	for i, y := range s.Y {
		if math.IsNaN(y) || math.IsInf(y, 0) || log && y <= 0 {
			if len(now) > 0 {
				all = append(all, now)
			}
			now = nil
			continue
		}
		now = append(now, plotter.XY{X: s.X[i], Y: y})
	}
	if len(now) > 0 {
		all = append(all, now)
	}
	return all
}

func peak(s Series, unit string) string {
	top := math.NaN()
	for _, v := range s.Y {
		if !math.IsNaN(v) && (math.IsNaN(top) || v > top) {
			top = v
		}
	}
	if math.IsNaN(top) {
		return "no values"
	}
	return "max " + brief(top) + " " + unit
}

// brief writes a number with three digits that count.
func brief(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1e6:
		return strconv.FormatFloat(v/1e6, 'f', 1, 64) + "M"
	case a >= 1e4:
		return strconv.FormatFloat(v/1e3, 'f', 0, 64) + "k"
	case a >= 100 || v == math.Trunc(v):
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 1:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'g', 2, 64)
	}
}

// short labels ticks with few digits.
type short struct{}

func (short) Ticks(lo, hi float64) []plot.Tick {
	ticks := plot.DefaultTicks{}.Ticks(lo, hi)
	for i := range ticks {
		if ticks[i].Label != "" {
			ticks[i].Label = brief(ticks[i].Value)
		}
	}
	return ticks
}

// decades labels powers of ten.
type decades struct{}

func (decades) Ticks(lo, hi float64) []plot.Tick {
	var ticks []plot.Tick
	for d := math.Floor(math.Log10(lo)); d <= math.Ceil(math.Log10(hi)); d++ {
		v := math.Pow(10, d)
		ticks = append(ticks, plot.Tick{Value: v, Label: brief(v)})
	}
	return ticks
}

// band is a span of time behind the lines.
type band struct{ from, to float64 }

// Plot fills the span.
func (b band) Plot(c draw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	from, to := max(x(b.from), c.Min.X), min(x(b.to), c.Max.X)
	if from >= to {
		return
	}
	c.FillPolygon(hurt, []vg.Point{{X: from, Y: c.Min.Y}, {X: to, Y: c.Min.Y}, {X: to, Y: c.Max.Y}, {X: from, Y: c.Max.Y}})
}
