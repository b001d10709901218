package load

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"strings"
)

//go:embed report.html
var pageText string

// HTML returns the report as a page of its own: one file without scripts, with its pictures in it, light or dark as the reader's system is.
func (r *Report) HTML() ([]byte, error) {
	page, err := template.New("report").Funcs(template.FuncMap{
		"digits": digits,
		"curves": curves,
		"time":   func() string { return r.Started.UTC().Format("2006-01-02 15:04:05 UTC") },
		"letter": func(i int) string {
			if i >= drawn {
				return ""
			}
			return string(rune('A' + i))
		},
		"secs": func(v float64) string { return fmt.Sprintf("%.1f", v) },
	}).Parse(pageText)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = page.Execute(&b, struct {
		*Report
		Aims     []Figure
		Pictures []template.HTML
		Colours  []int
	}{r, aims(r.Figures), pictures(r.Series), []int{0, 1, 2, 3, 4, 5, 6, 7}})
	return b.Bytes(), err
}

// Of a picture, in units of its view box. Text is 12 high.
const (
	width, height            = 640.0, 260.0
	left, right, top, bottom = 62.0, 96.0, 14.0, 34.0
)

// drawn is how many curves one picture has at most.
const drawn = 8

// aims returns the figures that have a target; where none has, the first few.
func aims(all []Figure) []Figure {
	var out []Figure
	for _, f := range all {
		if f.Target > 0 {
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		out = all[:min(len(all), 4)]
	}
	return out
}

// plot is a picture under way.
type plot struct {
	b          strings.Builder
	x0, x1, y1 float64 // what the axes span; y begins at 0
	ylog       bool    // y is a power: from y0
	y0         float64
}

func (p *plot) x(v float64) float64 {
	return left + (v-p.x0)/max(p.x1-p.x0, 1e-9)*(width-left-right)
}

func (p *plot) y(v float64) float64 {
	part := v / max(p.y1, 1e-9)
	if p.ylog {
		part = math.Log(max(v, p.y0)/p.y0) / math.Log(p.y1/p.y0)
	}
	return height - bottom - part*(height-top-bottom)
}

// pictures draws one picture for each group of series.
func pictures(all []Series) []template.HTML {
	var out []template.HTML
	var groups []string
	by := map[string][]Series{}
	for _, s := range all {
		if len(s.Points) < 2 {
			continue
		}
		if by[s.Group] == nil {
			groups = append(groups, s.Group)
		}
		by[s.Group] = append(by[s.Group], s)
	}
	for _, g := range groups {
		out = append(out, over(g, by[g]))
	}
	return out
}

// over draws series over time.
func over(title string, list []Series) template.HTML {
	p := &plot{}
	for _, s := range list {
		p.x1 = max(p.x1, s.Points[len(s.Points)-1][0])
		for _, v := range s.Points {
			p.y1 = max(p.y1, v[1])
		}
	}
	if p.y1 == 0 {
		p.y1 = 1
	}
	p.y1 = nice(p.y1)
	p.open(title)
	for i := range 5 {
		p.level(p.y1*float64(i)/4, short(p.y1*float64(i)/4))
	}
	step := nice((p.x1 - p.x0) / 6)
	for t := math.Ceil(p.x0/step) * step; t <= p.x1; t += step {
		p.under(p.x(t), short(t)+" s")
	}
	ends := make([]float64, len(list))
	for i, s := range list {
		p.line(i, s.Points)
		ends[i] = p.y(s.Points[len(s.Points)-1][1])
	}
	apart(ends)
	for i, s := range list {
		p.name(i, ends[i], s.Name)
	}
	return p.close()
}

// curves draws delays by percentile: across, a further nine each step; up, powers of ten.
func curves(list []Curve) template.HTML {
	var some []Curve
	var letters []int
	for i, c := range list[:min(len(list), drawn)] {
		if len(c.Points) > 1 {
			some, letters = append(some, c), append(letters, i)
		}
	}
	if len(some) == 0 {
		return ""
	}
	p := &plot{ylog: true, y0: math.Inf(1), x1: 1}
	nines := func(percentile float64) float64 { return -math.Log10(max(1-percentile/100, 1e-6)) }
	for _, c := range some {
		for _, v := range c.Points {
			p.y0, p.y1 = min(p.y0, max(v[1], 0.001)), max(p.y1, v[1])
			if v[0] < 100 {
				p.x1 = max(p.x1, nines(v[0]))
			}
		}
	}
	p.x1 += 0.6 // room for the longest
	p.y0, p.y1 = math.Pow(10, math.Floor(math.Log10(p.y0))), math.Pow(10, math.Ceil(math.Log10(p.y1+1e-9)))
	if p.y1 <= p.y0 {
		p.y1 = p.y0 * 10
	}
	p.open("Delay in ms by percentile")
	for v := p.y0; v <= p.y1*1.001; v *= 10 {
		p.level(v, short(v))
	}
	for _, t := range []float64{0, 50, 90, 99, 99.9, 99.99, 99.999} {
		if nines(t) < p.x1-0.55 {
			p.under(p.x(nines(t)), fmt.Sprintf("%g", t))
		}
	}
	p.under(p.x(p.x1), "longest")
	ends := make([]float64, len(some))
	for i, c := range some {
		var points [][2]float64
		for _, v := range c.Points {
			at := p.x1
			if v[0] < 100 {
				at = nines(v[0])
			}
			points = append(points, [2]float64{at, v[1]})
		}
		p.line(letters[i], points)
		ends[i] = p.y(c.Points[len(c.Points)-1][1])
	}
	apart(ends)
	for i := range some {
		p.name(letters[i], ends[i], string(rune('A'+letters[i])))
	}
	return p.close()
}

func (p *plot) open(title string) {
	t := template.HTMLEscapeString(title)
	fmt.Fprintf(&p.b, `<figure><figcaption>%s</figcaption><svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, t, width, height, t)
}

func (p *plot) close() template.HTML {
	p.b.WriteString("</svg></figure>")
	return template.HTML(p.b.String()) // made of numbers and of escaped text
}

// level draws a line across, with its value before it.
func (p *plot) level(v float64, text string) {
	y := p.y(v)
	fmt.Fprintf(&p.b, `<path class="grid" d="M%g %.1fH%g"/><text class="axis end" x="%g" y="%.1f">%s</text>`, left, y, width-right, left-8, y+4, text)
}

func (p *plot) under(x float64, text string) {
	fmt.Fprintf(&p.b, `<text class="axis middle" x="%.1f" y="%g">%s</text>`, x, height-bottom+20, text)
}

// line draws points, of which a picture shows 600 at most: of more the largest of each stretch.
func (p *plot) line(i int, points [][2]float64) {
	const most = 600
	step := (len(points) + most - 1) / most
	fmt.Fprintf(&p.b, `<path class="line s%d" d="`, i%8)
	for k := 0; k < len(points); k += step {
		v := points[k]
		for _, w := range points[k:min(k+step, len(points))] {
			if w[1] > v[1] {
				v = w
			}
		}
		fmt.Fprintf(&p.b, "%s%.1f %.1f", map[bool]string{true: "M", false: "L"}[k == 0], p.x(v[0]), p.y(v[1]))
	}
	p.b.WriteString(`"/>`)
}

// name writes what a line is at its end.
func (p *plot) name(i int, y float64, text string) {
	fmt.Fprintf(&p.b, `<text class="name s%d" x="%g" y="%.1f">%s</text>`, i%8, width-right+8, y+4, template.HTMLEscapeString(text))
}

// apart moves what would be written over each other, in place.
func apart(y []float64) {
	for range y {
		for i := range y {
			for k := range y[:i] {
				if d := y[i] - y[k]; math.Abs(d) < 15 {
					shift := (15 - math.Abs(d)) / 2
					if d < 0 {
						shift = -shift
					}
					y[i], y[k] = y[i]+shift, y[k]-shift
				}
			}
		}
	}
}

// nice returns the next of 1, 2, 4, 5, 10, … that is not below v.
func nice(v float64) float64 {
	if v <= 0 {
		return 1
	}
	base := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 4, 5, 10} {
		if v <= f*base*1.0001 {
			return f * base
		}
	}
	return 10 * base
}

// short prints a value of an axis.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%g M", math.Round(v/1e4)/100)
	case v >= 10_000:
		return fmt.Sprintf("%g k", math.Round(v/10)/100)
	}
	return fmt.Sprintf("%g", math.Round(v*1000)/1000)
}
