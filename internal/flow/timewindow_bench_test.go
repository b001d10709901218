package flow

import (
	"testing"

	"laaster/app"
	"laaster/internal/change"
)

// BenchmarkWindowRow measures what a row that comes out of a window costs: five windows, one kept number and one kept text.
func BenchmarkWindowRow(b *testing.B) {
	types := []app.Type{app.Int8, app.Int8, app.Int8, app.Text, app.Text, app.Timestamptz, app.Text}
	l := change.NewLayout(types)
	in := make([]delta, 500)
	for i := range in {
		in[i] = delta{l.Append(nil, []change.Value{change.Int(1), change.Int(2), change.Int(3), change.Bytes([]byte("Google")),
			change.Bytes([]byte("https://www.nexmark.com/abcd/item.htm?query=1")), change.Int(int64(i) * 100), change.Bytes(make([]byte, 40))}), 1}
	}
	for _, c := range []struct {
		name         string
		keep         []int
		width, slide int64
	}{{"tumble", []int{2}, 10_000_000, 10_000_000}, {"hop", []int{0}, 10_000_000, 2_000_000}, {"text", []int{0, 3}, 10_000_000, 2_000_000}} {
		b.Run(c.name, func(b *testing.B) {
			op, err := newTimeWindow(&Window{In: &Scan{Types: types}, Keep: c.keep, Time: 5, Width: c.width, Slide: c.slide}, &errorLog{})
			if err != nil {
				b.Fatal(err)
			}
			var x exec
			n := 0
			b.ReportAllocs()
			for range b.N {
				x.scratch.reset()
				n += len(op.apply(&x, in))
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/row")
		})
	}
}
