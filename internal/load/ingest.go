package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// arrival says that a client had everything up to seq since at.
type arrival struct {
	seq uint64
	at  time.Duration
}

// intake is the profile ingest: rows at several rates, with a few clients that watch what is made of them.
type intake struct {
	*bench
	bodies   [][]byte
	arrivals [][]arrival // by client
	table    Table
	refusals int64
}

// maxArrivalsSeen bounds what is kept of one client and rate.
const maxArrivalsSeen = 1 << 20

func (b *bench) ingest(ctx context.Context) error {
	o, r := &b.opt, b.report
	rates := o.Rates
	if len(rates) == 0 {
		rates = []float64{o.Rate}
	}
	r.Summary = fmt.Sprintf("rows of an event table in requests of %d on %d connections over %s, %s for each rate; %d clients watch the counts",
		o.Batch, o.Conns, o.Over, o.Length, o.Clients)
	for _, s := range []Setting{{"rates", fmt.Sprint(rates)}, {"rows a request", itoa(o.Batch)}, {"connections that write",
		itoa(o.Conns) + " over " + o.Over}, {"clients", itoa(o.Clients)},
		{"time of each rate", o.Length.String()}} {
		r.set(s.Name, s.Value)
	}
	in := &intake{bench: b, bodies: events(o.Batch), arrivals: make([][]arrival, o.Clients)}
	in.table = Table{Name: "Rates", Columns: []string{"rows/s offered", "accepted/s", "answered p50, ms", "p99", "p99.9", "frame p50, ms", "p99",
		"server µs per row", "requests refused"}}
	if _, err := settle(ctx, b.server(), "bench_events", "", in.bodies[0]); err != nil {
		return err
	}
	swarm, err := NewSwarm(ctx, o.Clients, SwarmOptions{URL: o.URL, Token: o.Token, TLS: o.TLS, Clock: o.Clock, Start: b.start, Loops: o.Loops, Window: o.Window, Frame: in.frame,
		Hello: func(int, string) string {
			return `"subscribe":[{"id":"1","view":"bench_tally"},{"id":"2","view":"bench_leaders"}]`
		}})
	if err != nil {
		return err
	}
	defer swarm.Close()
	if err := b.open(ctx, swarm, o.Clients); err != nil {
		return err
	}
	for i, rate := range rates {
		b.say(fmt.Sprintf("%.0f rows/s", rate))
		o.Rate = rate
		if err := in.rate(ctx, swarm, i == len(rates)-1); err != nil {
			return err
		}
		if ctx.Err() != nil {
			break
		}
	}
	r.Tables = append(r.Tables, in.table)
	r.check("no request was refused", in.refusals == 0, fmt.Sprintf("%d refused", in.refusals))
	b.clients(swarm)
	return nil
}

// frame notes an arrival.
func (in *intake) frame(c *Client, kind Kind, _ []byte, at time.Duration) {
	if list := &in.arrivals[c.ID]; kind == "epoch" && len(*list) < maxArrivalsSeen {
		*list = append(*list, arrival{c.Sequence, at})
	}
}

// rate sends at one rate.
func (in *intake) rate(ctx context.Context, swarm *Swarm, last bool) error {
	o, r := &in.opt, in.report
	s, err := in.schedule(o.Length)
	if err != nil {
		return err
	}
	d := &drive{server: in.bench.server(), way: o.Over, table: "bench_events", conns: o.Conns, clock: o.Clock, start: in.start, schedule: s, length: o.Length,
		warm: o.Warm, delays: NewDelays(),
		body: func(b []byte, i int) []byte { return append(b, in.bodies[i%len(in.bodies)]...) }, answers: make([]atomic.Uint64, len(s))}
	swarm.Still(func() {
		for i := range in.arrivals {
			in.arrivals[i] = in.arrivals[i][:0]
		}
	})
	m := &meter{b: in.bench, sent: d.accepted.Load, delays: d.delays, live: swarm.live.Load, whole: o.Length}
	from, to, err := in.load(ctx, d, m)
	if err != nil {
		return err
	}
	shown := in.shown(ctx, d, swarm)
	accepted := to.sent - from.sent
	cpu := float64((to.cpu - from.cpu).Microseconds()) / float64(max(accepted, 1))
	a, f := d.delays.Curve(fmt.Sprintf("due → answered at %.0f rows/s", o.Rate)), shown.Curve(fmt.Sprintf("due → frame read at %.0f rows/s", o.Rate))
	r.Delays = append(r.Delays, a, f)
	in.table.Rows = append(in.table.Rows, []float64{o.Rate, per(accepted, to.at-from.at), a.P50, a.P99, a.P999, f.P50, f.P99, cpu,
		float64(d.refusals.Load())})
	in.refusals += d.refusals.Load()
	r.Errors = append(r.Errors, d.errors()...)
	if last || ctx.Err() != nil {
		r.figure("rows accepted", per(accepted, to.at-from.at), "/s", 0, fmt.Sprintf("at the last rate, %.0f/s", o.Rate))
		r.figure("answered p99", a.P99, "ms", 0, "durable, applied, in every view")
		r.figure("frame p99", f.P99, "ms", 0, "from when the request was due until the counts were on the clients")
		if in.proc.Known() {
			r.figure("server time per row", cpu, "µs", 0, fmt.Sprintf("%.1f MB resident", mb(to.kb)))
		}
		in.others(from, to)
	}
	return nil
}

// shown returns the delays from when each request was due until its rows were on each client.
func (in *intake) shown(ctx context.Context, d *drive, swarm *Swarm) *Delays {
	out, limit := NewDelays(), in.now()+patienceAtRest
	for {
		behind := 0
		swarm.Still(func() {
			for _, list := range in.arrivals {
				if len(list) == 0 || list[len(list)-1].seq < d.last.Load() {
					behind++
				}
			}
		})
		if behind == 0 || in.now() > limit || !until(ctx, in.opt.Clock, in.opt.Clock.Now().Add(20*time.Millisecond)) {
			break
		}
	}
	swarm.Still(func() {
		for _, list := range in.arrivals {
			for i := range d.answers {
				seq := d.answer(i)
				if seq == unanswered || seq == refused || d.schedule[i] < in.opt.Warm {
					continue
				}
				if k, _ := slices.BinarySearchFunc(list, seq, func(a arrival, seq uint64) int {
					if a.seq < seq {
						return -1
					}
					return 1
				}); k < len(list) {
					out.Add(list[k].at - d.due(i))
				}
			}
		}
	})
	return out
}

// events returns requests of so many rows, different enough that nothing can be learned by heart.
func events(rows int) [][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	out := make([][]byte, 16)
	for i := range out {
		b := []byte{'['}
		for r := range rows {
			if r > 0 {
				b = append(b, ',')
			}
			b = fmt.Appendf(b, `{"contestant":"C%02d","voter":"phone-%09d","points":%d,"note":"%016x%016x%016x%016x"}`,
				rng.IntN(26), rng.IntN(1e9), rng.IntN(12)+1, rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64())
		}
		out[i] = append(b, ']')
	}
	return out
}
