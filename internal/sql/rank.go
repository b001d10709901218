package sql

import (
	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// rankFilter makes a TopN of a filter that keeps the first rows by row_number, rank or dense_rank, so that the rest of each partition
// is not computed. The result has the columns of the Over; nil when the filter is no such one.
func rankFilter(f *flow.Filter) flow.Plan {
	over, ok := f.In.(*flow.Over)
	if !ok || len(over.Calls) != 1 {
		return nil
	}
	kind, ok := map[flow.OverFunc]flow.RankKind{flow.OverRowNumber: flow.RowNumber, flow.OverRank: flow.Rank,
		flow.OverDenseRank: flow.DenseRank}[over.Calls[0].Func]
	if !ok {
		return nil
	}
	r := ranks{col: len(over.In.Columns()), low: 1, high: -1}
	var rest []*expr.Node
	for _, n := range conjuncts(f.Cond) {
		if !r.take(n, kind == flow.RowNumber) {
			rest = append(rest, n)
		}
	}
	if !r.bounded {
		return nil
	}
	top := &flow.TopN{In: over.In, Partition: over.Partition, Sort: over.Sort, Rank: kind, Number: true, Closes: over.Closes,
		Offset: r.low - 1, Limit: max(0, r.high-r.low+1)}
	if len(rest) == 0 {
		return top
	}
	return &flow.Filter{In: top, Cond: conjunction(rest)}
}

// ranks is what conditions leave of the ranks: from low to high.
type ranks struct {
	col       int
	low, high int64
	bounded   bool // high holds
}

// maxRank is above every rank there is, so that sums with it do not overflow.
const maxRank = 1 << 60

// take narrows the ranks by a condition; false when it says something else. Only row numbers can begin above 1: of ranks there
// may be none that is as low.
func (r *ranks) take(n *expr.Node, lower bool) bool {
	if n.Kind == expr.KIn && r.reads(n.Args[0]) {
		return r.takeList(n)
	}
	if n.Kind != expr.KCall || !n.Func.IsOperator() || len(n.Args) != 2 {
		return false
	}
	op, x, k := n.Func.Name, n.Args[0], n.Args[1]
	if x.Kind == expr.KConst {
		op, x, k = flipped(op), k, x
	}
	if !r.reads(x) || k.Kind != expr.KConst || k.Type != app.Int8 && k.Type != app.Int4 || k.Value.Null {
		return false
	}
	v := min(max(k.Value.N, -maxRank), maxRank)
	switch op {
	case "<":
		return r.below(v - 1)
	case "<=":
		return r.below(v)
	case "=":
		r.below(v)
		if lower {
			r.low = max(r.low, v)
		}
		return lower || v <= 1
	case ">":
		return lower && r.above(v+1)
	case ">=":
		return lower && r.above(v)
	}
	return false
}

func (r *ranks) reads(n *expr.Node) bool { return n.Kind == expr.KColumn && n.Col == r.col }

// takeList bounds the ranks by the highest of a list; the condition stays.
func (r *ranks) takeList(n *expr.Node) bool {
	highest := change.Int(0)
	for _, k := range n.Args[1:] {
		if k.Kind != expr.KConst || k.Type != app.Int8 {
			return false
		}
		if !k.Value.Null {
			highest.N = max(highest.N, k.Value.N)
		}
	}
	r.below(min(highest.N, maxRank))
	return false
}

func (r *ranks) below(high int64) bool {
	if !r.bounded || high < r.high {
		r.high, r.bounded = high, true
	}
	return true
}

func (r *ranks) above(low int64) bool {
	r.low = max(r.low, low)
	return true
}
