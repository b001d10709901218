package node

import (
	"fmt"
	"io"
	"time"

	"laaster/internal/kit/run"
)

// progress tells a person how far a replay is, once it has taken a second, and then every 200 ms on the same line.
type progress struct {
	w       io.Writer
	clock   run.Clock
	began   time.Time
	next    time.Time
	of      uint64
	written bool
}

func newProgress(w io.Writer, clock run.Clock, of uint64) *progress {
	now := clock.Now()
	return &progress{w: w, clock: clock, began: now, next: now.Add(time.Second), of: of}
}

// at reports that batch seq is done. It looks at the clock only now and then.
func (p *progress) at(seq uint64) {
	if p.w == nil || seq%64 != 0 {
		return
	}
	now := p.clock.Now()
	if now.Before(p.next) {
		return
	}
	p.next, p.written = now.Add(200*time.Millisecond), true
	took := now.Sub(p.began)
	left := time.Duration(float64(took) * float64(p.of-seq) / float64(max(seq, 1)))
	fmt.Fprintf(p.w, "\rreplaying the log: batch %d of %d (%d %%), about %s left   ", seq, p.of, 100*seq/max(p.of, 1), left.Round(time.Second))
}

// done ends the line.
func (p *progress) done() {
	if p.written {
		fmt.Fprintf(p.w, "\rreplayed %d batches in %s%40s\n", p.of, p.clock.Now().Sub(p.began).Round(10*time.Millisecond), "")
	}
}
