package flow_test

import (
	"math/rand/v2"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/flow"
)

// windowRanks is rankings in windows of an append-only table's event time. With closes their partitions are freed.
func windowRanks(closes bool) *flow.Program {
	const unit = 1000
	p := newProgram()
	s := p.table("u", nil, true, false, "g integer not null", "v integer not null", "at timestamptz not null")
	rules := p.p.Relations[s.Relation].Table
	rules.EventTime, rules.Lateness = 2, 5*unit
	w := &flow.Window{In: s, Keep: []int{0, 1, 2}, Time: 2, Width: 12 * unit, Slide: 4 * unit, Closes: true}
	var bound *flow.Bound
	if closes {
		bound = &flow.Bound{Col: 4, Tables: []int{s.Relation}, Ends: true}
	}
	part, sort := []int{0, 4}, []app.OrderBy{{Column: 1, Desc: true}}
	p.view("few", nil, &flow.TopN{In: w, Partition: part, Sort: sort, Limit: 2, Number: true, Closes: bound})
	p.view("ties", nil, &flow.TopN{In: w, Partition: part, Sort: sort, Limit: 2, Rank: flow.Rank, Closes: bound})
	p.view("dense", nil, &flow.TopN{In: w, Partition: part, Sort: sort, Limit: 2, Rank: flow.DenseRank, Number: true, Closes: bound})
	top := &flow.TopN{In: w, Partition: part, Sort: sort, Limit: 3, Closes: bound}
	p.view("over", nil, &flow.Over{In: w, Partition: part, Sort: sort, Calls: []flow.OverCall{lagOfInteger(1), {Func: flow.OverCumeDist, Type: app.Float8}},
		Closes: bound})
	p.view("of_top", nil, &flow.Over{In: top, Partition: part, Sort: sort, Calls: []flow.OverCall{{Func: flow.OverRowNumber, Type: app.Int8}},
		Closes: bound})
	return &p.p
}

func lagOfInteger(col int) flow.OverCall {
	c := lagOf(col)
	c.Type, c.Args[0].Type = app.Int4, app.Int4
	return c
}

// TestRankingCloses: freed partitions keep their rows, later rows do not find them, and the state stays small.
func TestRankingCloses(t *testing.T) {
	rnd := rand.New(rand.NewPCG(8, 8))
	open, freed := windowRanks(false), windowRanks(true)
	a, b := newDriver(t, open, flow.Options{}), newDriver(t, freed, flow.Options{})
	c := newDriver(t, freed, flow.Options{}) // the same in other batches
	l := open.Relations[0].Table.Layout
	var pending []change.Entry
	for i := range 600 {
		stamp := int64(2_000_000 + i/4*1000)
		var recs []change.Record
		for range 1 + rnd.IntN(4) {
			recs = append(recs, change.Record{Row: l.Append(nil, []change.Value{change.Int(rnd.Int64N(3)), change.Int(rnd.Int64N(5)),
				change.Int(stamp - rnd.Int64N(9000))})})
		}
		en := records(1, change.OpInsert, recs...)
		a.applyAt(stamp, en)
		b.applyAt(stamp, en)
		if pending = append(pending, en); i%4 == 3 {
			c.applyAt(stamp, pending...)
			pending = nil
		}
		if i%4 == 3 && b.e.Fingerprint() != c.e.Fingerprint() {
			t.Fatalf("row %d: other batches end in another state", i)
		}
		for r := 1; r < len(open.Relations); r++ {
			if i%100 == 99 && a.table(r) != b.table(r) {
				t.Fatalf("row %d: %s is\n%swhere it was, nothing freed,\n%s", i, open.Relations[r].Name, b.table(r), a.table(r))
			}
		}
	}
	for i, v := range a.e.Stats().Views {
		free := b.e.Stats().Views[i]
		if free.Rows != v.Rows || v.Rows < 100 {
			t.Errorf("%s has %d rows, want %d", v.Name, free.Rows, v.Rows)
		}
		last := len(v.Operators) - 1
		if got, all := free.Operators[last].Bytes, v.Operators[last].Bytes; got*5 > all {
			t.Errorf("%s holds %d bytes, %d when nothing is freed", v.Name, got, all)
		}
	}
}
