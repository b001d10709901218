package sql

import (
	"slices"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// manyForms reports whether equal values of a node's type may differ in their bytes.
func manyForms(n *expr.Node) bool {
	switch n.Type.Elem() {
	case app.Numeric, app.JSONB, app.Float8, app.Interval:
		return true
	}
	return false
}

// pushJoin moves conditions into a join: to the side that they read, or into its own condition.
func (o *optimizer) pushJoin(p *flow.Join, gs []guard) flow.Plan {
	width := len(p.L.Columns())
	left := func(g guard) bool { return g.within(func(i int) bool { return i < width }) }
	right := func(g guard) bool { return g.within(func(i int) bool { return i >= width }) }
	kind := narrowed(p.Kind, gs, width)
	var lg, rg, above []guard
	var on []*expr.Node
	for _, g := range gs {
		switch {
		case g.cond == nil && (g.from != nil || o.c.highGates):
			// Below, rows would come or go by now(), and what the watermark says of them would not help to free the other side.
			above = append(above, g)
		case left(g) && kind != flow.RightJoin && kind != flow.FullJoin:
			lg = append(lg, g)
		case right(g) && (kind == flow.InnerJoin || kind == flow.RightJoin):
			rg = append(rg, g)
		case g.cond != nil && kind == flow.InnerJoin && g.within(func(int) bool { return true }):
			on = append(on, g.cond)
		default:
			above = append(above, g)
		}
	}
	for _, n := range joinConds(p) {
		g := guard{cond: n}
		switch {
		case left(g) && (kind == flow.InnerJoin || kind == flow.RightJoin || kind == flow.SemiJoin):
			lg = append(lg, g)
		case right(g) && (kind == flow.InnerJoin || kind == flow.LeftJoin || kind == flow.SemiJoin || kind == flow.AntiJoin):
			rg = append(rg, g)
		default:
			on = append(on, n)
		}
	}
	for i := range rg {
		rg[i] = rg[i].mapped(func(n *expr.Node) *expr.Node { return shifted(n, -width) })
	}
	return guarded(newJoin(kind, o.push(p.L, lg), o.push(p.R, rg), unique(on)), above)
}

// unique leaves out conditions that are there already.
func unique(list []*expr.Node) []*expr.Node {
	var out []*expr.Node
	seen := map[string]bool{}
	for _, n := range list {
		if s := n.String(); !seen[s] {
			seen[s] = true
			out = append(out, n)
		}
	}
	return out
}

// narrowed returns the kind of a join under conditions that its rows must meet: rows that an outer join fills with NULLs
// go when the conditions reject these.
func narrowed(kind flow.JoinKind, gs []guard, width int) flow.JoinKind {
	noLeft, noRight := false, false // no row whose left (right) columns are filled remains
	for _, g := range gs {
		if g.cond != nil {
			noLeft = noLeft || rejectsNull(g.cond, func(i int) bool { return i < width })
			noRight = noRight || rejectsNull(g.cond, func(i int) bool { return i >= width })
		}
	}
	switch {
	case kind == flow.FullJoin && noLeft && noRight, kind == flow.LeftJoin && noRight, kind == flow.RightJoin && noLeft:
		return flow.InnerJoin
	case kind == flow.FullJoin && noLeft:
		return flow.LeftJoin
	case kind == flow.FullJoin && noRight:
		return flow.RightJoin
	}
	return kind
}

// pruner leaves out columns that nothing reads.
type pruner struct {
	c    *compiler
	need map[flow.Plan][]bool
	done map[flow.Plan]pruned
}

// pruned is a plan with fewer columns; place says where each of the original ones is, -1 for one that is gone.
type pruned struct {
	plan  flow.Plan
	place []int
}

func (c *compiler) prune(root flow.Plan) flow.Plan {
	p := &pruner{c: c, need: map[flow.Plan][]bool{}, done: map[flow.Plan]pruned{}}
	p.need[root] = slices.Repeat([]bool{true}, len(root.Columns()))
	for _, x := range parentsFirst(root) {
		for i, need := range p.demand(x, p.need[x]) {
			in := x.Inputs()[i]
			if p.need[in] == nil {
				p.need[in] = make([]bool, len(in.Columns()))
			}
			for k, n := range need {
				p.need[in][k] = p.need[in][k] || n
			}
		}
	}
	r := p.rebuild(root)
	return p.narrow(r, p.need[root]).plan
}

// parentsFirst orders the parts of a plan so that what reads a part comes before it.
func parentsFirst(root flow.Plan) []flow.Plan {
	var list []flow.Plan
	seen := map[flow.Plan]bool{}
	var walk func(p flow.Plan)
	walk = func(p flow.Plan) {
		if seen[p] {
			return
		}
		seen[p] = true
		for _, in := range p.Inputs() {
			walk(in)
		}
		list = append(list, p)
	}
	walk(root)
	slices.Reverse(list)
	return list
}

// demand returns which columns of its inputs an operator reads when these of its own are read.
func (p *pruner) demand(x flow.Plan, need []bool) [][]bool {
	ins := x.Inputs()
	out := make([][]bool, len(ins))
	for i, in := range ins {
		out[i] = make([]bool, len(in.Columns()))
	}
	read := func(i int, nodes ...*expr.Node) {
		for _, n := range nodes {
			if n != nil {
				n.Columns(func(col int) { out[i][col] = true })
			}
		}
	}
	set := func(i int, cols ...int) {
		for _, c := range cols {
			out[i][c] = true
		}
	}
	switch x := x.(type) {
	case *flow.Filter:
		copy(out[0], need)
		read(0, x.Cond)
	case *flow.Gate:
		copy(out[0], need)
		read(0, x.From, x.Until)
	case *flow.Project:
		for i, n := range x.Exprs {
			if need[i] || i == 0 && !anyTrue(need) {
				read(0, n)
			}
		}
	case *flow.Expand:
		copy(out[0], need)
		read(0, x.Arrays...)
	case *flow.Window:
		for i, k := range x.Keep {
			out[0][k] = out[0][k] || need[i]
		}
		set(0, x.Time)
		read(0, x.Where)
	case *flow.Session:
		for i, k := range x.Keep {
			out[0][k] = out[0][k] || need[i]
		}
		set(0, x.Time)
		set(0, x.Partition...)
		read(0, x.Where)
	case *flow.Join:
		width := len(out[0])
		copy(out[0], need)
		if len(need) > width {
			copy(out[1], need[width:])
		}
		read(0, x.LKeys...)
		read(1, x.RKeys...)
		if x.Cond != nil {
			x.Cond.Columns(func(col int) {
				if col < width {
					out[0][col] = true
				} else {
					out[1][col-width] = true
				}
			})
		}
	case *flow.Union:
		for i := range ins {
			copy(out[i], need)
			out[i][0] = out[i][0] || !anyTrue(need)
		}
	case *flow.Aggregate:
		read(0, x.Keys...)
		for _, g := range neededAggs(x, need) {
			mapAgg(g, func(n *expr.Node) *expr.Node {
				read(0, n)
				return n
			})
		}
	case *flow.TopN:
		p.demandOrdered(x.In, out[0], need, x.Partition, x.Sort, x.Rank != flow.RowNumber)
	case *flow.Over:
		p.demandOver(x, out[0], need)
	default: // SetOp compares whole rows
		for i := range out {
			for k := range out[i] {
				out[i][k] = true
			}
		}
	}
	return out
}

// demandOrdered reads what decides an order. Ties are broken by the columns that remain, so that all of them count unless rows
// cannot tie.
func (p *pruner) demandOrdered(in flow.Plan, out, need []bool, partition []int, sort []app.OrderBy, tiesShare bool) {
	cols := slices.Clone(partition)
	for _, s := range sort {
		cols = append(cols, s.Column)
	}
	total := tiesShare || slices.ContainsFunc(p.c.factsOf(in).keys, func(k keyFact) bool { return len(k.relies) == 0 && subset(k.cols, cols) })
	for i := range out {
		out[i] = !total || need[i] || slices.Contains(cols, i)
	}
}

func (p *pruner) demandOver(x *flow.Over, out, need []bool) {
	share := true
	for i, c := range x.Calls {
		if need[len(out)+i] {
			share = share && (c.Func == flow.OverRank || c.Func == flow.OverDenseRank)
		}
	}
	p.demandOrdered(x.In, out, need, x.Partition, x.Sort, share)
	for i, c := range x.Calls {
		if !need[len(out)+i] {
			continue
		}
		one := func(n *expr.Node) *expr.Node {
			n.Columns(func(col int) { out[col] = true })
			return n
		}
		mapAgg(c.Agg, one)
		for _, n := range c.Args {
			one(n)
		}
	}
}

// neededAggs leaves out aggregates that nothing reads; one remains where there would be no column else.
func neededAggs(x *flow.Aggregate, need []bool) []flow.Agg {
	var out []flow.Agg
	for i, g := range x.Aggs {
		if need[len(x.Keys)+i] {
			out = append(out, g)
		}
	}
	if len(out) == 0 && len(x.Keys) == 0 {
		out = x.Aggs[:1]
	}
	return out
}
