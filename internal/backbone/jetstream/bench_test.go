package jetstream

import (
	"bytes"
	"fmt"
	"testing"

	"laaster/internal/change"
)

// BenchmarkAppend appends one batch after the other, each synced: the floor of what a write costs.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{300, 10 << 10, 100 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			d := openDriver(b, Options{Dir: b.TempDir()})
			data := bytes.Repeat([]byte("x"), size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for after := uint64(0); b.Loop(); after++ {
				if _, err := d.Append(b.Context(), data, after); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRead reads a log of about 64 MiB, or of 20,000 small batches, from the server.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{300, 10 << 10, 100 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			d := openDriver(b, Options{Dir: b.TempDir()})
			data := bytes.Repeat([]byte("x"), size)
			n := min(20000, (64<<20)/size)
			for after := range uint64(n) {
				if _, err := d.Append(b.Context(), data, after); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(size * n))
			b.ReportAllocs()
			for b.Loop() {
				got := 0
				err := d.Read(b.Context(), 1, func(uint64, []byte) error { got++; return nil })
				if err != nil || got != n {
					b.Fatal(got, err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "batches/s")
		})
	}
}

// BenchmarkRestart opens a log of a closed server, as a start does, and replays it, everything verified.
func BenchmarkRestart(b *testing.B) {
	for _, size := range []int{300, 10 << 10, 100 << 10, 1000 << 10} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			dir := b.TempDir()
			s := mustOpenLog(b, dir)
			n := min(20000, (64<<20)/size)
			appendLarge(b, s, n, size)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size * n))
			b.ReportAllocs()
			for b.Loop() {
				s := mustOpenLog(b, dir)
				got := 0
				err := s.Replay(b.Context(), 1, func(*change.Batch) error { got++; return nil })
				if err != nil || got != n {
					b.Fatal(got, err)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "batches/s")
		})
	}
}
