package main

import (
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// delays is a histogram of times from 1 µs to a minute, three digits.
type delays struct{ h *hdr.Histogram }

func newDelays() *delays { return &delays{hdr.New(1, time.Minute.Microseconds(), 3)} }

// add counts one delay; what is out of range counts as the bound.
func (d *delays) add(t time.Duration) {
	us := min(max(t.Microseconds(), 1), time.Minute.Microseconds())
	_ = d.h.RecordValue(us) // in range
}

// at returns a percentile in milliseconds.
func (d *delays) at(p float64) float64 { return float64(d.h.ValueAtQuantile(p)) / 1000 }
