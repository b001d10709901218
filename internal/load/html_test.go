package load

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestPageEscapes: nothing that comes from outside is taken for markup.
func TestPageEscapes(t *testing.T) {
	evil := `<script>alert("1")</script>`
	r := &Report{Profile: evil, Summary: evil, Started: time.Unix(0, 0), Errors: []string{evil}, Notes: []string{evil}, Checks: []Check{{evil, false,
		evil}}, Figures: []Figure{{Name: evil, Value: 1, Unit: evil, Target: 2, Note: evil}},
		Settings: []Setting{{evil, evil}}, Tables: []Table{{evil, []string{evil}, [][]float64{{1}}}}, Delays: []Curve{{Name: evil, Count: 3,
			Points: [][2]float64{{0, 1}, {100, 2}}}},
		Series: []Series{{evil, evil, evil, [][2]float64{{0, 0}, {1, 1}}}}}
	page, err := r.HTML()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(page, []byte("<script")) || bytes.Count(page, []byte("&lt;script")) < 14 {
		t.Errorf("%s", page)
	}
}

// TestApart: names at the ends of lines are not written over each other, in their order.
func TestApart(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		y := make([]float64, 2+rng.IntN(2))
		for i := range y {
			y[i] = rng.Float64() * 40
		}
		apart(y)
		slices.Sort(y)
		for i := 1; i < len(y); i++ {
			if y[i]-y[i-1] < 7 {
				t.Errorf("%v", y)
			}
		}
	}
}

func TestNice(t *testing.T) {
	for v, want := range map[float64]float64{0: 1, 0.03: 0.04, 1: 1, 1.1: 2, 3: 4, 4.5: 5, 7: 10, 101: 200, 99_000: 100_000} {
		if got := nice(v); got < want*0.999 || got > want*1.001 {
			t.Errorf("nice(%v) is %v, want %v", v, got, want)
		}
	}
}

// TestDelays: percentiles of known delays, the window apart from the whole, the bounds.
func TestDelays(t *testing.T) {
	d := NewDelays()
	for i := range 1000 {
		d.Add(time.Duration(i+1) * time.Millisecond)
	}
	if p50, p99, n := d.Window(); n != 1000 || p50 < 499 || p50 > 501 || p99 < 989 || p99 > 991 {
		t.Error(p50, p99, n)
	}
	d.AddN(time.Hour, 2)
	d.Add(-time.Second)
	if _, p99, n := d.Window(); n != 3 || p99 < 299_000 || p99 > 301_000 {
		t.Error(p99, n)
	}
	if c := d.Curve("x"); c.Count != 1003 || c.Max < 299_000 || d.Count() != 1003 || d.At(50) < 498 || d.At(50) > 503 {
		t.Errorf("%+v", c)
	}
}
