package push

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"laaster/internal/change"
)

// TestMergeAll compares the net changes of random histories with the difference between the rows before and after.
func TestMergeAll(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		keys, most := 1+r.IntN(200), 1+r.IntN(60)
		rows := make([]change.Row, keys)
		for i := range rows {
			if r.IntN(2) == 0 {
				rows[i] = change.Row{byte(r.IntN(3))}
			}
		}
		before := slices.Clone(rows)
		var runs [][]change.RowChange
		for range r.IntN(200) {
			var run []change.RowChange
			for _, k := range r.Perm(keys)[:min(keys, r.IntN(most+1))] {
				var row change.Row
				if r.IntN(3) > 0 {
					row = change.Row{byte(r.IntN(3))}
				}
				if !same(rows[k], row) {
					run = append(run, change.RowChange{Key: fmt.Appendf(nil, "%03d", k), Old: rows[k], New: row})
					rows[k] = row
				}
			}
			slices.SortFunc(run, func(a, b change.RowChange) int { return bytes.Compare(a.Key, b.Key) })
			runs = append(runs, run)
		}
		var want, given string
		for k := range rows {
			if !same(before[k], rows[k]) {
				want += fmt.Sprintf("%03d %v %v\n", k, before[k], rows[k])
			}
		}
		for _, run := range runs {
			given += fmt.Sprint(run)
		}
		var got string
		for _, c := range mergeAll(runs) {
			got += fmt.Sprintf("%s %v %v\n", c.Key, c.Old, c.New)
		}
		if got != want {
			t.Fatalf("seed %d: got:\n%s\nwant:\n%s", seed, got, want)
		}
		var after string
		for _, run := range runs {
			after += fmt.Sprint(run)
		}
		if after != given {
			t.Fatalf("seed %d: epochs are shared, and were changed", seed)
		}
	}
}

// BenchmarkMergeAll joins 8,192 epochs, of which each changes one of so many rows.
func BenchmarkMergeAll(b *testing.B) {
	for _, keys := range []int{3, 1000, 8192} {
		b.Run(fmt.Sprint(keys), func(b *testing.B) {
			runs := make([][]change.RowChange, 8192)
			for i := range runs {
				k := fmt.Appendf(nil, "a key of some length %08d", i*5555%keys)
				runs[i] = []change.RowChange{{Key: k, Old: change.Row{byte(i / keys), byte(i / keys >> 8)}, New: change.Row{byte(i/keys + 1), byte((i/keys + 1) >> 8)}}}
			}
			b.ReportAllocs()
			for b.Loop() {
				mergeAll(runs)
			}
		})
	}
}
