package nexmark_test

import (
	"fmt"
	"testing"

	"laaster/internal/sql"
	"laaster/test/nexmark"
)

// BenchmarkQuery measures each query in process: b.N events after 100,000 to warm up.
func BenchmarkQuery(b *testing.B) {
	for q := range nexmark.Count {
		b.Run(fmt.Sprintf("q%d", q), func(b *testing.B) {
			p, diags := sql.Compile("app.sql", []byte(nexmark.App(q)), nil)
			if p == nil {
				b.Fatal(diags[0].Render())
			}
			b.ReportAllocs()
			r, err := nexmark.Measure(p, 100_000, b.N, 1000)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(r.PerSecond(), "events/cpu-s")
			b.ReportMetric(float64(r.Bytes)/float64(r.Events), "out-bytes/event")
			b.ReportMetric(float64(r.State)/1e6, "state-MB")
		})
	}
}
