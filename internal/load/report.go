package load

import (
	"encoding/json"
	"io"
	"time"
)

// Report is what a run has shown: what --json prints and the HTML report draws. Figures are in the order in which they matter.
type Report struct {
	Profile     string    `json:"profile"`
	Summary     string    `json:"summary"` // what was done, in a sentence
	Version     string    `json:"version"` // of the program that measured
	Started     time.Time `json:"started"`
	Seconds     float64   `json:"seconds"`
	Interrupted bool      `json:"interrupted,omitempty"` // ended before its time
	Machine     Machine   `json:"machine"`
	Settings    []Setting `json:"settings"`
	Figures     []Figure  `json:"figures"`
	Tables      []Table   `json:"tables,omitempty"`
	Delays      []Curve   `json:"delays,omitempty"`
	Series      []Series  `json:"series,omitempty"`
	Checks      []Check   `json:"checks,omitempty"`
	Errors      []string  `json:"errors,omitempty"`
	Notes       []string  `json:"notes,omitempty"`

	compared bool
}

// Machine is where it was measured.
type Machine struct {
	Cores  int    `json:"cores"`
	CPU    string `json:"cpu,omitempty"`
	OS     string `json:"os"`
	Kernel string `json:"kernel,omitempty"`
	Go     string `json:"go"`
}

// Setting is one knob of the run.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Figure is one number. Target is the most that it is to be, 0: none was set.
type Figure struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Target float64 `json:"target,omitempty"`
	// Bare is what a loop had that takes the same requests and writes the same frames and does nothing else, on the same machine. 0: it was not asked.
	Bare float64 `json:"bare,omitempty"`
	Note string  `json:"note,omitempty"`
}

// Met says whether a figure is within its target.
func (f *Figure) Met() bool { return f.Target == 0 || f.Value <= f.Target }

// Table is what several rounds or rates have shown, a row each.
type Table struct {
	Name    string      `json:"name"`
	Columns []string    `json:"columns"`
	Rows    [][]float64 `json:"rows"`
}

// Curve is a histogram of delays, in milliseconds. Points are percentiles (0 to 100) and their delays.
type Curve struct {
	Name   string       `json:"name"`
	Count  int64        `json:"count"`
	Mean   float64      `json:"mean"`
	P50    float64      `json:"p50"`
	P90    float64      `json:"p90"`
	P99    float64      `json:"p99"`
	P999   float64      `json:"p999"`
	Max    float64      `json:"max"`
	Points [][2]float64 `json:"points"`
}

// Series is a value over time: points are seconds since the run began and the value. Series of one Group share a picture.
type Series struct {
	Group  string       `json:"group"`
	Name   string       `json:"name"`
	Unit   string       `json:"unit"`
	Points [][2]float64 `json:"points"`
}

// Check is a statement about what clients saw that must hold.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// OK says whether every check holds.
func (r *Report) OK() bool {
	for _, c := range r.Checks {
		if !c.OK {
			return false
		}
	}
	return true
}

// Beside puts the figures of a run against [Bare] beside those of r.
func (r *Report) Beside(bare *Report) {
	for i := range r.Figures {
		f := &r.Figures[i]
		for _, x := range bare.Figures {
			if x.Name == f.Name && x.Unit == f.Unit && f.Name != otherPrograms {
				f.Bare = x.Value
			}
		}
	}
	for _, c := range bare.Delays {
		c.Name = "bare loop: " + c.Name
		r.Delays = append(r.Delays, c)
	}
	for _, c := range bare.Checks {
		if !c.OK {
			r.Notes = append(r.Notes, "Of the bare loop: "+c.Name+": "+c.Detail)
		}
	}
	r.compared = true
}

// otherPrograms names the figure that says how quiet the machine was.
const otherPrograms = "processor time of other programs"

// Compared says whether there are figures of a bare loop beside those of r.
func (r *Report) Compared() bool { return r.compared }

// JSON writes the report as one indented object.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

func (r *Report) set(name, value string) { r.Settings = append(r.Settings, Setting{name, value}) }

func (r *Report) figure(name string, value float64, unit string, target float64, note string) {
	r.Figures = append(r.Figures, Figure{Name: name, Value: value, Unit: unit, Target: target, Note: note})
}

func (r *Report) check(name string, ok bool, detail string) {
	r.Checks = append(r.Checks, Check{name, ok, detail})
}
