package client

import (
	"math"
	"slices"
	"time"
)

// alignment holds the server's clock against ours by round trips: right within half of the shortest recent one.
type alignment struct {
	samples []sample // at most 16
	best    sample
}

type sample struct{ rtt, offset time.Duration }

func (a *alignment) add(sent, received, server time.Time) {
	if received.Before(sent) {
		return // our clock was set back between
	}
	rtt := received.Sub(sent)
	if a.samples = append(a.samples, sample{rtt, server.Sub(sent.Add(rtt / 2))}); len(a.samples) > 16 {
		a.samples = slices.Delete(a.samples, 0, 1)
	}
	a.best = a.samples[0]
	for _, s := range a.samples[1:] {
		if s.rtt <= a.best.rtt {
			a.best = s
		}
	}
}

// restart forgets the samples and keeps the estimate: after a pause our clock may have moved.
func (a *alignment) restart() { a.samples = nil }

// Pulse is how a client is doing.
type Pulse struct {
	// P50 and P99 are delays from the log's stamp of a change to its having been applied here and told to all callbacks, over the last 60 s;
	// 0 without samples.
	P50, P99 time.Duration
	Samples  int           // how many delays these are taken from: at most 512
	Rate     float64       // changes of rows per second over the last 5 s, all subscriptions together
	Offset   time.Duration // the server's clock less ours
	RTT      time.Duration // the shortest recent round trip; 0 before the first
}

const (
	pulseDelays = 512
	pulseWindow = 60 * time.Second
	rateWindow  = 5 * time.Second
	reportEvery = 5 * time.Second
)

// meter keeps recent delays and counts changes.
type meter struct {
	delays   []timed[time.Duration]
	counts   []timed[int]
	draw     delayOf
	drawn    int
	reported time.Time
}

type timed[T any] struct {
	at    time.Time
	value T
}

type delayOf struct {
	position string
	delay    time.Duration
}

func (m *meter) count(now time.Time, n int) {
	if last := len(m.counts) - 1; last >= 0 && now.Sub(m.counts[last].at) < 100*time.Millisecond {
		m.counts[last].value += n
		return
	}
	old := 0
	for old < len(m.counts) && now.Sub(m.counts[old].at) > rateWindow {
		old++
	}
	m.counts = append(slices.Delete(m.counts, 0, old), timed[int]{now, n})
}

// delay notes one; each of the n since the last report is drawn for the next with probability 1/n.
func (m *meter) delay(now time.Time, position string, d time.Duration, random float64) {
	if m.delays = append(m.delays, timed[time.Duration]{now, d}); len(m.delays) > pulseDelays {
		m.delays = slices.Delete(m.delays, 0, len(m.delays)-pulseDelays)
	}
	if m.drawn++; random*float64(m.drawn) < 1 {
		m.draw = delayOf{position, d}
	}
}

// report returns a delay to report, if it is time.
func (m *meter) report(now time.Time) (delayOf, bool) {
	if m.drawn == 0 || now.Sub(m.reported) < reportEvery {
		return delayOf{}, false
	}
	m.drawn, m.reported = 0, now
	return m.draw, true
}

func (m *meter) read(now time.Time) Pulse {
	var p Pulse
	var all []time.Duration
	for _, d := range m.delays {
		if now.Sub(d.at) <= pulseWindow {
			all = append(all, d.value)
		}
	}
	slices.Sort(all)
	if p.Samples = len(all); p.Samples > 0 {
		at := func(q float64) time.Duration { return all[max(0, int(math.Ceil(q*float64(len(all))))-1)] }
		p.P50, p.P99 = at(0.5), at(0.99)
	}
	n := 0
	for _, c := range m.counts {
		if now.Sub(c.at) <= rateWindow {
			n += c.value
		}
	}
	p.Rate = float64(n) / rateWindow.Seconds()
	return p
}

// fromMillis reads a time of the wire.
func fromMillis(ms float64) time.Time {
	if !(math.Abs(ms) < 1e15) {
		return time.Time{}
	}
	return time.UnixMicro(int64(math.Round(ms * 1000)))
}

func toMillis(t time.Time) float64 { return float64(t.UnixMicro()) / 1000 }
