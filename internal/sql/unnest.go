package sql

import (
	"slices"

	"laaster/internal/expr"
	"laaster/internal/flow"
)

// unnest computes a plan for each combination of the parameters at once: domain has them, each once. The columns are the plan's,
// then the parameters.
func (f *frame) unnest(p, domain flow.Plan) flow.Plan {
	n, k := len(p.Columns()), len(f.nodes)
	f.outer.c.step()
	if !f.readsPlan(p) {
		if v, ok := p.(*flow.Values); ok && len(v.Types) == 0 && len(v.Rows) == 1 {
			return domain
		}
		return newJoin(flow.InnerJoin, p, domain, nil)
	}
	switch p := p.(type) {
	case *flow.Join:
		return f.unnestJoin(p, domain)
	case *flow.Aggregate:
		return f.unnestAggregate(p, domain)
	case *flow.Union:
		u := &flow.Union{}
		for _, in := range p.Ins {
			u.Ins = append(u.Ins, f.unnest(in, domain))
		}
		return u
	case *flow.SetOp:
		s := *p
		s.L, s.R = f.unnest(p.L, domain), f.unnest(p.R, domain)
		return &s
	case *flow.Values: // rows that read parameters are projects
		return newJoin(flow.InnerJoin, p, domain, nil)
	}
	ins := p.Inputs()
	width := len(ins[0].Columns())
	in := f.unnest(ins[0], domain)
	out := mapPlan(p, func(int, flow.Plan) flow.Plan { return in }, func(n *expr.Node) *expr.Node { return f.fromColumns(n, width) })
	params := columnsOf(in)[width:]
	switch o := out.(type) {
	case *flow.Filter, *flow.Gate:
		return out
	case *flow.Project:
		o.Exprs = append(o.Exprs, params...)
		return o
	case *flow.TopN:
		o.Partition = slices.Clone(o.Partition)
		for i := range params {
			o.Partition = append(o.Partition, width+i)
		}
	case *flow.Over:
		o.Partition = slices.Clone(o.Partition)
		for i := range params {
			o.Partition = append(o.Partition, width+i)
		}
	case *flow.Window:
		o.Keep = f.keepParams(o.Keep, width)
		return f.paramsLast(out, len(o.Keep)-k, n)
	case *flow.Session:
		o.Keep = f.keepParams(o.Keep, width)
		o.Partition = f.keepParams(o.Partition, width)
		return f.paramsLast(out, len(o.Keep)-k, n)
	}
	return f.paramsLast(out, width, n)
}

func (f *frame) keepParams(cols []int, width int) []int {
	cols = slices.Clone(cols)
	for i := range f.nodes {
		cols = append(cols, width+i)
	}
	return cols
}

// paramsLast moves the parameters, which stand at place at of a plan, behind its n other columns.
func (f *frame) paramsLast(p flow.Plan, at, n int) flow.Plan {
	cols := columnsOf(p)
	k := len(f.nodes)
	return project(p, slices.Concat(cols[:at], cols[at+k:n+k], cols[at:at+k]))
}

// fromColumns reads the parameters from columns at place first.
func (f *frame) fromColumns(n *expr.Node, first int) *expr.Node {
	return rewriteColumns(n, func(col *expr.Node) *expr.Node {
		if i := col.Col - f.base; 0 <= i && i < len(f.nodes) {
			return expr.Column(first+i, col.Type, col.Pos)
		}
		return nil
	})
}

// unnestJoin computes the sides of a join that read parameters, or must be compared by them, for each combination.
func (f *frame) unnestJoin(p *flow.Join, domain flow.Plan) flow.Plan {
	conds := joinConds(p)
	ln, rn, k := len(p.L.Columns()), len(p.R.Columns()), len(f.nodes)
	both := f.readsPlan(p.R) || p.Kind == flow.RightJoin || p.Kind == flow.FullJoin
	l := f.unnest(p.L, domain) // the left side has them always: it is the one whose rows remain
	r := p.R
	if both {
		r = f.unnest(p.R, domain)
	}
	var all []*expr.Node
	for _, c := range conds {
		c = rewriteColumns(c, func(col *expr.Node) *expr.Node {
			if ln <= col.Col && col.Col < ln+rn {
				return expr.Column(col.Col+k, col.Type, col.Pos)
			}
			return nil
		})
		all = append(all, f.fromColumns(c, ln))
	}
	if both {
		for i, x := range f.nodes {
			all = append(all, same(expr.Column(ln+i, x.Type, -1), expr.Column(ln+k+rn+i, x.Type, -1)))
		}
	}
	j := newJoin(p.Kind, l, r, all)
	if p.Kind == flow.SemiJoin || p.Kind == flow.AntiJoin {
		return j
	}
	cols := columnsOf(j)
	params := slices.Clone(cols[ln : ln+k])
	if p.Kind == flow.RightJoin || p.Kind == flow.FullJoin {
		for i := range params {
			c, err := expr.Coalesce([]*expr.Node{params[i], cols[ln+k+rn+i]}, -1)
			if err != nil {
				panic("sql: a parameter has one type: " + err.Error())
			}
			params[i] = c
		}
	}
	return project(j, slices.Concat(cols[:ln], cols[ln+k:ln+k+rn], params))
}

// unnestAggregate groups by the parameters too. What has no GROUP BY has a row for each combination.
func (f *frame) unnestAggregate(p *flow.Aggregate, domain flow.Plan) flow.Plan {
	width, k := len(p.In.Columns()), len(f.nodes)
	in := f.unnest(p.In, domain)
	agg := mapPlan(p, func(int, flow.Plan) flow.Plan { return in }, func(n *expr.Node) *expr.Node { return f.fromColumns(n, width) }).(*flow.Aggregate)
	first := len(agg.Keys)
	agg.Keys = append(agg.Keys, columnsOf(in)[width:]...)
	if first > 0 || len(p.Aggs) == 0 {
		return f.paramsLast(agg, first, first+len(p.Aggs))
	}
	var conds []*expr.Node
	for i, x := range f.nodes {
		conds = append(conds, same(expr.Column(i, x.Type, -1), expr.Column(k+i, x.Type, -1)))
	}
	j := newJoin(flow.LeftJoin, domain, agg, conds)
	cols := columnsOf(j)
	var outs []*expr.Node
	for i, g := range p.Aggs {
		outs = append(outs, overNothing(g, cols[2*k+i]))
	}
	return project(j, append(outs, cols[:k]...))
}
