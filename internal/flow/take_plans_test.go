package flow_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/kit/testkit"
)

// planApp has two tables, one of which has event times, and the views of these indexes among all kinds of plans; earlier ones are read by
// later ones of the same app.
func planApp(t *testing.T, first int, views []int) *flow.Program {
	p := newProgram()
	for range first { // so that relations of two programs have different indexes
		p.table(fmt.Sprintf("unused%d", len(p.p.Relations)), nil, true, false, "v bigint")
	}
	k := p.table("k", []int{0}, false, true, "id bigint not null", "g bigint", "v bigint")
	f := p.table("f", nil, true, false, "at timestamptz not null", "g bigint", "v bigint")
	for i, s := range []*flow.Scan{k, f} {
		r := p.p.Relations[s.Relation].Table
		r.Catalog = uint32(1000 + i)
	}
	r := p.p.Relations[f.Relation].Table
	r.EventTime, r.Lateness = 0, 5
	for _, v := range views {
		plan, key := planOf(t, v, k, f)
		p.view(fmt.Sprintf("v%d", v), key, plan)
	}
	return system(&p.p)
}

const planKinds = 18

func planOf(t *testing.T, i int, k, f *flow.Scan) (plan flow.Plan, key []int) {
	at := expr.Column(0, app.Timestamptz, -1)
	onTime := &flow.Scan{Relation: f.Relation, Types: f.Types, OnTime: true}
	window := &flow.Window{In: onTime, Keep: []int{1, 2}, Time: 0, Width: 10, Slide: 5}
	keys := []*expr.Node{col(1)}
	project := func(in flow.Plan) flow.Plan { return &flow.Project{In: in, Exprs: []*expr.Node{col(1), col(2)}} }
	switch i {
	case 0, 1, 2, 3, 4, 5:
		return &flow.Join{Kind: flow.JoinKind(i), L: k, R: f, LKeys: keys, RKeys: keys}, nil
	case 6:
		return &flow.SetOp{Op: flow.Except, L: project(k), R: project(f)}, nil
	case 7:
		return &flow.SetOp{Op: flow.Intersect, All: true, L: project(k), R: project(f)}, nil
	case 8:
		return &flow.TopN{In: k, Partition: []int{1}, Sort: []app.OrderBy{{Column: 2, Desc: true}}, Limit: 2}, []int{0}
	case 9:
		return &flow.Over{In: k, Partition: []int{1}, Sort: []app.OrderBy{{Column: 0}}, Calls: []flow.OverCall{{Func: flow.OverRowNumber, Type: app.Int8}}}, []int{0}
	case 10:
		return &flow.Aggregate{In: window, Keys: []*expr.Node{expr.Column(2, app.Timestamptz, -1), expr.Column(3, app.Timestamptz, -1), col(0)},
			Aggs: []flow.Agg{{Func: flow.Max, Arg: col(1), Type: app.Int8}}, Closes: &flow.Bound{Col: 1, Tables: []int{f.Relation}, Ends: true}}, []int{0, 2}
	case 11:
		return &flow.Gate{In: f, Until: call(t, "+", at, expr.Const(app.Interval, change.Bytes(micro(20)), -1))}, nil
	case 12:
		return &flow.Session{In: f, Keep: []int{1, 2}, Time: 0, Gap: 4, Partition: []int{1}}, nil
	case 13:
		return &flow.Union{Ins: []flow.Plan{&flow.Values{Rows: [][]*expr.Node{{num(1), num(2)}, {num(3), call(t, "/", num(4), num(0))}}, Types: int8s(2)}, project(k)}}, nil
	case 14:
		return &flow.Aggregate{In: k, Aggs: []flow.Agg{{Func: flow.Sum, Arg: call(t, "/", num(100), col(2)), Type: app.Numeric}, {Func: flow.Count, Arg: col(1), Distinct: true, Type: app.Int8}}}, []int{}
	case 15:
		return countBy(&flow.Session{In: f, Keep: []int{1, 2}, Time: 0, Gap: 4, Partition: []int{1}}, 3), []int{0}
	case 16:
		until := call(t, "+", at, expr.Const(app.Interval, change.Bytes(micro(5)), -1))
		free := &flow.Free{Until: until, Tables: []int{f.Relation}}
		return &flow.Join{Kind: flow.InnerJoin, L: onTime, R: onTime, LKeys: keys, RKeys: keys, FreeL: free, FreeR: free}, nil
	}
	return &flow.Gate{In: f, From: call(t, "+", at, expr.Const(app.Interval, change.Bytes(micro(3)), -1)), Tables: []int{f.Relation}}, nil
}

// micro is an interval of n microseconds.
func micro(n byte) []byte { return append(make([]byte, 8), n, 0, 0, 0, 0, 0, 0, 0) }

func someViews(rnd *rand.Rand) (views []int) {
	for i := range planKinds {
		if rnd.IntN(3) == 0 {
			views = append(views, i)
		}
	}
	return views
}

func planEntry(rnd *rand.Rand, stamp int64) change.Entry {
	kl, fl := change.NewLayout(int8s(3)), change.NewLayout([]app.Type{app.Timestamptz, app.Int8, app.Int8})
	small := func() change.Value {
		if rnd.IntN(6) == 0 {
			return change.Null()
		}
		return change.Int(rnd.Int64N(3))
	}
	switch rnd.IntN(4) {
	case 0:
		return records(1000, change.OpDelete, change.Record{Filter: fmt.Appendf(nil, "id=eq.%d", rnd.IntN(6))})
	case 1:
		row := kl.Append(nil, []change.Value{change.Int(rnd.Int64N(6)), small(), small()})
		return records(1000, change.OpMerge, change.Record{Row: row, Given: []byte{7}})
	}
	at := stamp - rnd.Int64N(12) + rnd.Int64N(3)
	return records(1001, change.OpInsert, change.Record{Row: fl.Append(nil, []change.Value{change.Int(at), small(), small()})})
}

// Every operator's state moves to another program.
func TestTakePlans(t *testing.T) {
	seeds := uint64(150)
	if testing.Short() || testkit.Race() {
		seeds = 60
	}
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(seed, 9))
		old, next := planApp(t, 0, someViews(rnd)), planApp(t, 1, someViews(rnd))
		d := &deploy{t: t, stamp: 2000}
		running := newDriver(t, old, flow.Options{})
		for range 25 {
			d.stamp += rnd.Int64N(4)
			d.feed(planEntry(rnd, d.stamp), running)
		}
		e, _ := d.take(next, running)
		fresh := d.replay(next)
		d.compare(e, fresh)
		after := &driver{t: t, p: next, e: e, stamp: d.stamp, seq: running.seq}
		for _, rows := range fresh.rows {
			after.rows = append(after.rows, maps.Clone(rows))
		}
		after.rows[next.Late], after.rows[next.Errors] = running.rows[old.Late], running.rows[old.Errors]
		for range 25 {
			d.stamp += rnd.Int64N(4)
			d.feed(planEntry(rnd, d.stamp), after, fresh)
			d.compare(e, fresh)
			if a, b := e.NextDue(), fresh.e.NextDue(); a != b {
				t.Fatalf("seed %d: next due at %d, want %d", seed, a, b)
			}
		}
		for i, rel := range next.Relations {
			if a, b := after.table(i), fresh.table(i); a != b {
				t.Fatalf("seed %d: %s\ngot\n%s\nwant\n%s", seed, rel.Name, a, b)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
