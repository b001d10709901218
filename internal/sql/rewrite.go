package sql

import (
	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// Columns that stand for what has no place in a plan yet. Real columns are below aggregateCol.
const (
	aggregateCol = 1 << 20 // aggregates, see [aggregates]
	groupCol     = 1 << 21 // keys of GROUP BY, while expressions are rewritten to them
	overCol      = 1 << 22 // window functions
	subCol       = 1 << 23 // sub-queries in expressions, see [sub]
	paramCol     = 1 << 24 // what a sub-query reads of the query around it, see [frame]
)

// rewrite returns n with every node that f answers for replaced. f sees a node before its arguments; nil leaves it.
func rewrite(n *expr.Node, f func(n *expr.Node) *expr.Node) *expr.Node {
	if n == nil {
		return nil
	}
	if r := f(n); r != nil {
		return r
	}
	var args []*expr.Node
	for i, a := range n.Args {
		r := rewrite(a, f)
		if r != a && args == nil {
			args = append(args, n.Args...)
		}
		if args != nil {
			args[i] = r
		}
	}
	if args == nil {
		return n
	}
	copied := *n
	copied.Args = args
	return &copied
}

// rewriteColumns returns n with its columns replaced; where f returns nil a column stays.
func rewriteColumns(n *expr.Node, f func(col *expr.Node) *expr.Node) *expr.Node {
	return rewrite(n, func(n *expr.Node) *expr.Node {
		if n.Kind == expr.KColumn {
			return f(n)
		}
		return nil
	})
}

// compose returns n with each real column i replaced by to[i].
func compose(n *expr.Node, to []*expr.Node) *expr.Node {
	return rewriteColumns(n, func(col *expr.Node) *expr.Node {
		if col.Col < len(to) {
			return to[col.Col]
		}
		return nil
	})
}

// shifted returns n with its real columns moved by so many places.
func shifted(n *expr.Node, by int) *expr.Node {
	if by == 0 {
		return n
	}
	return rewriteColumns(n, func(col *expr.Node) *expr.Node {
		if col.Col < aggregateCol {
			return expr.Column(col.Col+by, col.Type, col.Pos)
		}
		return nil
	})
}

// readsBetween reports whether n reads a column from lo up to below hi.
func readsBetween(n *expr.Node, lo, hi int) bool {
	found := false
	if n != nil {
		n.Columns(func(i int) { found = found || lo <= i && i < hi })
	}
	return found
}

// conjuncts returns the conditions that AND connects in n; none for nil.
func conjuncts(n *expr.Node) []*expr.Node {
	switch {
	case n == nil:
		return nil
	case n.Kind == expr.KAnd:
		var list []*expr.Node
		for _, a := range n.Args {
			list = append(list, conjuncts(a)...)
		}
		return list
	case isTrue(n):
		return nil
	}
	return []*expr.Node{n}
}

// conjunction connects conditions by AND; nil for none.
func conjunction(list []*expr.Node) *expr.Node {
	if len(list) == 0 {
		return nil
	}
	n, err := expr.And(list, list[0].Pos)
	if err != nil {
		panic("sql: conditions are boolean: " + err.Error())
	}
	return n
}

func isTrue(n *expr.Node) bool {
	return n.Kind == expr.KConst && n.Type == app.Bool && !n.Value.Null && n.Value.N != 0
}

// columnsOf returns references to the columns of a plan as they stand.
func columnsOf(p flow.Plan) []*expr.Node { return columnRange(p.Columns(), 0) }

// columnRange returns references to columns of these types, the first at place from.
func columnRange(types []app.Type, from int) []*expr.Node {
	out := make([]*expr.Node, len(types))
	for i, t := range types {
		out[i] = expr.Column(from+i, t, -1)
	}
	return out
}

// project computes exprs, unless they are the input's columns as they stand.
func project(in flow.Plan, exprs []*expr.Node) flow.Plan {
	same := len(in.Columns()) == len(exprs)
	for i, e := range exprs {
		same = same && e.Kind == expr.KColumn && e.Col == i
	}
	if same {
		return in
	}
	return &flow.Project{In: in, Exprs: exprs}
}

// filter keeps the rows for which all conditions hold.
func filter(in flow.Plan, conds []*expr.Node) flow.Plan {
	if c := conjunction(conds); c != nil {
		return &flow.Filter{In: in, Cond: c}
	}
	return in
}

// firstColumns takes off all columns but the first n.
func firstColumns(in flow.Plan, n int) flow.Plan {
	return project(in, columnsOf(in)[:n])
}

// mapPlan returns a copy of one operator with its inputs and its expressions replaced. in gets the index of the input; of is not
// called for what is absent.
func mapPlan(p flow.Plan, in func(i int, p flow.Plan) flow.Plan, of func(n *expr.Node) *expr.Node) flow.Plan {
	list := func(ns []*expr.Node) []*expr.Node {
		if ns == nil {
			return nil
		}
		out := make([]*expr.Node, len(ns))
		for i, n := range ns {
			out[i] = of(n)
		}
		return out
	}
	one := func(n *expr.Node) *expr.Node {
		if n == nil {
			return nil
		}
		return of(n)
	}
	switch p := p.(type) {
	case *flow.Values:
		c := *p
		c.Rows = make([][]*expr.Node, len(p.Rows))
		for i, r := range p.Rows {
			c.Rows[i] = list(r)
		}
		return &c
	case *flow.Filter:
		return &flow.Filter{In: in(0, p.In), Cond: of(p.Cond)}
	case *flow.Project:
		return &flow.Project{In: in(0, p.In), Exprs: list(p.Exprs)}
	case *flow.Expand:
		c := *p
		c.In, c.Arrays = in(0, p.In), list(p.Arrays)
		return &c
	case *flow.Window:
		c := *p
		c.In, c.Where = in(0, p.In), one(p.Where)
		return &c
	case *flow.Session:
		c := *p
		c.In, c.Where = in(0, p.In), one(p.Where)
		return &c
	case *flow.Gate:
		c := *p
		c.In, c.From, c.Until = in(0, p.In), one(p.From), one(p.Until)
		return &c
	case *flow.Join:
		c := *p
		c.L, c.R = in(0, p.L), in(1, p.R)
		c.LKeys, c.RKeys, c.Cond = list(p.LKeys), list(p.RKeys), one(p.Cond)
		return &c
	case *flow.Union:
		c := &flow.Union{}
		for i, x := range p.Ins {
			c.Ins = append(c.Ins, in(i, x))
		}
		return c
	case *flow.SetOp:
		c := *p
		c.L, c.R = in(0, p.L), in(1, p.R)
		return &c
	case *flow.Aggregate:
		c := *p
		c.In, c.Keys, c.Aggs = in(0, p.In), list(p.Keys), mapAggs(p.Aggs, of)
		return &c
	case *flow.TopN:
		c := *p
		c.In = in(0, p.In)
		return &c
	case *flow.Over:
		c := *p
		c.In = in(0, p.In)
		c.Calls = make([]flow.OverCall, len(p.Calls))
		for i, call := range p.Calls {
			call.Agg, call.Args = mapAgg(call.Agg, of), list(call.Args)
			c.Calls[i] = call
		}
		return &c
	}
	return p
}

func mapAggs(list []flow.Agg, of func(n *expr.Node) *expr.Node) []flow.Agg {
	out := make([]flow.Agg, len(list))
	for i, g := range list {
		out[i] = mapAgg(g, of)
	}
	return out
}

func mapAgg(g flow.Agg, of func(n *expr.Node) *expr.Node) flow.Agg {
	for _, at := range []**expr.Node{&g.Arg, &g.Arg2, &g.Filter} {
		if *at != nil {
			*at = of(*at)
		}
	}
	if g.Sort != nil {
		sort := make([]flow.SortKey, len(g.Sort))
		for i, k := range g.Sort {
			k.X = of(k.X)
			sort[i] = k
		}
		g.Sort = sort
	}
	return g
}

// eachExpr calls f for every expression of one operator. Those of a Join's conditions are over both sides; its keys are over
// their own.
func eachExpr(p flow.Plan, f func(n *expr.Node)) {
	mapPlan(p, func(_ int, in flow.Plan) flow.Plan { return in }, func(n *expr.Node) *expr.Node {
		f(n)
		return n
	})
}

// withInputs returns p with other inputs, p itself when they are the same.
func withInputs(p flow.Plan, in func(p flow.Plan) flow.Plan) flow.Plan {
	changed := false
	ins := p.Inputs()
	out := make([]flow.Plan, len(ins))
	for i, x := range ins {
		out[i] = in(x)
		changed = changed || out[i] != x
	}
	if !changed {
		return p
	}
	return mapPlan(p, func(i int, _ flow.Plan) flow.Plan { return out[i] }, func(n *expr.Node) *expr.Node { return n })
}
