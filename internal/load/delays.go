package load

import (
	"sync"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// longest is the longest delay that is told apart.
const longest = 5 * time.Minute

// Delays are histograms of times from 1 µs to five minutes with three digits: one of everything, one since the last look. Safe for
// concurrent use.
type Delays struct {
	mu struct {
		sync.Mutex
		all, window *hdr.Histogram
	}
}

// NewDelays returns empty histograms.
func NewDelays() *Delays {
	d := &Delays{}
	d.mu.all = hdr.New(1, longest.Microseconds(), 3)
	d.mu.window = hdr.New(1, longest.Microseconds(), 3)
	return d
}

// Add counts one delay; what is out of range counts as the bound.
func (d *Delays) Add(t time.Duration) { d.AddN(t, 1) }

// AddN counts one delay n times.
func (d *Delays) AddN(t time.Duration, n int64) {
	us := min(max(t.Microseconds(), 1), longest.Microseconds())
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.mu.all.RecordValues(us, n) // in range
	_ = d.mu.window.RecordValues(us, n)
}

// At returns a percentile (0 to 100) in milliseconds, 0 when nothing was counted.
func (d *Delays) At(p float64) float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return float64(d.mu.all.ValueAtQuantile(p)) / 1000
}

// Count returns how many delays were counted.
func (d *Delays) Count() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.all.TotalCount()
}

// Window returns the median and the 99th percentile, in milliseconds, of what was counted since the last call, and begins anew.
func (d *Delays) Window() (p50, p99 float64, n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p50, p99 = float64(d.mu.window.ValueAtQuantile(50))/1000, float64(d.mu.window.ValueAtQuantile(99))/1000
	n = d.mu.window.TotalCount()
	d.mu.window.Reset()
	return p50, p99, n
}

// Curve returns the histogram as a report has it.
func (d *Delays) Curve(name string) Curve {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.mu.all
	at := func(p float64) float64 { return float64(h.ValueAtQuantile(p)) / 1000 }
	c := Curve{Name: name, Count: h.TotalCount(), Mean: h.Mean() / 1000, P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: float64(h.Max()) / 1000}
	if c.Count == 0 {
		return c
	}
	for _, p := range []float64{0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5, 99.9, 99.95, 99.99, 99.999, 100} {
		if p < 100 && p > 99 && float64(c.Count)*(100-p)/100 < 1 {
			continue // a percentile of fewer than one delay is a repetition
		}
		c.Points = append(c.Points, [2]float64{p, at(p)})
	}
	return c
}
