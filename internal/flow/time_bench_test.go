package flow_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// bidTable adds a table as Nexmark's: 10,000 bids in a second of event time.
func bidTable(p *programOf) *flow.Scan {
	s := p.table("bid", nil, true, false, "auction bigint", "bidder bigint", "price bigint", "channel text", "url text", "date_time timestamptz", "extra text")
	rules := rulesOf(p, s)
	rules.EventTime, rules.Lateness = 5, 4_000_000
	return s
}

// timedBids returns n batches of size bids each: half of the bids are for the newest hot auction, three quarters come from the newest hot
// bidder, as the generator of Nexmark has it.
func timedBids(l *change.Layout, n, size int) []change.Batch {
	rnd := rand.New(rand.NewPCG(1, 2))
	d := &driver{stamp: 1}
	out := make([]change.Batch, n)
	event := 0
	for i := range out {
		recs := make([]change.Record, size)
		for j := range recs {
			event++
			people, auctions := int64(event/46), int64(event*3/46)
			bidder, auction := people/100*100+1, auctions/100*100
			if rnd.IntN(4) == 0 {
				bidder = max(0, people-rnd.Int64N(1000))
			}
			if rnd.IntN(2) == 0 {
				auction = max(0, auctions-rnd.Int64N(100))
			}
			recs[j].Row = l.Append(nil, []change.Value{change.Int(1000 + auction), change.Int(1000 + bidder), change.Int(rnd.Int64N(10_000_000)),
				change.Bytes([]byte("Google")), change.Bytes([]byte("https://www.nexmark.com/abcd/item.htm?query=1")), change.Int(int64(event) * 100),
				change.Bytes([]byte("abcdefghijklmnopqrstuvwxyz"))})
		}
		d.b.Reset()
		en := records(1, change.OpInsert, recs...)
		if err := d.b.Add(&en); err != nil {
			panic(err)
		}
		d.seq++
		b := d.b.Seal(change.Header{Seq: d.seq, Stamp: int64(event) * 100})
		out[i] = b.Clone()
	}
	return out
}

// benchTimed runs bids through one view, each only once: state is as large as the run is long.
func benchTimed(b *testing.B, view func(p *programOf, s *flow.Scan)) {
	const batches, size = 1000, 500
	p := newProgram()
	s := bidTable(p)
	view(p, s)
	list := timedBids(rulesOf(p, s).Layout, batches, size)
	b.ResetTimer()
	var used time.Duration
	var e *flow.Engine
	changes := 0
	for i := range b.N {
		if i%batches == 0 {
			b.StopTimer()
		}
		start := cpuTime()
		if i%batches == 0 {
			var err error
			if e, err = flow.New(&p.p, flow.Options{}); err != nil {
				b.Fatal(err)
			}
			start = cpuTime()
			b.StartTimer()
		}
		epoch, err := e.Apply(&list[i%batches])
		if err != nil {
			b.Fatal(err)
		}
		for _, d := range epoch.Deltas {
			changes += len(d.Changes)
		}
		used += cpuTime() - start
	}
	b.ReportMetric(float64(used.Nanoseconds())/float64(b.N*size), "cpu-ns/event")
	b.ReportMetric(float64(changes)/float64(b.N*size), "changes/event")
}

// BenchmarkSessions counts bids by session of the bidder: Nexmark's q11.
func BenchmarkSessions(b *testing.B) {
	for _, closes := range []bool{false, true} {
		b.Run(fmt.Sprintf("closes=%v", closes), func(b *testing.B) {
			benchTimed(b, func(p *programOf, s *flow.Scan) {
				in := &flow.Session{In: s, Keep: []int{1}, Time: 5, Gap: 10_000_000, Partition: []int{1}, Closes: closes}
				a := &flow.Aggregate{In: in, Keys: []*expr.Node{expr.Column(0, app.Int8, -1), expr.Column(1, app.Timestamptz, -1), expr.Column(2, app.Timestamptz, -1)},
					Aggs: []flow.Agg{{Func: flow.CountRows, Type: app.Int8}}}
				if closes {
					a.Closes = &flow.Bound{Col: 2, Tables: []int{s.Relation}, Ends: true}
				}
				p.view("q11", []int{0, 1}, a)
			})
		})
	}
}

// BenchmarkGate has bids visible for two seconds.
func BenchmarkGate(b *testing.B) {
	benchTimed(b, func(p *programOf, s *flow.Scan) {
		two := expr.Const(app.Interval, change.Bytes(append(make([]byte, 8), 0x80, 0x84, 0x1e, 0, 0, 0, 0, 0)), -1)
		until, err := expr.Operator("+", []*expr.Node{expr.Column(5, app.Timestamptz, -1), two}, -1)
		if err != nil {
			b.Fatal(err)
		}
		in := &flow.Gate{In: s, Until: until}
		p.view("recent", []int{}, &flow.Aggregate{In: in, Aggs: []flow.Agg{{Func: flow.CountRows, Type: app.Int8}}})
	})
}

// BenchmarkHop puts bids into five windows each and counts the rows.
func BenchmarkHop(b *testing.B) {
	benchTimed(b, func(p *programOf, s *flow.Scan) {
		in := &flow.Window{In: s, Keep: []int{0}, Time: 5, Width: 10_000_000, Slide: 2_000_000, Closes: true}
		p.view("n", []int{}, &flow.Aggregate{In: in, Aggs: []flow.Agg{{Func: flow.CountRows, Type: app.Int8}}})
	})
}
