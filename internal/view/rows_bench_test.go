package view

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"laaster/internal/change"
)

// benchRows is how many rows the benchmarks of a large view have, benchBatch how many one epoch brings when it is filled.
const (
	benchRows  = 1_000_000
	benchBatch = 500
)

// benchKey is the key of a row: nine bytes, as a bigint primary key has.
func benchKey(i int) []byte {
	k := make([]byte, 9)
	k[0] = 1
	binary.BigEndian.PutUint64(k[1:], uint64(i)*0x9E3779B97F4A7C15)
	return k
}

// benchRow is a row of 60 to 75 bytes, always as long for the same key unless vary is set.
func benchRow(i, version int, vary bool) change.Row {
	n := 60 + i%16
	if vary {
		n = 60 + (i+version)%16
	}
	row := make(change.Row, n)
	binary.LittleEndian.PutUint64(row, uint64(version))
	return row
}

// benchEpoch changes rows of these numbers.
func benchEpoch(seq uint64, numbers []int, vary bool) *change.Epoch {
	changes := make([]change.RowChange, 0, len(numbers))
	for _, i := range numbers {
		changes = append(changes, change.RowChange{Key: benchKey(i), New: benchRow(i, int(seq), vary)})
	}
	slices.SortFunc(changes, func(a, b change.RowChange) int { return slices.Compare(a.Key, b.Key) })
	changes = slices.CompactFunc(changes, func(a, b change.RowChange) bool { return slices.Equal(a.Key, b.Key) })
	return &change.Epoch{Seq: seq, Stamp: int64(seq), Deltas: []change.Delta{{Relation: 0, Changes: changes}}}
}

// benchStore returns a store with benchRows rows that came in random order, and its position.
func benchStore() (*Store, uint64) {
	s := newStore(1 << 10)
	seq := uint64(0)
	numbers := make([]int, benchBatch)
	for i := 0; i < benchRows; i += benchBatch {
		for j := range numbers {
			numbers[j] = i + j
		}
		seq++
		s.Apply(benchEpoch(seq, numbers, false))
	}
	return s, seq
}

// BenchmarkLarge is what a view of a million rows costs.
func BenchmarkLarge(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s, seq := benchStore()
	runtime.GC()
	start := time.Now()
	runtime.GC()
	collect := time.Since(start)
	runtime.ReadMemStats(&after)
	b.Run("memory", func(b *testing.B) {
		for range b.N {
			runtime.KeepAlive(s)
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/benchRows, "B/row")
		b.ReportMetric(float64(collect.Microseconds()), "µs/collection")
	})
	r := rand.New(rand.NewPCG(1, 2))
	for _, rows := range []int{1, 500} {
		for _, vary := range []bool{false, true} {
			for _, snap := range []bool{false, true} {
				b.Run(fmt.Sprintf("update=%d/vary=%t/snapshot=%t", rows, vary, snap), func(b *testing.B) {
					epochs := make([]*change.Epoch, 256)
					for i := range epochs {
						numbers := make([]int, rows)
						for j := range numbers {
							numbers[j] = r.IntN(benchRows)
						}
						epochs[i] = benchEpoch(uint64(i), numbers, vary)
					}
					b.ReportAllocs()
					b.ResetTimer()
					for i := range b.N {
						seq++
						e := *epochs[i%len(epochs)]
						e.Seq = seq
						s.Apply(&e)
						if snap {
							s.Snapshot(0)
						}
					}
				})
			}
		}
	}
	b.Run("get", func(b *testing.B) {
		snap := s.Snapshot(0)
		for range b.N {
			if _, ok := snap.Get(0, benchKey(r.IntN(benchRows))); !ok {
				b.Fatal("a row is missing")
			}
		}
	})
	b.Run("scan", func(b *testing.B) {
		for range b.N {
			n := 0
			s.Snapshot(0).Ascend(0, nil, func(_ []byte, row change.Row) bool { n += len(row); return true })
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
	})
}

// BenchmarkAppend is rows in the order of their keys, as a log of events has them.
func BenchmarkAppend(b *testing.B) {
	s := newStore(1 << 10)
	b.ReportAllocs()
	for i := range b.N {
		key := binary.BigEndian.AppendUint64([]byte{1}, uint64(i))
		s.Apply(&change.Epoch{Seq: uint64(i + 1), Deltas: []change.Delta{{Relation: 0, Changes: []change.RowChange{{Key: key, New: benchRow(i, 0, false)}}}}})
	}
}

// BenchmarkCheckpoint is what a checkpoint of a million rows costs, and a start from it.
func BenchmarkCheckpoint(b *testing.B) {
	cs := openCheckpoints(b, b.TempDir())
	s, seq := benchStore()
	r := rand.New(rand.NewPCG(1, 2))
	save := func() (pause, took time.Duration) {
		began := time.Now()
		f := s.Freeze(cs.NewObject)
		pause = time.Since(began)
		began = time.Now()
		if err := write(cs, f, true); err != nil {
			b.Fatal(err)
		}
		took = time.Since(began)
		began = time.Now()
		s.Done(f, true)
		return pause + time.Since(began), took
	}
	b.Run("whole", func(b *testing.B) {
		pause, took := save()
		for range b.N {
			runtime.KeepAlive(s)
		}
		b.ReportMetric(float64(pause.Microseconds()), "µs/pause")
		b.ReportMetric(float64(took.Milliseconds()), "ms/write")
	})
	b.Run("after=5000", func(b *testing.B) {
		var pause, took time.Duration
		for range b.N {
			b.StopTimer()
			for range 10 {
				numbers := make([]int, 500)
				for j := range numbers {
					numbers[j] = r.IntN(benchRows)
				}
				seq++
				s.Apply(benchEpoch(seq, numbers, false))
			}
			b.StartTimer()
			p, d := save()
			pause, took = max(pause, p), took+d
		}
		b.ReportMetric(float64(pause.Microseconds()), "µs/longest-pause")
		b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms/write")
	})
	for _, memory := range []int64{0, 1 << 40} {
		b.Run(fmt.Sprintf("load/memory=%t", memory > 0), func(b *testing.B) {
			for range b.N {
				if again, _ := newest(b, cs, s.Relations(), Options{Memory: memory}); again.Stats().Rows != benchRows {
					b.Fatal("rows are missing")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/load")
		})
	}
	b.Run("cold get", func(b *testing.B) {
		again, _ := newest(b, cs, s.Relations(), Options{})
		snap := again.Snapshot(0)
		again.Trim(1)
		b.ResetTimer()
		for range b.N {
			snap.Get(0, benchKey(r.IntN(benchRows)))
		}
	})
}
