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

// bids is a program over Nexmark's bid table.
type bids struct {
	*programOf
	scan *flow.Scan
}

func newBids() *bids {
	p := newProgram()
	return &bids{p, p.table("bid", nil, true, false, "auction bigint", "bidder bigint", "price bigint", "channel text", "url text",
		"date_time timestamp", "extra text")}
}

func (b *bids) col(i int) *expr.Node { return expr.Column(i, b.scan.Types[i], -1) }

func mustNode(n *expr.Node, err error) *expr.Node {
	if err != nil {
		panic(err)
	}
	return n
}

func (b *bids) printed(format string) *expr.Node {
	return mustNode(expr.Call("to_char", []*expr.Node{b.col(5), expr.StringLit(format, -1)}, -1))
}

// ranks are the three filters of q15, q16 and q17; the first is none.
func (b *bids) ranks() []*expr.Node {
	compare := func(op, n string) *expr.Node {
		return mustNode(expr.Operator(op, []*expr.Node{b.col(2), mustNode(expr.NumLit(n, -1))}, -1))
	}
	return []*expr.Node{nil, compare("<", "10000"), mustNode(expr.And([]*expr.Node{compare(">=", "10000"), compare("<", "1000000")}, -1)),
		compare(">=", "1000000")}
}

// statistics are the aggregates that q15 and q16 have in common.
func (b *bids) statistics() (aggs []flow.Agg) {
	for _, f := range b.ranks() {
		aggs = append(aggs, flow.Agg{Func: flow.CountRows, Filter: f, Type: app.Int8})
	}
	for _, c := range []int{1, 0} {
		for _, f := range b.ranks() {
			aggs = append(aggs, flow.Agg{Func: flow.Count, Arg: b.col(c), Distinct: true, Filter: f, Type: app.Int8})
		}
	}
	return aggs
}

func (b *bids) q15() {
	b.view("q15", []int{0}, &flow.Aggregate{In: b.scan, Keys: []*expr.Node{b.printed("YYYY-MM-DD")}, Aggs: b.statistics()})
}

func (b *bids) q16() {
	aggs := append([]flow.Agg{{Func: flow.Max, Arg: b.printed("HH24:MI"), Type: app.Text}}, b.statistics()...)
	b.view("q16", []int{0, 1}, &flow.Aggregate{In: b.scan, Keys: []*expr.Node{b.col(3), b.printed("YYYY-MM-DD")}, Aggs: aggs})
}

func (b *bids) q17() {
	var aggs []flow.Agg
	for _, f := range b.ranks() {
		aggs = append(aggs, flow.Agg{Func: flow.CountRows, Filter: f, Type: app.Int8})
	}
	price := b.col(2)
	aggs = append(aggs, flow.Agg{Func: flow.Min, Arg: price, Type: app.Int8}, flow.Agg{Func: flow.Max, Arg: price, Type: app.Int8},
		flow.Agg{Func: flow.Avg, Arg: price, Type: app.Numeric}, flow.Agg{Func: flow.Sum, Arg: price, Type: app.Numeric})
	b.view("q17", []int{0, 1}, &flow.Aggregate{In: b.scan, Keys: []*expr.Node{b.col(0), b.printed("YYYY-MM-DD")}, Aggs: aggs})
}

// bidder makes bids as Nexmark's generator does: half for the newest hundredth auction and three quarters by the newest hundredth person,
// the others among those in flight; half on one of four channels, the others on one of ten thousand.
type bidder struct {
	rnd  *rand.Rand
	l    *change.Layout
	n    int
	buf  []byte
	recs []change.Record
}

func newBidder(types []app.Type) *bidder {
	return &bidder{rnd: rand.New(rand.NewPCG(1, 2)), l: change.NewLayout(types)}
}

func (g *bidder) batch(d *driver, size int) change.Batch {
	g.buf, g.recs = g.buf[:0], g.recs[:0]
	for range size {
		g.n++
		auctions, people := g.n*3/46+1, g.n/46+1
		auction, person := auctions/100*100, people/100*100+1
		if g.rnd.IntN(2) == 0 {
			auction = max(0, auctions-100) + g.rnd.IntN(110)
		}
		if g.rnd.IntN(4) == 0 {
			person = max(0, people-1000) + g.rnd.IntN(1010)
		}
		channel := [...]string{"Google", "Facebook", "Baidu", "Apple"}[g.rnd.IntN(4)]
		if g.rnd.IntN(2) == 0 {
			channel = fmt.Sprintf("channel-%d", g.rnd.IntN(10_000))
		}
		price := int64(100)
		for range g.rnd.IntN(7) {
			price *= 10
		}
		at := len(g.buf)
		g.buf = g.l.Append(g.buf, []change.Value{change.Int(int64(auction + 1000)), change.Int(int64(person + 1000)),
			change.Int(price + g.rnd.Int64N(price)), change.Bytes([]byte(channel)), change.Bytes([]byte("https://www.nexmark.com/item.htm")),
			change.Int(1_700_000_000_000_000 + int64(g.n)*100), change.Bytes([]byte("a little more to carry about"))})
		g.recs = append(g.recs, change.Record{Row: g.buf[at:len(g.buf):len(g.buf)]})
	}
	return d.seal(d.stamp+1000, records(1, change.OpInsert, g.recs...))
}

// benchStatistics gives b.N batches of 1,000 bids to an engine that saw half a million before.
func benchStatistics(b *testing.B, p *bids) {
	e, err := flow.New(&p.p, flow.Options{})
	if err != nil {
		b.Fatal(err)
	}
	const size = 1000
	d, g := &driver{t: b, stamp: 1}, newBidder(p.scan.Types)
	var used time.Duration
	for i := range 500 + b.N {
		batch := g.batch(d, size)
		start := cpuTime()
		if _, err := e.Apply(&batch); err != nil {
			b.Fatal(err)
		}
		if i >= 500 {
			used += cpuTime() - start
		}
	}
	st := e.Stats()
	b.ReportMetric(float64(used.Nanoseconds())/float64(b.N*size), "cpu-ns/event")
	b.ReportMetric(float64(b.N*size)/used.Seconds(), "events/s")
	b.ReportMetric(float64(st.Views[0].Bytes)/float64(st.Views[0].Rows), "bytes/group")
}

func BenchmarkQ15(b *testing.B) { p := newBids(); p.q15(); benchStatistics(b, p) }
func BenchmarkQ16(b *testing.B) { p := newBids(); p.q16(); benchStatistics(b, p) }
func BenchmarkQ17(b *testing.B) { p := newBids(); p.q17(); benchStatistics(b, p) }

// TestStatisticsAllocations holds q15, q16 and q17 to the few allocations that make an epoch, whatever the number of groups and values.
func TestStatisticsAllocations(t *testing.T) {
	for name, add := range map[string]func(*bids){"q15": (*bids).q15, "q16": (*bids).q16, "q17": (*bids).q17} {
		p := newBids()
		add(p)
		e, err := flow.New(&p.p, flow.Options{})
		if err != nil {
			t.Fatal(err)
		}
		d, g := &driver{t: t, stamp: 1}, newBidder(p.scan.Types)
		one := g.batch(d, 1000)
		batch := one.Clone()
		seq := uint64(0)
		apply := func() {
			seq++
			reseal(&batch, seq)
			if _, err := e.Apply(&batch); err != nil {
				t.Fatal(err)
			}
		}
		for range 20 {
			apply()
		}
		if n := testing.AllocsPerRun(20, apply); n > 6 {
			t.Errorf("%s: %v allocations per batch of 1,000 rows", name, n)
		}
	}
}
