package flow_test

import (
	"fmt"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/kit/testkit"
)

// TestRankingManyRows drives random programs of window functions and top-Ns through thousands of changes in partitions of a thousand
// rows. A new engine that is given only what is left, in another order and in other batches, has the same rows and takes as many bytes.
func TestRankingManyRows(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() || testkit.Race() {
		seeds = 2
	}
	for seed := range seeds {
		r := newRanking(1000 + seed)
		d := newDriver(t, &r.p.p, flow.Options{})
		l := r.p.p.Relations[0].Layout
		var appended []change.Record
		for step := range 25 {
			var recs, more []change.Record
			for range 1 + r.g.rnd.IntN(200) {
				recs = append(recs, change.Record{Given: []byte{0xff, 0xff}, Row: row(t, l, strings.Join(r.cells(r.g.rnd.IntN(1500)), "|"))})
				more = append(more, change.Record{Row: row(t, l, strings.Join(r.cells(r.g.rnd.IntN(300)), "|"))})
			}
			d.apply(records(1, change.OpMerge, recs...))
			d.apply(records(2, change.OpInsert, more...))
			appended = append(appended, more...)
			if step%4 == 3 {
				d.apply(records(1, change.OpDelete, change.Record{Filter: fmt.Appendf(nil, "id=gt.%d&k=lt.3", r.g.rnd.IntN(1500))}))
			}
		}
		again := newDriver(t, &r.p.p, flow.Options{})
		var kept []change.Record
		for _, row := range d.rows[0] { // any order
			if kept = append(kept, change.Record{Row: row}); len(kept) == 60 {
				again.apply(records(1, change.OpInsert, kept...))
				kept = nil
			}
		}
		if len(kept) > 0 {
			again.apply(records(1, change.OpInsert, kept...))
		}
		r.g.rnd.Shuffle(len(appended), func(i, j int) { appended[i], appended[j] = appended[j], appended[i] })
		for len(appended) > 0 {
			n := min(len(appended), 1+r.g.rnd.IntN(300))
			again.apply(records(2, change.OpInsert, appended[:n]...))
			appended = appended[n:]
		}
		for i, q := range r.queries {
			if again.table(2+i) != d.table(2+i) {
				t.Fatalf("seed %d: built anew, the rows are others: %s", seed, q)
			}
		}
		a, b := again.e.Stats(), d.e.Stats()
		for i := range a.Views {
			if a.Views[i].Bytes != b.Views[i].Bytes {
				t.Errorf("seed %d: %d bytes, built anew %d: %s", seed, b.Views[i].Bytes, a.Views[i].Bytes, r.queries[i])
			}
		}
	}
}

// A row without a result is missing, counted, and comes back when it has one.
func TestOverErrors(t *testing.T) {
	p := newProgram()
	in := p.table("t", []int{0}, false, true, "id bigint not null", "n integer")
	arg := expr.Column(1, app.Int4, -1)
	id := expr.Column(0, app.Int8, -1)
	whole := flow.Frame{Lo: flow.FrameEnd{Unbounded: true, Preceding: true}, Hi: flow.FrameEnd{Unbounded: true}}
	p.view("nth", []int{0}, &flow.Over{In: in, Sort: []app.OrderBy{{Column: 0}}, Calls: []flow.OverCall{
		{Func: flow.OverNthValue, Args: []*expr.Node{id, arg}, Frame: whole, Type: app.Int8}}})
	p.view("ntile", []int{0}, &flow.Over{In: in, Sort: []app.OrderBy{{Column: 0}}, Calls: []flow.OverCall{
		{Func: flow.OverNtile, Args: []*expr.Node{arg}, Type: app.Int4}}})
	one := expr.Const(app.Int4, change.Int(1), -1)
	div, err := expr.Operator("/", []*expr.Node{one, arg}, -1)
	if err != nil {
		t.Fatal(err)
	}
	p.view("divided", []int{0}, &flow.Over{In: in, Sort: []app.OrderBy{{Column: 0}}, Calls: []flow.OverCall{
		{Func: flow.OverLag, Args: []*expr.Node{div}, Type: app.Int4}}})
	d := newDriver(t, &p.p, flow.Options{})
	l := p.p.Relations[0].Layout
	merge := func(cells ...string) {
		var recs []change.Record
		for _, c := range cells {
			recs = append(recs, change.Record{Given: []byte{0xff}, Row: row(t, l, c)})
		}
		d.apply(records(1, change.OpMerge, recs...))
	}
	check := func(nth, ntile, divided string, errors ...int64) {
		t.Helper()
		for i, want := range []string{nth, ntile, divided} {
			if got := strings.ReplaceAll(d.table(1+i), "\n", " "); got != want {
				t.Errorf("%s is %q, want %q", p.p.Relations[1+i].Name, got, want)
			}
			if got := int64(d.e.Stats().Views[i].Errors); got != errors[i] {
				t.Errorf("%s has %d errors, want %d", p.p.Relations[1+i].Name, got, errors[i])
			}
		}
	}
	merge("1|2", "2|0", "3|NULL")
	check("1|2|2 3|NULL|NULL ", "1|2|1 2|0|1 3|NULL|2 ", "1|2|NULL 3|NULL|0 ", 1, 0, 1)
	merge("1|-1")
	check("3|NULL|NULL ", "", "1|-1|NULL 3|NULL|-1 ", 2, 3, 1)
	merge("2|1", "1|1", "4|4")
	check("1|1|1 2|1|1 3|NULL|NULL 4|4|4 ", "1|1|1 2|1|1 3|NULL|1 4|4|1 ", "1|1|NULL 2|1|1 3|NULL|1 4|4|NULL ", 0, 0, 0)
	merge("1|0")
	d.apply(records(1, change.OpDelete, change.Record{Filter: []byte("id=gt.0")}))
	check("", "", "", 0, 0, 0)
}

// TestRankingAllocations holds the steady state to the few allocations that make the epoch: prices of a keyed table change, which moves
// rows in partitions that stay as large as they are.
func TestRankingAllocations(t *testing.T) {
	p := newProgram()
	in := p.table("t", []int{0}, false, true, "id bigint not null", "g integer not null", "price bigint not null")
	p.p.Definition.Grants = nil
	price := []app.OrderBy{{Column: 2, Desc: true}}
	p.view("top", []int{0}, &flow.TopN{In: in, Partition: []int{1}, Sort: price, Limit: 3, Number: true})
	p.view("ties", []int{0}, &flow.TopN{In: in, Partition: []int{1}, Sort: price, Limit: 3, Rank: flow.Rank})
	p.view("over", []int{0}, &flow.Over{In: in, Partition: []int{1}, Sort: price, Calls: []flow.OverCall{runningSum(), lagOf(2), {Func: flow.OverRank, Type: app.Int8}}})
	e, err := flow.New(&p.p, flow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := &driver{t: t, stamp: 1}
	l := p.p.Relations[0].Layout
	batches := make([]change.Batch, 20)
	for i := range batches {
		var recs []change.Record
		for j := range 200 {
			recs = append(recs, change.Record{Given: []byte{0xff}, Row: row(t, l, fmt.Sprintf("%d|%d|%d", j*5, j%20, (i*7919+j*104729)%10007))})
		}
		b := d.seal(d.stamp+1000, records(1, change.OpMerge, recs...))
		batches[i] = b.Clone()
	}
	seq := uint64(0)
	apply := func() {
		seq++
		batch := &batches[seq%20]
		reseal(batch, seq)
		if _, err := e.Apply(batch); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		apply()
	}
	if n := testing.AllocsPerRun(50, apply); n > 6 {
		t.Errorf("%v allocations per batch of 200 rows", n)
	}
}
