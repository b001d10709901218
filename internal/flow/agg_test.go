package flow

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// aggRig runs one aggregate over deltas that the test makes.
type aggRig struct {
	t      *testing.T
	a      *aggregate
	x      exec
	in     *change.Layout
	out    *change.Layout
	errors errorLog
	shown  map[string]int64 // output rows
}

func newAggRig(t *testing.T, p *Aggregate, appends bool) *aggRig {
	t.Helper()
	r := &aggRig{t: t, in: change.NewLayout(p.In.Columns()), out: change.NewLayout(p.Columns()), shown: map[string]int64{}}
	var err error
	if r.a, err = newAggregate(p, appends, &r.errors); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *aggRig) row(vals ...change.Value) change.Row { return r.in.Append(nil, vals) }

// apply gives one batch and follows what comes out, which must remove only what is there.
func (r *aggRig) apply(in ...delta) {
	r.t.Helper()
	r.x.scratch.reset()
	for _, d := range r.a.apply(&r.x, in) {
		if r.shown[string(d.row)] += d.w; r.shown[string(d.row)] < 0 {
			r.t.Fatalf("a row is removed that is not there")
		}
		if r.shown[string(d.row)] == 0 {
			delete(r.shown, string(d.row))
		}
	}
}

func ints(vals ...int64) (out []change.Value) {
	for _, v := range vals {
		out = append(out, change.Int(v))
	}
	return out
}

// Only is the value of a group's one row, NULL included, and an error when there are more; the error goes with the row that was too many.
func TestOnly(t *testing.T) {
	in := &Scan{Types: []app.Type{app.Int8, app.Int8}}
	key, arg := expr.Column(0, app.Int8, -1), expr.Column(1, app.Int8, -1)
	r := newAggRig(t, &Aggregate{In: in, Keys: []*expr.Node{key}, Aggs: []Agg{{Func: Only, Arg: arg, Type: app.Int8}}}, false)
	null, five := r.row(change.Int(1), change.Null()), r.row(ints(1, 5)...)
	r.apply(delta{null, 1})
	if r.shown[string(null)] != 1 || len(r.shown) != 1 || r.errors.rows != 0 {
		t.Fatalf("one row that is NULL: %v, %d errors", r.shown, r.errors.rows)
	}
	r.apply(delta{five, 1})
	if len(r.shown) != 0 || r.errors.rows != 1 {
		t.Fatalf("two rows: %v, %d errors", r.shown, r.errors.rows)
	}
	r.apply(delta{null, -1})
	if r.shown[string(five)] != 1 || len(r.shown) != 1 || r.errors.rows != 0 {
		t.Fatalf("one row: %v, %d errors", r.shown, r.errors.rows)
	}
	r.apply(delta{five, 1})
	if len(r.shown) != 0 || r.errors.rows != 1 {
		t.Fatalf("a row twice: %v, %d errors", r.shown, r.errors.rows)
	}
	r.apply(delta{five, -2})
	if len(r.shown) != 0 || r.errors.rows != 0 {
		t.Fatalf("no row: %v, %d errors", r.shown, r.errors.rows)
	}
}

// A result that would be larger than a value may be is an error of its group; it comes back when it fits.
func TestResultTooLarge(t *testing.T) {
	in := &Scan{Types: []app.Type{app.Int8, app.Text}}
	key, arg := expr.Column(0, app.Int8, -1), expr.Column(1, app.Text, -1)
	comma := expr.Const(app.Text, change.Bytes([]byte(",")), -1)
	for _, g := range []Agg{{Func: StringAgg, Arg: arg, Arg2: comma, Type: app.Text}, {Func: ArrayAgg, Arg: arg, Type: app.Array(app.Text)},
		{Func: JSONBAgg, Arg: arg, Type: app.JSONB}} {
		r := newAggRig(t, &Aggregate{In: in, Keys: []*expr.Node{key}, Aggs: []Agg{g}}, false)
		big := r.row(change.Int(1), change.Bytes(make([]byte, expr.MaxValue/3)))
		for i := range big[len(big)-expr.MaxValue/3:] {
			big[len(big)-1-i] = 'x'
		}
		r.apply(delta{big, 2})
		if len(r.shown) != 1 || r.errors.rows != 0 {
			t.Fatalf("%s: it fits, but %d rows, %d errors", g.Func, len(r.shown), r.errors.rows)
		}
		r.apply(delta{big, 2})
		if len(r.shown) != 0 || r.errors.rows != 1 {
			t.Fatalf("%s: too large, but %d rows, %d errors", g.Func, len(r.shown), r.errors.rows)
		}
		r.apply(delta{big, -2})
		if len(r.shown) != 1 || r.errors.rows != 0 {
			t.Fatalf("%s: it fits again, but %d rows, %d errors", g.Func, len(r.shown), r.errors.rows)
		}
	}
}

// The sketch is off by a few percent at most, exact for few values, and a function of the values alone.
func TestApproxDistinct(t *testing.T) {
	var x exec
	for _, n := range []int{0, 1, 10, 100, 500, 3000, 10_000, 100_000, 1_000_000} {
		s, again := newSketch(app.Int8), newSketch(app.Int8)
		state, other := make([]byte, s.fixed()), make([]byte, s.fixed())
		for i := range n {
			s.add(1, state, change.Int(int64(i)), 1)
			s.add(1, state, change.Int(int64(i/2)), 1)
			again.add(1, other, change.Int(int64(n-1-i)), 1)
		}
		got, _ := s.result(&x, 1, state)
		rebuilt, _ := again.result(&x, 1, other)
		if got.N != rebuilt.N {
			t.Errorf("%d values: %d, in another order %d", n, got.N, rebuilt.N)
		}
		if off := math.Abs(float64(got.N)-float64(n)) / max(1, float64(n)); off > 0.04 || n <= 10 && got.N != int64(n) {
			t.Errorf("%d values: %d", n, got.N)
		}
		s.free(1, state)
		if s.bytes() != 0 && n > 0 && s.slab.pages[1].live != 0 {
			t.Errorf("%d values: a block is left", n)
		}
	}
}

// closeProgram groups rows (window end, key, value) by the first two, with every kind of state beside a group.
func closeProgram(closes *Bound) *Aggregate {
	in := &Scan{Types: []app.Type{app.Timestamptz, app.Text, app.Int8, app.Numeric}}
	col := func(i int) *expr.Node { return expr.Column(i, in.Types[i], -1) }
	half := expr.Const(app.Float8, change.Float(0.5), -1)
	filter := &expr.Node{Kind: expr.KIsNull, Type: app.Bool, Args: []*expr.Node{col(2)}}
	var aggs []Agg
	for _, i := range []int{2, 3} {
		t := in.Types[i]
		aggs = append(aggs, Agg{Func: Count, Arg: col(i), Distinct: true, Type: app.Int8}, Agg{Func: Min, Arg: col(i), Type: t},
			Agg{Func: Max, Arg: col(i), Type: t}, Agg{Func: Sum, Arg: col(i), Distinct: true, Type: app.Numeric},
			Agg{Func: VarPop, Arg: col(i), Type: app.Numeric}, Agg{Func: ArrayAgg, Arg: col(i), Type: app.Array(t)},
			Agg{Func: Mode, Sort: []SortKey{{X: col(i)}}, Type: t}, Agg{Func: ApproxDistinct, Arg: col(i), Type: app.Int8},
			Agg{Func: PercentileDisc, Arg: half, Sort: []SortKey{{X: col(i)}}, Type: t}, Agg{Func: First, Arg: col(i), Type: t},
			Agg{Func: Count, Arg: col(i), Distinct: true, Filter: filter, Type: app.Int8})
	}
	return &Aggregate{In: in, Keys: []*expr.Node{col(0), col(1)}, Aggs: aggs, Closes: closes}
}

// closeUpTo frees what a mark closes, as apply does with the watermark's.
func (a *aggregate) closeUpTo(mark int64) {
	for _, r := range a.closes.take(&a.groups, mark) {
		a.free(a.groups.hash(a.groups.key(r)), r)
	}
}

// TestCloses frees groups as a mark passes them: what they show stays, nothing of their state is left, and rows that go from them change
// nothing.
func TestCloses(t *testing.T) {
	for _, appends := range []bool{true, false} {
		t.Run(fmt.Sprint("appends ", appends), func(t *testing.T) {
			r := newAggRig(t, closeProgram(&Bound{Col: 0, Ends: true}), appends)
			rnd := rand.New(rand.NewPCG(1, 1))
			var rows []change.Row
			for i := range 2000 {
				end := int64(i/100+1+rnd.IntN(3)) * 10
				n := change.AppendNumericUint128(nil, false, 0, uint64(rnd.IntN(5)), rnd.IntN(3))
				row := r.row(change.Int(end), change.Bytes([]byte{'a' + byte(rnd.IntN(3))}), change.Int(rnd.Int64N(20)), change.Bytes(n))
				r.apply(delta{row, 1})
				rows = append(rows, row)
				if k := rnd.IntN(len(rows)); !appends && rnd.IntN(3) == 0 {
					r.apply(delta{rows[k], -1})
					rows = append(rows[:k], rows[k+1:]...)
				}
				if i%100 == 99 {
					before := len(r.shown)
					r.a.closeUpTo(int64(i/100) * 10)
					r.apply()
					if len(r.shown) != before {
						t.Fatalf("a closed group changed")
					}
					for j := 0; j < len(rows); {
						if r.in.Get(rows[j], 0).N <= int64(i/100)*10 {
							r.apply(delta{rows[j], -1}) // dropped
							rows = append(rows[:j], rows[j+1:]...)
							continue
						}
						j++
					}
					if len(r.shown) != before {
						t.Fatalf("a row that went from a closed group changed it")
					}
				}
			}
			r.a.closeUpTo(1 << 40)
			if r.a.groups.n != 0 || r.a.closes.tree.n != 0 || len(r.shown) < 50 {
				t.Fatalf("%d groups are left, %d in the index, %d rows shown", r.a.groups.n, r.a.closes.tree.n, len(r.shown))
			}
			for _, d := range r.a.sets {
				if d.table.n != 0 {
					t.Errorf("%d distinct values are left", d.table.n)
				}
			}
			for i := range r.a.aggs {
				if n := leftOf(r.a.aggs[i].accumulator); n != 0 {
					t.Errorf("aggregate %d: %d blocks are left", i, n)
				}
			}
		})
	}
}

// leftOf returns how many blocks and entries an accumulator holds.
func leftOf(acc accumulator) (n int) {
	live := func(s *slab) {
		for _, p := range s.pages {
			n += int(p.live)
		}
	}
	switch a := acc.(type) {
	case *distinct:
		n = a.count.n + a.forms.n + leftOf(a.accumulator)
	case *ordered:
		n = a.tree.n
	case *percentile:
		n = a.tree.n
	case *listOf:
		n = a.tree.n
	case *mode:
		n = a.values.n + a.counts.n
	case *extreme:
		live(&a.slab)
	case *firstOf:
		live(&a.slab)
	case *sketch:
		live(&a.slab)
	case *numericSum:
		live(&a.slab)
	case numericVariance:
		live(&a.sum.slab)
		live(&a.squares.slab)
	case averageOf:
		n = leftOf(a.averager)
	}
	return n
}

// TestPrintedSpan holds what is remembered of to_char against its formats.
func TestPrintedSpan(t *testing.T) {
	const second = 1_000_000
	for format, want := range map[string]int64{"YYYY-MM-DD": 86400 * second, "HH24:MI": 60 * second, "YYYY-MM-DD HH24:MI:SS": second, "Day": 0, "YYYY-MM-DD US": 0,
		"DDD": 0, "": 86400 * second} {
		n := &expr.Node{Kind: expr.KCall, Type: app.Text, Func: &expr.Function{Name: "to_char"},
			Args: []*expr.Node{expr.Column(0, app.Timestamp, -1), expr.Const(app.Text, change.Bytes([]byte(format)), -1)}}
		if got := printedSpan(n); got != want {
			t.Errorf("%q: %d, want %d", format, got, want)
		}
	}
}
