package load

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"laaster/internal/kit/run"
)

// lagging is the profile slow: spans without and with clients that read slowly, in turn.
type lagging struct {
	*bench
	drive      *drive
	fast, slow *Swarm
	judges     [2]*judge // of the fast and the slow ones
	spans      []*Delays // of the fast ones: without, with, without, …
	ages       *Delays   // how old what a slow one has is, when a frame came
	frames     atomic.Int64
	bytes      atomic.Int64
	kb, kernel []float64 // growth per slow one, by pair
}

// slow is the profile slow.
func (b *bench) slow(ctx context.Context) error {
	o, r := &b.opt, b.report
	if o.Slow == 0 {
		return fmt.Errorf("slow is 0: this profile needs slow clients")
	}
	p := newPlan(o.Rows, o.changing(), o.Conns, o.Batch, o.RowBytes)
	base, err := b.fill(ctx, &p)
	if err != nil {
		return err
	}
	s, err := Constant(o.Rate/float64(o.Batch), time.Duration(2*o.Rounds)*o.Length)
	if err != nil {
		return err
	}
	b.describe(&p, false)
	r.Summary += fmt.Sprintf("; %d pairs of %s without and with %d clients that read %d bytes/s", o.Rounds, o.Length, o.Slow, o.LineRate)
	r.set("slow clients", itoa(o.Slow))
	r.set("bytes a second of each", itoa(o.LineRate))
	l := &lagging{bench: b, drive: b.drive(&p, s), ages: NewDelays()}
	for range 2 * o.Rounds {
		l.spans = append(l.spans, NewDelays())
	}
	l.judges = [2]*judge{newJudge(&p, l.drive, base, o.Clients, 16, false), newJudge(&p, l.drive, base, o.Slow, 16, false)}
	l.judges[0].delaysOf = l.span
	opt := SwarmOptions{URL: o.URL, Token: o.Token, TLS: o.TLS, Hello: b.hello(false), Path: b.path(false), Frame: l.judges[0].frame, Clock: o.Clock, Start: b.start,
		Loops: o.Loops, Window: o.Window}
	if l.fast, err = NewSwarm(ctx, o.Clients, opt); err != nil {
		return err
	}
	defer l.fast.Close()
	opt.Frame, opt.Rate = l.lag, o.LineRate
	if l.slow, err = NewSwarm(ctx, o.Slow, opt); err != nil {
		return err
	}
	defer l.slow.Close()
	if err := b.open(ctx, l.fast, o.Clients); err != nil {
		return err
	}
	return l.measure(ctx)
}

// measure runs the load and the spans.
func (l *lagging) measure(ctx context.Context) error {
	m := &meter{b: l.bench, sent: l.drive.accepted.Load, delivered: l.judges[0].delivered.Load,
		live:  func() int64 { return l.fast.live.Load() + l.slow.live.Load() },
		whole: time.Duration(2*l.opt.Rounds) * l.opt.Length}
	m.start(ctx)
	l.begin(l.drive)
	g := run.New(ctx)
	g.Go("load drive", l.drive.run)
	from := m.sample()
	done, err := l.pairs(ctx, m)
	l.drive.over.Store(true)
	if e := g.Wait(); err == nil {
		err = e
	}
	to := m.sample()
	m.stop()
	if err != nil && ctx.Err() == nil {
		return err
	}
	l.tell(done)
	l.rest(ctx, l.drive, l.judges[0], l.fast)
	l.others(from, to)
	var v verdict
	l.slow.Still(func() { v = l.judges[1].witnesses() })
	l.report.check("slow clients: rows right at every position told", v.wrong == 0, joined(fmt.Sprintf("%d positions, %d wrong", v.positions,
		v.wrong), v.first))
	l.judges[1].mu.Lock()
	defer l.judges[1].mu.Unlock()
	l.report.check("slow clients: every row is as it was written", l.judges[1].mu.bad == 0 && l.judges[1].fell.Load() == 0,
		fmt.Sprintf("%d frames with something else, %d older rows", l.judges[1].mu.bad, l.judges[1].fell.Load()))
	c := l.slow.Count()
	l.report.check("slow clients: none was closed", c.Lost+c.Problems == 0, fmt.Sprintf("%d lost, %d error frames, %d gaps", c.Lost, c.Problems, c.Gaps))
	l.clients(l.fast)
	l.clients(l.slow)
	return nil
}

// span returns where the delay of a change counts: in its span, unless it was due in the warm-up of that.
func (l *lagging) span(_ int, due time.Duration) *Delays {
	at := due - time.Duration(l.drive.lead.Load())
	if i := int(at / l.opt.Length); at >= 0 && i < len(l.spans) && at%l.opt.Length >= l.opt.Warm {
		return l.spans[i]
	}
	return nil
}

// lag takes a frame of a slow client and notes how old its rows are: since the newest change that it has was due.
func (l *lagging) lag(c *Client, kind Kind, frame []byte, at time.Duration) {
	j := l.judges[1]
	before := j.clients[c.ID].newest
	j.frame(c, kind, frame, at)
	if newest := j.clients[c.ID].newest; newest > before && c.state == stateLive {
		l.ages.Add(at - newest)
		l.frames.Add(1)
		l.bytes.Add(int64(len(frame)))
	}
}

// pairs waits for the spans, connects and cuts the slow ones, and returns how many pairs were whole.
func (l *lagging) pairs(ctx context.Context, m *meter) (int, error) {
	lead := time.Duration(l.drive.lead.Load())
	for i := range l.opt.Rounds {
		l.say(fmt.Sprintf("pair %d of %d: without slow clients", i+1, l.opt.Rounds))
		if !until(ctx, l.opt.Clock, l.start.Add(lead+time.Duration(2*i+1)*l.opt.Length)) {
			return i, ctx.Err()
		}
		before, kernel := m.sample(), socketKB()
		l.say(fmt.Sprintf("pair %d of %d: with slow clients", i+1, l.opt.Rounds))
		l.slow.Connect(0, l.opt.Slow)
		if !until(ctx, l.opt.Clock, l.start.Add(lead+time.Duration(2*i+2)*l.opt.Length)) {
			return i, ctx.Err()
		}
		n := float64(l.opt.Slow)
		l.kb = append(l.kb, float64(m.sample().kb-before.kb)/n)
		l.kernel = append(l.kernel, float64(socketKB()-kernel)/n)
		l.slow.Cut(0, l.opt.Slow)
	}
	return l.opt.Rounds, nil
}

func (l *lagging) tell(pairs int) {
	r, o := l.report, &l.opt
	t := Table{Name: "Pairs", Columns: []string{"pair", "fast p99 without, ms", "fast p99 with, ms", "ratio", "server KB per slow one",
		"kernel KB per slow one"}}
	var ratios []float64
	for i := range pairs {
		a, b := l.spans[2*i], l.spans[2*i+1]
		ratio := b.At(99) / max(a.At(99), 0.001)
		ratios = append(ratios, ratio)
		t.Rows = append(t.Rows, []float64{float64(i + 1), a.At(99), b.At(99), ratio, l.kb[i], l.kernel[i]})
		if i == pairs-1 {
			r.Delays = append(r.Delays, a.Curve("fast, without slow ones (last pair)"), b.Curve("fast, with slow ones (last pair)"))
		}
	}
	if pairs > 0 {
		r.Tables = append(r.Tables, t)
		r.figure("p99 of the fast ones, with ÷ without slow ones", median(ratios), "times", 1.5, fmt.Sprintf("median of %d pairs in turn", pairs))
		if l.proc.Known() {
			r.figure("resident memory per slow client", median(l.kb), "KB", 64, "median of the pairs")
		}
		r.figure("kernel memory per slow client, both ends", median(l.kernel), "KB", 0, "TCP buffers of the machine")
	}
	ages, n := l.ages.Curve("age of what a slow client has, when a frame came"), l.frames.Load()
	r.Delays = append(r.Delays, ages)
	if n > 0 {
		size := float64(l.bytes.Load()) / float64(n)
		r.figure("age of a slow client's rows p50", ages.P50/1000, "s", 0, "when a frame was read, since its newest change was due")
		r.figure("age of a slow client's rows, longest", ages.Max/1000, "s", 0,
			fmt.Sprintf("%d frames of %.0f bytes on average: %.2f s of its line each", n, size, size/float64(o.LineRate)))
		r.figure("bytes before a change on a slow line, most", ages.Max/1000*float64(o.LineRate)/1024, "KB", 0,
			"what was on its way to the client already when the change was due: longest age × the line's rate")
	}
}
