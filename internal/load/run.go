package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
)

// Loopback says whether every address of a URL's host is this machine's own.
func Loopback(ctx context.Context, to string) (bool, error) {
	u, err := url.Parse(to)
	if err != nil {
		return false, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return false, fmt.Errorf("%q is no address of a server: http://host:port is one", to)
	}
	addrs, err := net.DefaultResolver.LookupIPAddr(ctx, u.Hostname())
	if err != nil {
		return false, err
	}
	for _, a := range addrs {
		if !a.IP.IsLoopback() {
			return false, nil
		}
	}
	return len(addrs) > 0, nil
}

// bench is one run under way.
type bench struct {
	opt    Options
	report *Report
	proc   Process
	start  time.Time // what all times are counted from
	phase  atomic.Pointer[string]
}

// Run does what opt says and returns what it has shown. When the context ends early it reports what there is. An error means that
// nothing could be measured.
func Run(ctx context.Context, opt Options) (*Report, error) {
	if err := Defaults(&opt); err != nil {
		return nil, err
	}
	b := &bench{opt: opt, proc: Process{opt.PID}, start: opt.Clock.Now()}
	b.say("starting")
	b.report = &Report{Profile: opt.Profile, Version: opt.Version, Started: b.start,
		Machine: Machine{Cores: runtime.NumCPU(), CPU: model(), OS: runtime.GOOS + "/" + runtime.GOARCH, Kernel: kernel(), Go: runtime.Version()}}
	run := map[string]func(context.Context) error{"idle": b.idle, "fanout": b.watched, "channels": b.watched, "storm": b.storm, "slow": b.slow,
		"ingest": b.ingest}[opt.Profile]
	err := run(ctx)
	r := b.report
	r.Seconds = b.now().Seconds()
	if ctx.Err() != nil {
		r.Interrupted = true
		if len(r.Figures) > 0 {
			err = nil // what there is
		} else {
			err = errors.Join(err, ctx.Err())
		}
	}
	if err != nil {
		return nil, err
	}
	if !b.proc.Known() {
		r.Notes = append(r.Notes, "The server's process is not known: nothing is said of its processor time and memory.")
	}
	return r, nil
}

func (b *bench) now() time.Duration { return b.opt.Clock.Now().Sub(b.start) }

func (b *bench) say(phase string) { b.phase.Store(&phase) }

// server returns where rows are written.
func (b *bench) server() server {
	to := server{url: b.opt.URL, tls: b.opt.TLS}
	if b.opt.Token != nil {
		to.token = b.opt.Token(-1)
	}
	return to
}

// own returns the condition by which a client asks for its own row; with tokens it asks for all and the rules leave it that one.
func (b *bench) own(own bool, id int) string {
	if !own || b.opt.Token != nil {
		return ""
	}
	return "id=eq." + strconv.Itoa(id%b.opt.Rows)
}

// hello returns what clients say: a subscription of the view of rows, of all or of the own one.
func (b *bench) hello(own bool) func(id int, resume string) string {
	return func(id int, resume string) string {
		s := `"subscribe":[{"id":"1","view":"bench_feed"`
		if f := b.own(own, id); f != "" {
			s += `,"filter":"` + f + `"`
		}
		s += `}]`
		if resume != "" {
			s += `,"resume":"` + resume + `"`
		}
		if b.opt.Every {
			s += `,"every":true`
		}
		return s
	}
}

// path returns what clients read as event streams, nil when they are WebSockets.
func (b *bench) path(own bool) func(id int) string {
	if b.opt.Watch != OverEvents {
		return nil
	}
	return func(id int) string {
		s, sep := "/v1/views/bench_feed", "?"
		if f := b.own(own, id); f != "" {
			s, sep = s+"?"+f, "&"
		}
		if b.opt.Every {
			s += sep + "_every=true"
		}
		return s
	}
}

// schedule returns when requests are due, and tells who wants to know.
func (b *bench) schedule(length time.Duration) (Schedule, error) {
	s, err := b.arrivals(length)
	if err == nil && b.opt.Schedule != nil {
		err = b.opt.Schedule(s, b.opt.Batch)
	}
	return s, err
}

func (b *bench) arrivals(length time.Duration) (Schedule, error) {
	o, batch := &b.opt, float64(b.opt.Batch)
	switch {
	case len(o.Trace) > 0:
		return Replay(o.Trace, o.Batch, length)
	case o.Burst.Times > 0:
		return Burst(o.Rate/batch, o.Burst.Times, o.Burst.On, o.Burst.Every, length)
	case o.To > 0:
		return Ramp(o.Rate/batch, o.To/batch, length)
	}
	return Constant(o.Rate/batch, length)
}

// fill writes the rows at number 0 and returns the sequence at which they are in.
func (b *bench) fill(ctx context.Context, p *plan) (uint64, error) {
	var bodies [][]byte
	for from := 0; from < p.rows; from += 500 {
		bodies = append(bodies, p.first(from, min(p.rows, from+500)))
	}
	return settle(ctx, b.server(), "bench_rows", merging, bodies...)
}

// drive returns what writes the changes of a plan. Before it runs, its lead must be set.
func (b *bench) drive(p *plan, s Schedule) *drive {
	d := &drive{server: b.server(), way: b.opt.Over, table: "bench_rows", parameters: merging, conns: p.conns, clock: b.opt.Clock, start: b.start,
		schedule: s, length: b.opt.Length,
		warm: b.opt.Warm, body: p.body, delays: NewDelays()}
	n := len(s)
	if s == nil {
		n = int(min(float64(maxRequests), b.opt.Length.Seconds()*200_000))
		d.dues = make([]atomic.Int64, 1<<20)
	}
	d.answers = make([]atomic.Uint64, n)
	return d
}

// begin sets when the load begins: a moment from now, so that all senders are ready.
func (b *bench) begin(d *drive) { d.lead.Store(int64(b.now() + 20*time.Millisecond)) }

// open connects all clients of a swarm.
func (b *bench) open(ctx context.Context, s *Swarm, n int) error {
	b.say(fmt.Sprintf("connecting %d clients", n))
	limit, cancel := context.WithTimeout(ctx, 30*time.Second+time.Duration(n)*5*time.Millisecond)
	defer cancel()
	return s.Open(limit, 0, n)
}
