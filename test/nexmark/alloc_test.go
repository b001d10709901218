package nexmark_test

import (
	"fmt"
	"runtime"
	"testing"

	"laaster/internal/change"
	"laaster/internal/flow"
	"laaster/internal/sql"
	"laaster/test/nexmark"
)

// TestAllocations holds every query to the few allocations per batch that make the epoch, and one for each few kilobytes by which state
// grows, as pages and segments of hash tables do.
func TestAllocations(t *testing.T) {
	for q := range nexmark.Count {
		t.Run(fmt.Sprintf("q%d", q), func(t *testing.T) {
			const size, warm, batches = 1000, 60, 30
			p, diags := sql.Compile("app.sql", []byte(nexmark.App(q)), nil)
			if p == nil {
				t.Fatal(diags[0].Render())
			}
			e, err := flow.New(p, flow.Options{})
			if err != nil {
				t.Fatal(err)
			}
			enc, gen := nexmark.NewEncoder(p), nexmark.New(nexmark.Options{Seed: 1})
			var ev nexmark.Event
			n := uint64(0)
			next := func() change.Batch {
				for range size {
					gen.Event(n, &ev)
					enc.Add(&ev, ev.Time)
					n++
				}
				return enc.Batch(ev.Time)
			}
			apply := func(b change.Batch) {
				if _, err := e.Apply(&b); err != nil {
					t.Fatal(err)
				}
			}
			apply(enc.Definition(p))
			apply(enc.Side())
			for range warm {
				apply(next())
			}
			made := make([]change.Batch, batches)
			for i := range made {
				made[i] = next()
			}
			held := e.Stats().Bytes
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for _, b := range made {
				apply(b)
			}
			runtime.ReadMemStats(&after)
			got := float64(after.Mallocs-before.Mallocs) / batches
			grown := max(0, float64(e.Stats().Bytes-held)) / batches
			if limit := 7 + grown/4096; got > limit {
				t.Errorf("%.1f allocations per batch of %d events, in which state grows by %.0f bytes; want %.1f or fewer", got, size, grown, limit)
			}
			t.Logf("%.1f allocations, %.0f bytes", got, grown)
		})
	}
}
