package load

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"laaster/internal/kit/run"
)

func itoa(n int) string { return strconv.Itoa(n) }

// idle opens clients that watch one view, and looks at the server while nothing happens.
func (b *bench) idle(ctx context.Context) error {
	o, r := &b.opt, b.report
	p := newPlan(o.Rows, o.Rows, 1, 1, o.RowBytes)
	if _, err := b.fill(ctx, &p); err != nil {
		return err
	}
	r.Summary = fmt.Sprintf("%d clients, each subscribed to a view of %d rows that does not change, for %s", o.Clients, o.Rows, o.Length)
	r.set("clients", itoa(o.Clients)+" over "+o.Watch)
	r.set("rows", itoa(o.Rows))
	r.set("time", o.Length.String())
	first, err := NewSwarm(ctx, 1, SwarmOptions{URL: o.URL, Token: o.Token, TLS: o.TLS, Hello: b.hello(false), Path: b.path(false), Clock: o.Clock, Start: b.start})
	if err != nil {
		return err
	}
	defer first.Close()
	if err := b.open(ctx, first, 1); err != nil { // what the first one costs is not what each costs
		return err
	}
	s, err := NewSwarm(ctx, o.Clients, SwarmOptions{URL: o.URL, Token: o.Token, TLS: o.TLS, Hello: b.hello(false), Path: b.path(false), Clock: o.Clock, Start: b.start,
		Loops: o.Loops, Window: o.Window})
	if err != nil {
		return err
	}
	defer s.Close()
	m := &meter{b: b, live: s.live.Load, whole: o.Length}
	if !until(ctx, o.Clock, o.Clock.Now().Add(time.Second)) {
		return ctx.Err()
	}
	kernelBefore, before := socketKB(), m.sample()
	if err := b.open(ctx, s, o.Clients); err != nil {
		return err
	}
	joined, joinedFrames := m.sample(), s.Count().Frames
	b.say("idle")
	m.start(ctx)
	until(ctx, o.Clock, b.start.Add(joined.at+o.Length)) // Ctrl-C: what there is
	after := m.sample()
	m.stop()
	kernelAfter, count := socketKB(), s.Count()
	if b.proc.Known() {
		n := float64(o.Clients)
		r.figure("resident memory per connection", float64(after.kb-before.kb)/n, "KB", 4, fmt.Sprintf("%.1f MB before, %.1f MB after %s idle",
			mb(before.kb), mb(after.kb), o.Length))
		r.figure("processor time for heartbeats", 100*(after.cpu-joined.cpu).Seconds()/(after.at-joined.at).Seconds(), "% of a core", 2,
			fmt.Sprintf("over %.0f s", (after.at-joined.at).Seconds()))
		r.figure("resident memory per connection right after joining", float64(joined.kb-before.kb)/n, "KB", 0,
			fmt.Sprintf("%.1f MB; at most %.1f MB ever", mb(joined.kb), mb(joined.peak)))
		r.figure("processor time to join", float64((joined.cpu-before.cpu).Microseconds())/n, "µs each", 0, "upgrade, hello, rows")
	}
	r.figure("kernel memory per connection, both ends", float64(kernelAfter-kernelBefore)/float64(o.Clients), "KB", 0,
		"TCP buffers of the machine; not resident memory of the server")
	r.figure("time to join", (joined.at - before.at).Seconds(), "s", 0, fmt.Sprintf("%d at one time", o.Window))
	r.figure("frames while idle", float64(count.Frames-joinedFrames), "", 0, fmt.Sprintf("heartbeats; and %d pings", count.Pings))
	b.others(joined, after)
	b.clients(s)
	r.check("everybody stays", count.Live == int64(o.Clients) && count.Lost == 0, fmt.Sprintf("%d of %d live, %d lost", count.Live, o.Clients, count.Lost))
	return nil
}

func mb(kb int64) float64 { return float64(kb) / 1000 }

// clients reports what went wrong with clients.
func (b *bench) clients(s *Swarm) { b.report.Errors = append(b.report.Errors, s.Errors()...) }

// watched is the profiles fanout and channels: changes by a schedule, and clients that watch all rows or their own.
func (b *bench) watched(ctx context.Context) error {
	o, r := &b.opt, b.report
	own := o.Profile == "channels"
	p := newPlan(o.Rows, o.changing(), o.Conns, o.Batch, o.RowBytes)
	base, err := b.fill(ctx, &p)
	if err != nil {
		return err
	}
	var s Schedule
	if !o.Saturate {
		if s, err = b.schedule(o.Length); err != nil {
			return err
		}
	}
	b.describe(&p, own)
	d, delays := b.drive(&p, s), NewDelays()
	j := newJudge(&p, d, base, o.Clients, min(16, o.Clients), own)
	j.every = o.Every
	warm := func() time.Duration { return time.Duration(d.lead.Load()) + o.Warm }
	sampled := o.Clients
	if o.Saturate {
		sampled = min(10, o.Clients) // the others count only: their delays would be most of the work
	}
	j.delaysOf = func(id int, due time.Duration) *Delays {
		if id < sampled && due >= warm() {
			return delays
		}
		return nil
	}
	swarm, err := NewSwarm(ctx, o.Clients, SwarmOptions{URL: o.URL, Token: o.Token, TLS: o.TLS, Hello: b.hello(own), Path: b.path(own), Frame: j.frame, Clock: o.Clock,
		Start: b.start, Loops: o.Loops, Window: o.Window})
	if err != nil {
		return err
	}
	defer swarm.Close()
	if err := b.open(ctx, swarm, o.Clients); err != nil {
		return err
	}
	m := &meter{b: b, sent: d.accepted.Load, delivered: j.delivered.Load, delays: delays, live: swarm.live.Load, whole: o.Length}
	rest, err := b.still(ctx, m)
	if err != nil {
		return err
	}
	from, to, err := b.load(ctx, d, m)
	if err != nil {
		return err
	}
	taken, delivered := to.sent-from.sent, to.delivered-from.delivered
	if b.proc.Known() {
		cpu := float64((to.cpu - from.cpu).Nanoseconds()) / 1000
		b.perUnit(own, cpu, taken, delivered)
		if o.Changing > 0 {
			r.figure("server time per change beyond rest", (cpu-rest*1e6*(to.at-from.at).Seconds())/float64(max(taken, 1)), "µs", 0,
				fmt.Sprintf("without the %.2f %% of a core that it took before the load", 100*rest))
		}
	}
	b.rest(ctx, d, j, swarm)
	b.delay(own, delays, d)
	b.report.figure("changes written", per(taken, to.at-from.at), "/s", 0, fmt.Sprintf("%d in requests of %d on %d connections", taken, o.Batch, p.conns))
	if d.schedule != nil {
		b.report.figure("requests that left late", 100*float64(d.late.Load())/float64(max(d.begun.Load(), 1)), "%", 0,
			"more than 1 ms after they were due: their delays say so")
	}
	b.report.figure("changes delivered", per(delivered, to.at-from.at), "/s", 0, fmt.Sprintf("%d; %d passed over for newer ones of the same row",
		delivered, j.skipped.Load()))
	b.report.figure("frames delivered", float64(swarm.frames.Load()), "", 0, fmt.Sprintf("%.1f MB, joining included", float64(swarm.bytes.Load())/1e6))
	if b.proc.Known() {
		b.report.figure("server", 100*(to.cpu-from.cpu).Seconds()/(to.at-from.at).Seconds(), "% of a core", 0, fmt.Sprintf("%.1f MB resident", mb(to.kb)))
	}
	b.others(from, to)
	b.clients(swarm)
	r.Errors = append(r.Errors, d.errors()...)
	return nil
}

// still waits where it is said how many rows change, as long as the load is counted, and returns what their heartbeats take of a core. Else it does nothing.
func (b *bench) still(ctx context.Context, m *meter) (cores float64, err error) {
	length := b.opt.Length - b.opt.Warm
	if b.opt.Changing == 0 || !b.proc.Known() {
		return 0, nil
	}
	b.say("at rest")
	from := m.sample()
	if !until(ctx, b.opt.Clock, b.opt.Clock.Now().Add(length)) {
		return 0, ctx.Err()
	}
	to := m.sample()
	return (to.cpu - from.cpu).Seconds() / (to.at - from.at).Seconds(), nil
}

// perUnit reports the processor time of the server per unit of work.
func (b *bench) perUnit(own bool, cpu float64, taken, delivered int64) {
	switch {
	case own:
		target := 20.0
		if b.opt.Changing > 0 || b.opt.Rate < 20_000 { // of the profile as it is
			target = 0
		}
		b.report.figure("server time per change", cpu/float64(max(taken, 1)), "µs", target, "from POST to frame, everything included")
	case b.opt.Saturate:
		b.report.figure("server time per delivered change", cpu/float64(max(delivered, 1)), "µs", 0.5, "log, engine and writing included")
	default:
		b.report.figure("server time per delivery", cpu/float64(max(delivered, 1)), "µs", 8, "log, engine and writing included")
	}
}

// delay reports how long changes took.
func (b *bench) delay(own bool, delays *Delays, d *drive) {
	target := 25.0
	if own {
		target = 15
	}
	if b.opt.Saturate {
		target = 0
	}
	frames, answers := delays.Curve("due → frame read"), d.delays.Curve("due → answered")
	b.report.Delays = append(b.report.Delays, frames, answers)
	b.report.figure("delay p50", frames.P50, "ms", 0, "from when the change was due until its frame was read")
	b.report.figure("delay p99", frames.P99, "ms", target, "")
	b.report.figure("delay p99.9", frames.P999, "ms", 0, fmt.Sprintf("longest %.1f ms; %d delays", frames.Max, frames.Count))
}

func (b *bench) describe(p *plan, own bool) {
	o, r := &b.opt, b.report
	what := "all rows"
	if own {
		what = "its own row"
	}
	how := fmt.Sprintf("%.0f changes/s", o.Rate)
	switch {
	case o.Saturate:
		how = fmt.Sprintf("changes as fast as %d connections get answers", p.conns)
	case len(o.Trace) > 0:
		how = fmt.Sprintf("the %d arrivals of a trace", len(o.Trace))
	case o.Burst.Times > 0:
		how += fmt.Sprintf(", %g times as many for %s of each %s", o.Burst.Times, o.Burst.On, o.Burst.Every)
	case o.To > 0:
		how += fmt.Sprintf(" rising to %.0f", o.To)
	}
	if o.Every {
		how += ", each delivered"
	}
	if o.Changing > 0 {
		how += fmt.Sprintf(" in %d", o.Changing)
	}
	r.Summary = fmt.Sprintf("%s of a view of %d rows, %d clients that watch %s each", how, o.Rows, o.Clients, what)
	for _, s := range []Setting{{"clients", itoa(o.Clients)}, {"rows", itoa(o.Rows)}, {"row", itoa(len(p.row(nil, 100, 10000))) + " bytes of JSON"},
		{"changes a request", itoa(p.batch)},
		{"connections that write", itoa(p.conns) + " over " + o.Over}, {"time", o.Length.String()}, {"not counted at the beginning",
			o.Warm.String()}, {"clients follow over", o.Watch}, {"every change", strconv.FormatBool(o.Every)}} {
		r.set(s.Name, s.Value)
	}
}

// load runs a drive under the meter and returns what was counted when the warm-up was over and at the end.
func (b *bench) load(ctx context.Context, d *drive, m *meter) (from, to sample, err error) {
	b.say("load")
	b.begin(d)
	from = m.sample()
	m.start(ctx)
	g := run.New(ctx)
	ended := make(chan struct{})
	g.Go("load drive", func(ctx context.Context) error {
		defer close(ended)
		return d.run(ctx)
	})
	warm, cancel := context.WithCancel(ctx)
	g.Go("load warm-up", func(context.Context) error {
		if until(warm, b.opt.Clock, b.start.Add(time.Duration(d.lead.Load())+b.opt.Warm)) {
			from = m.sample()
			return b.opt.Counting(warm, b.opt.Length-b.opt.Warm)
		}
		return nil
	})
	select {
	case <-ended:
	case <-ctx.Done():
	}
	to = m.sample()
	cancel()
	err = g.Wait()
	m.stop()
	return from, to, err
}

// patienceAtRest is how long clients may take to have everything after the last answer.
const patienceAtRest = 20 * time.Second

// rest waits until clients have the final rows, and judges.
func (b *bench) rest(ctx context.Context, d *drive, js *judge, s *Swarm) {
	b.say("waiting for the last frames")
	final, taken := js.final()
	behind, first := -1, ""
	if !d.interrupted() {
		limit := b.now() + patienceAtRest
		for behind != 0 && b.now() < limit {
			if behind >= 0 && !until(ctx, b.opt.Clock, b.opt.Clock.Now().Add(50*time.Millisecond)) {
				break
			}
			s.Still(func() { behind, first = js.behind(final, 0, len(js.clients)) })
		}
	}
	if behind > 0 && ctx.Err() != nil { // the last frames may be on their way: nobody has waited for them
		behind = -1
	}
	b.judge(s, js, taken, behind, first, ctx.Err() != nil)
}

// judge adds the checks of what clients saw. behind is how many do not have the final rows; negative: that is not known. ended says
// that the run was interrupted: then not to have seen something is no fault.
func (b *bench) judge(s *Swarm, j *judge, taken int64, behind int, first string, ended bool) {
	var v verdict
	s.Still(func() { v = j.witnesses() })
	r := b.report
	n := len(j.clients)
	if behind >= 0 {
		r.check("everybody has the final rows", behind == 0, joined(fmt.Sprintf("%d of %d clients, %d changes", n-behind, n, taken), first))
	} else {
		r.Notes = append(r.Notes, "The run or a request was cut off: whether everybody has the last rows is not known.")
	}
	who := "all clients"
	if j.own {
		who = fmt.Sprintf("%d clients", min(16, n))
	}
	r.check("rows right at every position told", v.wrong == 0 && (v.positions > 0 || ended),
		joined(fmt.Sprintf("%d times %s were told one of %d positions; compared with what the answers to the writes say, %d wrong",
			j.compared.Load(), who, v.positions, v.wrong), v.first))
	fell, repeated, skipped := j.fell.Load(), j.repeated.Load(), j.skipped.Load()
	r.check("nothing goes back, nothing twice", fell+repeated == 0, fmt.Sprintf("%d older and %d equal rows came", fell, repeated))
	if j.every {
		want := int64(0) // refused ones were never changes
		if d := j.drive; d.refusals.Load() > 0 {
			want = skipped
		}
		r.check("every change came on its own", skipped == want, fmt.Sprintf("%d changes delivered, %d passed over", j.delivered.Load(), skipped))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	r.check("every row is as it was written", j.mu.bad == 0, fmt.Sprintf("%d frames with something else", j.mu.bad))
	r.Errors = append(r.Errors, j.mu.errs...)
	c := s.Count()
	r.check("no connection was lost", c.Lost == 0 && c.Problems == 0, fmt.Sprintf("%d lost, %d refused for a moment, %d error frames, %d gaps",
		c.Lost, c.Refused, c.Problems, c.Gaps))
}

func joined(a, b string) string {
	if b == "" {
		return a
	}
	return a + ": " + b
}

// median returns the middle of values, 0 of none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
