package jetstream

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
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

// BenchmarkOpen opens a log of 22 kB batches: inspection, the server's recovery and the end read. Its size is LAASTER_LOG_MIB, by default 64; a
// tenth of a second more or less is the server's. "settled" is after a clean end with a checkpoint at the head; "killed" has no index.
func BenchmarkOpen(b *testing.B) {
	mib := 64
	if s := os.Getenv("LAASTER_LOG_MIB"); s != "" {
		var err error
		if mib, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	dir := b.TempDir()
	s := mustOpenLog(b, dir)
	appendLarge(b, s, mib<<20/22_000, 22_000)
	head := s.Head()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	for name, clean := range map[string]uint64{"clean": 0, "settled": head, "killed": head} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(mib) << 20)
			for b.Loop() {
				b.StopTimer()
				if name == "killed" {
					if err := os.Remove(filepath.Join(dir, streamFiles, "msgs/index.db")); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				s, err := openLogWith(b, dir, nil, clean)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
