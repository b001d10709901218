package load

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"laaster/internal/kit/run"
)

// sample is what was counted up to a moment.
type sample struct {
	at              time.Duration
	cpu, own, all   time.Duration // of the server, of this process, of all programs
	kb, peak        int64
	sent, delivered int64 // changes
}

// meter looks at everything once a second, or four times, and keeps the series of a report; it tells the progress four times a second.
type meter struct {
	b         *bench
	sent      func() int64 // changes that were written; nil: none
	delivered func() int64 // changes that came; nil: none
	delays    *Delays      // may be nil
	live      func() int64
	whole     time.Duration
	fine      bool // four points a second
	group     *run.Group

	series map[string]*Series // by name; belongs to watch until stop
}

// sample counts now.
func (m *meter) sample() sample {
	s := sample{at: m.b.now(), own: ownCPU(), all: busy()}
	s.cpu, _ = m.b.proc.CPU()           // 0 when it is not known
	s.kb, s.peak, _ = m.b.proc.Memory() // likewise
	if m.sent != nil {
		s.sent = m.sent()
	}
	if m.delivered != nil {
		s.delivered = m.delivered()
	}
	return s
}

// start begins to look; stop ends it.
func (m *meter) start(ctx context.Context) {
	m.series = map[string]*Series{}
	m.group = run.New(ctx)
	m.group.Go("load meter", m.watch)
}

func (m *meter) stop() {
	m.group.Stop()
	_ = m.group.Wait() // it only looks
	r := m.b.report
	for _, kind := range kinds {
		s := m.series[kind.Name]
		if s == nil {
			continue
		}
		if i := slices.IndexFunc(r.Series, func(x Series) bool { return x.Name == s.Name }); i >= 0 { // of an earlier load of this run
			r.Series[i].Points = append(r.Series[i].Points, s.Points...)
		} else {
			r.Series = append(r.Series, *s)
		}
	}
}

// kinds are the series that there may be, in the order in which a report draws them.
var kinds = []Series{
	{Group: "Delay, ms", Name: "p50", Unit: "ms"},
	{Group: "Delay, ms", Name: "p99", Unit: "ms"},
	{Group: "Processor, % of a core", Name: "server", Unit: "% of a core"},
	{Group: "Processor, % of a core", Name: "this load", Unit: "% of a core"},
	{Group: "Changes written a second", Name: "written", Unit: "/s"},
	{Group: "Changes delivered a second", Name: "delivered", Unit: "/s"},
	{Group: "Memory of the server, MB", Name: "resident", Unit: "MB"},
	{Group: "Live clients", Name: "live"},
}

func (m *meter) watch(ctx context.Context) error {
	began := m.sample()
	last, shown := began, began
	for i := 1; ; i++ {
		if !until(ctx, m.b.opt.Clock, m.b.start.Add(began.at+time.Duration(i)*250*time.Millisecond)) {
			return nil
		}
		now := m.sample()
		m.tell(began, shown, now)
		shown = now
		if m.fine || i%4 == 0 {
			m.note(last, now)
			last = now
		}
	}
}

func per(n int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

func (m *meter) tell(began, from, to sample) {
	d := to.at - from.at
	p := Progress{Phase: *m.b.phase.Load(), Elapsed: to.at - began.at, Whole: m.whole, Sent: per(to.sent-from.sent, d),
		Delivered: per(to.delivered-from.delivered, d),
		CPU:       (to.cpu - from.cpu).Seconds() / d.Seconds()}
	if m.delays != nil {
		p.P99 = m.delays.At(99)
	}
	if m.live != nil {
		p.Live = m.live()
	}
	m.b.opt.Progress(p)
}

// note adds a point to each series.
func (m *meter) note(from, to sample) {
	t, d := to.at.Seconds(), to.at-from.at
	add := func(name string, v float64) {
		s := m.series[name]
		if s == nil {
			s = &Series{}
			*s = kinds[slices.IndexFunc(kinds, func(k Series) bool { return k.Name == name })]
			m.series[name] = s
		}
		if len(s.Points) < 100_000 {
			s.Points = append(s.Points, [2]float64{t, v})
		}
	}
	if m.delays != nil {
		if p50, p99, n := m.delays.Window(); n > 0 {
			add("p50", p50)
			add("p99", p99)
		}
	}
	if m.sent != nil {
		add("written", per(to.sent-from.sent, d))
	}
	if m.delivered != nil {
		add("delivered", per(to.delivered-from.delivered, d))
	}
	if m.b.proc.PID > 0 {
		add("server", 100*(to.cpu-from.cpu).Seconds()/d.Seconds())
		add("resident", float64(to.kb)/1000)
	}
	add("this load", 100*(to.own-from.own).Seconds()/d.Seconds())
	if m.live != nil {
		add("live", float64(m.live()))
	}
}

// others adds a figure that says how much of the machine other programs took: figures are only as good as it was quiet.
func (b *bench) others(from, to sample) {
	d := (to.at - from.at).Seconds()
	if to.all == 0 || d <= 0 {
		return
	}
	own := 100 * (to.own - from.own).Seconds() / d
	b.report.figure("processor time of this load", own, "% of a core", 0, fmt.Sprintf("the machine has %d cores", runtime.NumCPU()))
	if b.proc.Known() {
		rest := 100 * ((to.all - from.all) - (to.own - from.own) - (to.cpu - from.cpu)).Seconds() / d
		b.report.figure(otherPrograms, max(rest, 0), "% of a core", 0, "and of the kernel on nobody's account; figures are good when it is small")
	}
}
