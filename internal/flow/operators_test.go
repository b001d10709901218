package flow_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// everything is a keyed table under every operator, with state large enough to split nodes and segments.
func everything() *flow.Program {
	p := newProgram()
	t := p.table("t", []int{0}, false, true, "id bigint not null", "g integer", "v bigint", "n numeric", "f double precision",
		"b boolean", "s text")
	types := []app.Type{app.Int8, app.Int4, app.Int8, app.Numeric, app.Float8, app.Bool, app.Text}
	col := func(i int) *expr.Node { return expr.Column(i, types[i], -1) }
	var aggs []flow.Agg
	for i, typ := range types {
		aggs = append(aggs, flow.Agg{Func: flow.Count, Arg: col(i), Type: app.Int8}, flow.Agg{Func: flow.Count, Arg: col(i), Distinct: true, Type: app.Int8})
		if typ != app.Bool {
			aggs = append(aggs, flow.Agg{Func: flow.Min, Arg: col(i), Type: typ}, flow.Agg{Func: flow.Max, Arg: col(i), Type: typ})
		}
		if result, ok := sumType("sum", typ); ok {
			aggs = append(aggs, flow.Agg{Func: flow.Sum, Arg: col(i), Type: result}, flow.Agg{Func: flow.Sum, Arg: col(i), Distinct: true, Type: result})
		}
		if result, ok := sumType("avg", typ); ok {
			aggs = append(aggs, flow.Agg{Func: flow.Avg, Arg: col(i), Type: result, Filter: col(5)})
		}
	}
	aggs = append(aggs, flow.Agg{Func: flow.BoolAnd, Arg: col(5), Type: app.Bool}, flow.Agg{Func: flow.BoolOr, Arg: col(5), Type: app.Bool})
	by := func(name string, keys ...int) *flow.Scan {
		a := &flow.Aggregate{In: t, Aggs: aggs}
		key := []int{}
		for i, k := range keys {
			a.Keys = append(a.Keys, col(k))
			key = append(key, i)
		}
		return p.view(name, key, a)
	}
	by("whole")
	byG := by("by_g", 1)
	by("by_n", 3)
	by("by_s_b", 6, 5)
	p.view("distinct_n", []int{0}, &flow.Aggregate{In: t, Keys: []*expr.Node{col(3)}})
	some := p.view("copies", nil, &flow.Project{In: t, Exprs: []*expr.Node{col(1), col(3)}})
	p.view("top_v", nil, &flow.TopN{In: some, Sort: []app.OrderBy{{Column: 1, Desc: true, NullsFirst: true}}, Limit: 40, Offset: 15})
	p.view("rest", nil, &flow.TopN{In: some, Sort: []app.OrderBy{{Column: 0}}, Limit: -1, Offset: 300})
	p.view("top_all", []int{0}, &flow.TopN{In: t, Sort: []app.OrderBy{{Column: 6}, {Column: 4, Desc: true}}, Limit: 25})
	p.view("top_groups", []int{0}, &flow.TopN{In: byG, Sort: []app.OrderBy{{Column: 1, Desc: true}}, Limit: 3, Offset: 1})
	return &p.p
}

// TestManyRows drives thousands of changes through every operator. The rows that the epochs describe, and those of a new
// engine that is given only what is left, in another order, are the same to the byte.
func TestManyRows(t *testing.T) {
	p := everything()
	g := &genApp{rnd: rand.New(rand.NewPCG(9, 9))}
	d := newDriver(t, p, flow.Options{})
	l := p.Relations[0].Layout
	row := func(id int64) change.Row {
		vals := make([]change.Value, l.Columns())
		vals[0] = change.Int(id)
		for i := 1; i < len(vals); i++ {
			if vals[i] = change.Null(); !g.chance(8) {
				text := g.value(l.Type(i))
				if l.Type(i) == app.Int8 && g.chance(2) {
					text = fmt.Sprint(g.rnd.IntN(3000))
				}
				v, _, err := expr.ParseText(l.Type(i), []byte(text), nil)
				if err != nil {
					t.Fatal(err)
				}
				vals[i] = v
			}
		}
		return l.Append(nil, vals)
	}
	rounds := 300
	if testing.Short() {
		rounds = 100
	}
	for i := range rounds {
		if i%150 == 149 {
			d.apply(records(1, change.OpDelete, change.Record{Filter: []byte("id=gt.200")}))
		}
		var recs []change.Record
		for range 1 + g.rnd.IntN(60) {
			recs = append(recs, change.Record{Row: row(int64(g.rnd.IntN(2000))), Given: []byte{0xff}})
		}
		d.apply(records(1, change.OpMerge, recs...))
		if i%5 == 0 {
			d.apply(records(1, change.OpDelete, change.Record{Filter: fmt.Appendf(nil, "g=eq.%d&id=lt.%d", g.rnd.IntN(9)-4, g.rnd.IntN(2000))}))
		}
		if i%100 == 99 || i == rounds-1 {
			again := newDriver(t, p, flow.Options{})
			for _, r := range d.rows[0] { // any order
				again.apply(records(1, change.OpInsert, change.Record{Row: r}))
			}
			for r := range p.Relations {
				if got, want := again.table(r), d.table(r); got != want {
					t.Fatalf("round %d: %s built anew is\n%swhere it was\n%s", i, p.Relations[r].Name, got, want)
				}
			}
		}
	}
	if st := d.e.Stats(); st.Tables[0].Rows != int64(len(d.rows[0])) || st.Bytes == 0 {
		t.Errorf("stats: %+v", st)
	}
}
