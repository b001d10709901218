package sql

import (
	"slices"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// A sub-query that reads the query around it is joined in one of two ways. Where the conditions that read parameters can be
// taken out of the plan ([frame.pull]), they become the join's condition. Else the sub-query is computed for each distinct
// combination of parameters that the query around has ([frame.unnest]), and joined by these.

// readsPlan reports whether a plan has a parameter of the frame.
func (f *frame) readsPlan(p flow.Plan) bool {
	if len(f.nodes) == 0 {
		return false
	}
	seen := map[flow.Plan]bool{}
	var walk func(p flow.Plan) bool
	walk = func(p flow.Plan) bool {
		if r, ok := seen[p]; ok {
			return r
		}
		found := false
		eachExpr(p, func(n *expr.Node) { found = found || f.reads(n) })
		for _, in := range p.Inputs() {
			found = found || walk(in)
		}
		seen[p] = found
		return found
	}
	return walk(p)
}

// placed puts nodes of the query around in for parameters.
func (f *frame) placed(n *expr.Node) *expr.Node {
	return rewriteColumns(n, func(col *expr.Node) *expr.Node {
		if i := col.Col - f.base; 0 <= i && i < len(f.nodes) {
			return f.nodes[i]
		}
		return nil
	})
}

// apply joins inner, which may read parameters of the frame, to outer. conds are over outer's columns, then inner's. The columns
// are outer's, then inner's; outer's alone for semi and anti joins.
func (f *frame) apply(kind flow.JoinKind, outer, inner flow.Plan, conds []*expr.Node) flow.Plan {
	if _, one := outer.(*flow.Values); one && len(outer.Columns()) == 0 && kind == flow.InnerJoin && !f.readsPlan(inner) {
		return filter(inner, conds)
	}
	if !f.readsPlan(inner) {
		return newJoin(kind, outer, inner, conds)
	}
	width := len(outer.Columns())
	if p, ok := f.pull(inner, false); ok {
		if out := f.applyPulled(kind, outer, p, conds, width); out != nil {
			return out
		}
	}
	if kind == flow.InnerJoin {
		if out := f.inline(outer, inner, width); out != nil {
			return filter(out, conds)
		}
	}
	return f.applyDomain(kind, outer, inner, conds)
}

// applyPulled joins what pull gave; nil when that is not possible.
func (f *frame) applyPulled(kind flow.JoinKind, outer flow.Plan, p pulled, conds []*expr.Node, width int) flow.Plan {
	if p.scalar && (kind != flow.InnerJoin && (kind != flow.LeftJoin || len(conds) > 0)) {
		return nil
	}
	if kind == flow.LeftJoin && !p.scalar && !p.settle(f) {
		return nil
	}
	to := append(columnsOf(outer), make([]*expr.Node, len(p.outs))...)
	for i, n := range p.outs {
		to[width+i] = f.placed(shifted(n, width))
	}
	var all []*expr.Node
	for _, c := range p.conds {
		all = append(all, f.placed(shifted(c, width)))
	}
	own := make([]*expr.Node, len(conds))
	for i, c := range conds {
		own[i] = compose(c, to)
	}
	if p.scalar { // one row for each row of outer, whether the join finds a group or not
		return project(filter(newJoin(flow.LeftJoin, outer, p.plan, all), own), to)
	}
	j := newJoin(kind, outer, p.plan, append(all, own...))
	if kind == flow.SemiJoin || kind == flow.AntiJoin {
		return j
	}
	return project(j, to)
}

// inline runs a chain of operators that work row by row over the rows of outer themselves; nil when inner is none.
func (f *frame) inline(outer, inner flow.Plan, width int) flow.Plan {
	switch p := inner.(type) {
	case *flow.Values:
		if len(p.Types) == 0 && len(p.Rows) == 1 {
			return outer
		}
	case *flow.Filter:
		if in := f.inline(outer, p.In, width); in != nil {
			return filter(in, []*expr.Node{f.placed(shifted(p.Cond, width))})
		}
	case *flow.Project:
		if in := f.inline(outer, p.In, width); in != nil {
			exprs := columnsOf(outer)
			for _, n := range p.Exprs {
				exprs = append(exprs, f.placed(shifted(n, width)))
			}
			return project(in, exprs)
		}
	case *flow.Expand:
		if in := f.inline(outer, p.In, width); in != nil {
			e := *p
			e.In, e.Arrays = in, nil
			for _, n := range p.Arrays {
				e.Arrays = append(e.Arrays, f.placed(shifted(n, width)))
			}
			return &e
		}
	}
	return nil
}

// domain is each combination of the parameters once.
func (f *frame) domain(outer flow.Plan) flow.Plan {
	return &flow.Aggregate{In: outer, Keys: slices.Clone(f.nodes)}
}

// applyDomain joins a sub-query that was computed for each combination of the parameters.
func (f *frame) applyDomain(kind flow.JoinKind, outer, inner flow.Plan, conds []*expr.Node) flow.Plan {
	width, n := len(outer.Columns()), len(inner.Columns())
	p := f.unnest(inner, f.domain(outer))
	all := slices.Clone(conds)
	for i, x := range f.nodes {
		all = append(all, same(x, expr.Column(width+n+i, x.Type, -1)))
	}
	j := newJoin(kind, outer, p, all)
	if kind == flow.SemiJoin || kind == flow.AntiJoin {
		return j
	}
	return project(j, columnsOf(j)[:width+n])
}

// same is x IS NOT DISTINCT FROM y.
func same(x, y *expr.Node) *expr.Node {
	n, err := expr.IsDistinct(x, y, true, -1)
	if err != nil {
		return expr.BoolLit(true, -1) // a type without equality cannot be a parameter of two values
	}
	return n
}

// value joins a sub-query that is one value, and says where the value is.
func (f *frame) value(outer, inner flow.Plan) (flow.Plan, *expr.Node) {
	width := len(outer.Columns())
	typ := inner.Columns()[0]
	if !f.readsPlan(inner) {
		if !oneRowAlways(inner) {
			inner = only(inner, nil, expr.Column(0, typ, -1))
		}
		return newJoin(flow.InnerJoin, outer, inner, nil), expr.Column(width, typ, -1)
	}
	if p, ok := f.pull(inner, true); ok {
		if _, one := p.plan.(*flow.Values); one && len(p.conds) == 0 && len(p.plan.Columns()) == 0 {
			return outer, f.placed(p.outs[0])
		}
		if p.scalar {
			return f.leftJoin(outer, p.plan, p), f.placed(shifted(p.outs[0], width))
		}
		if !f.reads(p.outs[0]) {
			locals := p.locals(f)
			sub := f.uniqueBy(p.plan, locals, p.outs[0])
			p.conds, p.plan = p.byColumns(f), sub
			return f.leftJoin(outer, sub, p), expr.Column(width+len(locals), typ, -1)
		}
	}
	n := len(inner.Columns())
	in := f.unnest(inner, f.domain(outer))
	params := columnsOf(in)[n:]
	in = f.uniqueBy(in, params, expr.Column(0, typ, -1))
	return f.byParams(outer, in), expr.Column(width+len(params), typ, -1)
}

// exists joins a sub-query of which only matters whether it has a row, one with equal pairs.
func (f *frame) exists(outer, inner flow.Plan, pairs []pair) (flow.Plan, *expr.Node) {
	width := len(outer.Columns())
	if !f.readsPlan(inner) && len(pairs) == 0 {
		agg := &flow.Aggregate{In: inner, Aggs: []flow.Agg{{Func: flow.CountRows, Type: app.Int8}}}
		n, err := expr.Operator(">", []*expr.Node{expr.Column(width, app.Int8, -1), expr.Const(app.Int8, change.Int(0), -1)}, -1)
		if err != nil {
			panic("sql: bigint has an order: " + err.Error())
		}
		return newJoin(flow.InnerJoin, outer, agg, nil), n
	}
	var keys, conds []*expr.Node
	p, ok := f.pull(inner, true)
	switch {
	case ok && p.scalar && len(pairs) == 0:
		return outer, expr.BoolLit(true, -1)
	case ok && len(p.conds) == 0 && len(pairs) == 0: // parameters are in its columns alone
		return f.exists(outer, p.plan, nil)
	case ok && !p.scalar && !slices.ContainsFunc(pairs, func(x pair) bool { return f.reads(compose(x.v, p.outs)) }):
		keys = p.locals(f)
		conds = p.byColumns(f)
		for i, c := range conds {
			conds[i] = f.placed(shifted(c, width))
		}
		for _, x := range pairs {
			keys = append(keys, compose(x.v, p.outs))
		}
		inner = p.plan
	default:
		n := len(inner.Columns())
		inner = f.unnest(inner, f.domain(outer))
		keys = slices.Clone(columnsOf(inner)[n:])
		for i, x := range f.nodes {
			conds = append(conds, same(x, expr.Column(width+i, x.Type, -1)))
		}
		for _, x := range pairs {
			keys = append(keys, x.v)
		}
	}
	first := len(keys) - len(pairs)
	for i, x := range pairs {
		eq, err := expr.Operator("=", []*expr.Node{x.x, expr.Column(width+first+i, x.v.Type, -1)}, -1)
		if err != nil {
			panic("sql: the pair was compared before: " + err.Error())
		}
		conds = append(conds, eq)
	}
	var found flow.Plan = &flow.Aggregate{In: inner, Keys: keys}
	found = project(found, append(columnsOf(found), expr.BoolLit(true, -1)))
	j := newJoin(flow.LeftJoin, outer, found, conds)
	return j, expr.IsNull(expr.Column(width+len(keys), app.Bool, -1), true, -1)
}

// leftJoin joins by the conditions of what was pulled.
func (f *frame) leftJoin(outer, inner flow.Plan, p pulled) flow.Plan {
	width := len(outer.Columns())
	conds := make([]*expr.Node, len(p.conds))
	for i, c := range p.conds {
		conds[i] = f.placed(shifted(c, width))
	}
	return newJoin(flow.LeftJoin, outer, inner, conds)
}

// byParams joins a plan whose first columns are the parameters.
func (f *frame) byParams(outer, inner flow.Plan) flow.Plan {
	width := len(outer.Columns())
	var conds []*expr.Node
	for i, x := range f.nodes {
		conds = append(conds, same(x, expr.Column(width+i, x.Type, -1)))
	}
	return newJoin(flow.LeftJoin, outer, inner, conds)
}

// uniqueBy makes of a plan its keys and one value: an error when there are several rows of a key.
func (f *frame) uniqueBy(in flow.Plan, keys []*expr.Node, value *expr.Node) flow.Plan {
	if f.outer.c.uniqueOver(in, keys) {
		return &flow.Project{In: in, Exprs: append(slices.Clone(keys), value)}
	}
	return only(in, keys, value)
}

func only(in flow.Plan, keys []*expr.Node, value *expr.Node) flow.Plan {
	return &flow.Aggregate{In: in, Keys: keys, Aggs: []flow.Agg{{Func: flow.Only, Arg: value, Type: value.Type}}}
}

// oneRowAlways reports whether a plan has exactly one row.
func oneRowAlways(p flow.Plan) bool {
	switch p := p.(type) {
	case *flow.Project:
		return oneRowAlways(p.In)
	case *flow.Values:
		return len(p.Rows) == 1
	case *flow.Aggregate:
		return len(p.Keys) == 0
	}
	return false
}
