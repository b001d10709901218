package flow_test

import (
	"math/rand/v2"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

var rankedTypes = []app.Type{app.Int8, app.Int8, app.Int8, app.Text, app.Text, app.Timestamptz, app.Text}

// rankedBids is an append-only table of bids as Nexmark has them, and one view over it.
func rankedBids(key []int, plan func(in flow.Plan) flow.Plan) *flow.Program {
	p := newProgram()
	t := p.table("bid", nil, true, false, "auction bigint not null", "bidder bigint not null", "price bigint not null", "channel text not null",
		"url text not null", "at timestamptz not null", "extra text not null")
	p.view("v", key, plan(t))
	return &p.p
}

// rankedBatches seals n batches of size bids: half of them are for a few hot auctions, new auctions and bidders keep coming.
func rankedBatches(tb testing.TB, n, size int) []change.Batch {
	rnd := rand.New(rand.NewPCG(1, 2))
	d := &driver{t: tb, stamp: 1}
	l := change.NewLayout(rankedTypes)
	out := make([]change.Batch, n)
	for i := range out {
		recs := make([]change.Record, size)
		for j := range recs {
			event := (i*size + j)
			auction, bidder := 1000+event/15+rnd.IntN(100), 1000+event/45+rnd.IntN(1000)
			if rnd.IntN(2) == 0 {
				auction = 1000 + event/1500*100
			}
			if rnd.IntN(4) > 0 {
				bidder = 1000 + event/4500*100
			}
			recs[j] = change.Record{Row: l.Append(nil, []change.Value{change.Int(int64(auction)), change.Int(int64(bidder)),
				change.Int(100 + rnd.Int64N(1_000_000)), change.Bytes([]byte("channel-1234")),
				change.Bytes([]byte("https://www.nexmark.com/abo/xyz/item.htm?query=1")), change.Int(int64(event) * 100),
				change.Bytes([]byte("some more text that nobody reads but everybody carries"))})}
		}
		b := d.seal(d.stamp+1000, records(1, change.OpInsert, recs...))
		out[i] = b.Clone()
	}
	return out
}

func benchRanked(b *testing.B, key []int, plan func(in flow.Plan) flow.Plan) {
	e, err := flow.New(rankedBids(key, plan), flow.Options{})
	if err != nil {
		b.Fatal(err)
	}
	const size = 1000
	batches := rankedBatches(b, 400, size)
	b.ReportAllocs()
	b.ResetTimer()
	start := cpuTime()
	for i := range b.N {
		if i%len(batches) == 0 && i > 0 { // from the beginning: each bid is new
			b.StopTimer()
			if e, err = flow.New(rankedBids(key, plan), flow.Options{}); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		batch := &batches[i%len(batches)]
		reseal(batch, uint64(i+1))
		if _, err := e.Apply(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpuTime()-start).Nanoseconds())/float64(b.N*size), "cpu-ns/event")
}

// BenchmarkLastBids is the last bid of each bidder on each auction.
func BenchmarkLastBids(b *testing.B) {
	benchRanked(b, []int{0, 1}, func(in flow.Plan) flow.Plan {
		return &flow.TopN{In: in, Partition: []int{1, 0}, Sort: []app.OrderBy{{Column: 5, Desc: true}}, Limit: 1}
	})
}

// BenchmarkTopBids is the ten highest bids of each auction, numbered.
func BenchmarkTopBids(b *testing.B) {
	benchRanked(b, []int{0, 7}, func(in flow.Plan) flow.Plan {
		return &flow.TopN{In: in, Partition: []int{0}, Sort: []app.OrderBy{{Column: 2, Desc: true}}, Limit: 10, Number: true}
	})
}

func overBids(sort []app.OrderBy, calls ...flow.OverCall) func(in flow.Plan) flow.Plan {
	return func(in flow.Plan) flow.Plan { return &flow.Over{In: in, Partition: []int{0}, Sort: sort, Calls: calls} }
}

// BenchmarkRunningSum adds up each auction's bids as they come.
func BenchmarkRunningSum(b *testing.B) {
	benchRanked(b, nil, overBids([]app.OrderBy{{Column: 5}}, runningSum()))
}

func runningSum() flow.OverCall {
	return flow.OverCall{Func: flow.OverAggregate, Type: app.Numeric, Agg: flow.Agg{Func: flow.Sum, Arg: expr.Column(2, app.Int8, -1), Type: app.Numeric},
		Frame: flow.Frame{Lo: flow.FrameEnd{Unbounded: true, Preceding: true}}}
}

// BenchmarkMovingMax is the highest of an auction's last eleven bids.
func BenchmarkMovingMax(b *testing.B) {
	benchRanked(b, nil, overBids([]app.OrderBy{{Column: 5}}, flow.OverCall{Func: flow.OverAggregate, Type: app.Int8,
		Agg:   flow.Agg{Func: flow.Max, Arg: expr.Column(2, app.Int8, -1), Type: app.Int8},
		Frame: flow.Frame{Mode: flow.FrameRows, Lo: flow.FrameEnd{Offset: -10}}}))
}

// BenchmarkLag is the bid before each bid.
func BenchmarkLag(b *testing.B) {
	benchRanked(b, nil, overBids([]app.OrderBy{{Column: 5}}, lagOf(2)))
}

func lagOf(col int) flow.OverCall {
	return flow.OverCall{Func: flow.OverLag, Type: app.Int8, Args: []*expr.Node{expr.Column(col, app.Int8, -1)}}
}
