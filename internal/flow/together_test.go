package flow_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// modelTogether is the watermark of two tables together, written down as it is described.
type modelTogether struct {
	m     [2]modelMark
	quiet [2]bool
	mark  int64
}

func (g *modelTogether) pass(stamp int64) {
	for i := range g.m {
		if g.m[i].pass(stamp) {
			g.quiet[i] = stamp-g.m[i].last >= g.m[i].idle
		}
	}
	g.settle()
}

func (g *modelTogether) settle() {
	busy, moving, all := int64(math.MaxInt64), int64(math.MaxInt64), int64(math.MaxInt64)
	for i, m := range g.m {
		all = min(all, m.mark)
		switch {
		case !g.quiet[i]:
			busy = min(busy, m.mark)
		case m.any && m.max >= m.last-60_000_000:
			moving = min(moving, m.mark)
		}
	}
	if busy == math.MaxInt64 {
		busy = moving
	}
	if busy == math.MaxInt64 {
		busy = all
	}
	g.mark = max(g.mark, busy)
}

// What two tables let out together, and windows over both that are closed by both, whoever falls quiet and comes back.
func TestTogether(t *testing.T) {
	const unit = 500_000
	p := newProgram()
	var in [2]*flow.Scan
	var windows [2]flow.Plan
	for i, name := range []string{"a", "b"} {
		in[i] = p.table(name, nil, true, false, "id bigint not null", "g integer not null", "t timestamptz", "u timestamptz", "v bigint")
		rules := rulesOf(p, in[i])
		rules.EventTime, rules.Lateness = 2, 3*unit
		windows[i] = &flow.Window{In: in[i], Keep: []int{1}, Time: 2, Width: 10 * unit, Slide: 10 * unit, Closes: true}
	}
	tables := []int{in[0].Relation, in[1].Relation}
	both := &flow.Union{Ins: []flow.Plan{in[0], in[1]}}
	final := p.view("final", nil, &flow.Gate{In: both, From: expr.Column(2, app.Timestamptz, -1), Tables: tables})
	p.view("counts", []int{0, 1, 2}, &flow.Aggregate{In: &flow.Union{Ins: windows[:]}, Keys: []*expr.Node{expr.Column(0, app.Int4, -1),
		expr.Column(1, app.Timestamptz, -1), expr.Column(2, app.Timestamptz, -1)}, Aggs: []flow.Agg{{Func: flow.CountRows, Type: app.Int8}},
		Closes: &flow.Bound{Col: 2, Tables: tables, Ends: true}})
	for seed := range timeSeeds(t, 10) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		ticks, rows := eventTicks(rnd, in[0], rulesOf(p, in[0]).Layout, 150, unit)
		of := make([]int, len(ticks))
		for i, k := range ticks {
			if of[i] = rnd.IntN(4) / 3; k.entry != nil && i/40%2 == 0 && of[i] == 1 { // b is quiet at times
				k.entry.Table = uint32(in[1].Relation + 1)
			} else {
				of[i] = 0
			}
		}
		g := modelTogether{mark: math.MinInt64}
		for i := range g.m {
			g.m[i] = modelMark{lateness: 3 * unit, idle: 10_000_000, mark: math.MinInt64, max: math.MinInt64}
		}
		followTicks(t, &p.p, seed, ticks, func(d *driver, done []tick) {
			i := len(done) - 1
			g.pass(rows[i].stamp)
			if rows[i].id >= 0 {
				g.m[of[i]].arrive(rows[i])
				g.settle()
			}
			var want []string
			for _, r := range rows[:i+1] {
				if r.id >= 0 && r.t <= g.mark {
					want = append(want, line(in[0].Types, r.id, r.g, r.t, r.u, r.v))
				}
			}
			expect(t, d, final, want)
			if next := d.e.NextDue(); next != math.MaxInt64 { // a tick does what it is for
				later := g
				later.pass(next)
				before := g
				before.pass(next - 1)
				waits := func(mark int64) (n int) {
					for _, r := range rows[:i+1] {
						if r.id >= 0 && r.t > mark {
							n++
						}
					}
					return n
				}
				if waits(later.mark) >= waits(g.mark) || next-1 > rows[i].stamp && waits(before.mark) != waits(g.mark) {
					t.Errorf("due at %d: %d rows wait now, %d just before, %d then", next, waits(g.mark), waits(before.mark), waits(later.mark))
				}
			}
		})
	}
}

// An entry that is refused as a whole leaves the watermark where it was, and a row that takes the place of one of its rows is judged for
// itself.
func TestLateRollback(t *testing.T) {
	p := newProgram()
	s := timedTable(p, true, true)
	rules := rulesOf(p, s)
	rules.EventTime = 2
	view := p.view("ontime", nil, &flow.Scan{Relation: s.Relation, Types: s.Types, OnTime: true})
	d := newDriver(t, &p.p, flow.Options{})
	rec := func(id, at int64, given byte) change.Record {
		vals := []change.Value{change.Int(id), change.Int(0), change.Int(at), change.Null(), change.Null()}
		if given&2 == 0 {
			vals[1] = change.Null()
		}
		return change.Record{Row: rules.Layout.Append(nil, vals), Given: []byte{given}}
	}
	refused := records(1, change.OpMerge, rec(1, 1000, 31), rec(2, 5, 29))
	refused.Atomic = true
	d.apply(records(1, change.OpInsert, rec(9, 10, 0xff)), refused, records(1, change.OpInsert, rec(1, 100, 0xff), rec(3, 50, 0xff), rec(4, 120, 0xff)))
	expect(t, d, view, []string{line(s.Types, 9, 0, 10, nullTime, nullTime), line(s.Types, 1, 0, 100, nullTime, nullTime),
		line(s.Types, 4, 0, 120, nullTime, nullTime)})
	if late := d.e.Stats().Tables[0].Late; late != 1 {
		t.Errorf("%d late rows", late)
	}
}
