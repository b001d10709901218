package sql

import (
	"slices"
	"strings"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

// pulled is a plan from which the conditions that read parameters were taken out.
type pulled struct {
	plan  flow.Plan    // reads no parameter
	outs  []*expr.Node // the columns of the original plan, over plan's columns and the parameters
	conds []*expr.Node // over plan's columns and the parameters
	// scalar: the original is an aggregate over everything, with one row even where plan has no row that meets conds; outs
	// are right then too, over NULLs.
	scalar bool
}

// maxSteps bounds the work of joining the sub-queries of one view.
const maxSteps = 20_000

// step counts the work of joining sub-queries, which visits what is read twice twice.
func (c *compiler) step() {
	if c.steps++; c.steps > maxSteps {
		c.fail(syntax.Span{Pos: c.viewAt, End: c.viewAt}, "make views of the inner queries: a view is computed once, whoever reads it",
			"the sub-queries of this view are too many, or too deep")
	}
}

func whole(p flow.Plan) pulled { return pulled{plan: p, outs: columnsOf(p)} }

// pull takes the conditions that read parameters out of a plan; false when they cannot be. With equal it takes only those that say
// that something of the parameters equals something of the plan, see [frame.equality].
func (f *frame) pull(p flow.Plan, equal bool) (pulled, bool) {
	if !f.readsPlan(p) {
		return whole(p), true
	}
	f.outer.c.step()
	switch p := p.(type) {
	case *flow.Filter:
		return f.pullFilter(p, equal)
	case *flow.Project:
		x, ok := f.pull(p.In, equal)
		if !ok {
			return x, false
		}
		for _, n := range p.Exprs { // what is used several times is computed once
			if growth(guard{cond: n}, x.outs) > 256 && (x.scalar || !x.settle(f)) {
				return x, false
			}
		}
		outs := make([]*expr.Node, len(p.Exprs))
		for i, n := range p.Exprs {
			outs[i] = compose(n, x.outs)
		}
		x.outs = outs
		return x, true
	case *flow.Join:
		return f.pullJoin(p, equal)
	case *flow.Aggregate:
		return f.pullAggregate(p)
	case *flow.TopN:
		return f.pullTop(p)
	case *flow.Over:
		return f.pullOver(p)
	case *flow.Expand:
		x, ok := f.pull(p.In, equal)
		if !ok || x.scalar {
			return x, false
		}
		e := *p
		width := len(x.plan.Columns())
		e.In, e.Arrays = x.plan, make([]*expr.Node, len(p.Arrays))
		for i, n := range p.Arrays {
			if e.Arrays[i] = compose(n, x.outs); f.reads(e.Arrays[i]) {
				return x, false
			}
		}
		x.plan = &e
		x.outs = append(slices.Clone(x.outs), columnsOf(&e)[width:]...)
		return x, true
	case *flow.Union:
		return f.pullUnion(p)
	}
	return pulled{}, false
}

func (f *frame) pullFilter(p *flow.Filter, equal bool) (pulled, bool) {
	x, ok := f.pull(p.In, equal)
	if !ok || x.scalar {
		return x, false
	}
	var own []*expr.Node
	for _, c := range conjuncts(p.Cond) {
		c = compose(c, x.outs)
		if !f.reads(c) {
			own = append(own, c)
			continue
		}
		if _, _, is := f.equality(c); equal && !is {
			return x, false
		}
		x.conds = append(x.conds, c)
	}
	x.plan = filter(x.plan, own)
	return x, true
}

// equality splits a condition into a side of parameters and a side of the plan's own columns that must be equal and not NULL.
func (f *frame) equality(c *expr.Node) (param, own *expr.Node, ok bool) {
	if !readsBetween(c, 0, aggregateCol) { // of parameters alone
		return c, expr.BoolLit(true, -1), true
	}
	if c.Kind != expr.KCall || c.Func.Name != "=" || !c.Func.IsOperator() {
		return nil, nil, false
	}
	p := f.outer.c.alike(c.Args[0], c.Args[1])
	if p.x.Type != p.v.Type {
		return nil, nil, false
	}
	for range 2 {
		if f.reads(p.x) && !readsBetween(p.x, 0, aggregateCol) && !f.reads(p.v) {
			return p.x, p.v, true
		}
		p.x, p.v = p.v, p.x
	}
	return nil, nil, false
}

// locals returns the sides of the conditions, all equalities, that are of the plan.
func (x *pulled) locals(f *frame) []*expr.Node {
	out := make([]*expr.Node, len(x.conds))
	for i, c := range x.conds {
		_, out[i], _ = f.equality(c)
	}
	return out
}

// byColumns returns the conditions over a plan whose first columns are the locals.
func (x *pulled) byColumns(f *frame) []*expr.Node {
	out := make([]*expr.Node, len(x.conds))
	for i, c := range x.conds {
		param, own, _ := f.equality(c)
		out[i] = mustEqual(param, expr.Column(i, own.Type, -1))
	}
	return out
}

func mustEqual(a, b *expr.Node) *expr.Node {
	n, err := expr.Operator("=", []*expr.Node{a, b}, -1)
	if err != nil {
		panic("sql: the two were compared before: " + err.Error())
	}
	return n
}

// settle makes outs plain columns of the plan, so that an outer join makes them NULL; false when they read parameters.
func (x *pulled) settle(f *frame) bool {
	plain := true
	for _, n := range x.outs {
		if f.reads(n) {
			return false
		}
		plain = plain && n.Kind == expr.KColumn
	}
	if plain {
		return true
	}
	exprs := append(columnsOf(x.plan), x.outs...)
	width := len(x.plan.Columns())
	x.plan = &flow.Project{In: x.plan, Exprs: exprs}
	x.outs = columnsOf(x.plan)[width:]
	return true
}

// materialized returns a plan with outs as its first columns and the locals of the conditions behind, and the conditions over
// it; false when that would read parameters. With reuse a local that is among outs already gets no column of its own.
func (x *pulled) materialized(f *frame, reuse bool) (pulled, bool) {
	if x.scalar || slices.ContainsFunc(x.outs, f.reads) {
		return pulled{}, false
	}
	n := len(x.outs)
	exprs := slices.Clone(x.outs)
	out := pulled{}
	for _, c := range x.conds {
		param, own, _ := f.equality(c)
		at := -1
		if own.Kind == expr.KColumn && reuse {
			at = slices.IndexFunc(x.outs, func(o *expr.Node) bool { return o.Kind == expr.KColumn && o.Col == own.Col })
		}
		if at < 0 {
			at = len(exprs)
			exprs = append(exprs, own)
		}
		out.conds = append(out.conds, mustEqual(param, expr.Column(at, own.Type, -1)))
	}
	out.plan = project(x.plan, exprs)
	out.outs = columnsOf(out.plan)[:n]
	return out, true
}

// partition adds the columns of the conditions, which are plain columns, to a partitioning.
func (x *pulled) partition(f *frame, cols []int) []int {
	cols = slices.Clone(cols)
	for _, own := range x.locals(f) {
		if !slices.Contains(cols, own.Col) {
			cols = append(cols, own.Col)
		}
	}
	return cols
}

func (f *frame) pullJoin(p *flow.Join, equal bool) (pulled, bool) {
	l, ok := f.pull(p.L, equal)
	if !ok || l.scalar {
		return l, false
	}
	r := whole(p.R)
	if f.readsPlan(p.R) {
		if r, ok = f.pull(p.R, equal); !ok || r.scalar || p.Kind != flow.InnerJoin {
			return r, false
		}
	}
	if p.Kind == flow.RightJoin || p.Kind == flow.FullJoin {
		return l, false
	}
	width := len(l.plan.Columns())
	outs := slices.Clone(l.outs)
	for _, n := range r.outs {
		outs = append(outs, shifted(n, width))
	}
	conds := l.conds
	for _, c := range r.conds {
		conds = append(conds, shifted(c, width))
	}
	var own []*expr.Node
	for _, c := range joinConds(p) {
		c = compose(c, outs)
		if !f.reads(c) {
			own = append(own, c)
			continue
		}
		_, _, is := f.equality(c)
		if p.Kind != flow.InnerJoin || equal && !is {
			return l, false
		}
		conds = append(conds, c)
	}
	if p.Kind == flow.SemiJoin || p.Kind == flow.AntiJoin {
		outs = outs[:len(l.outs)]
	}
	return pulled{plan: newJoin(p.Kind, l.plan, r.plan, own), outs: outs, conds: conds}, true
}

// pullAggregate groups by the sides of the equalities too.
func (f *frame) pullAggregate(p *flow.Aggregate) (pulled, bool) {
	x, ok := f.pull(p.In, true)
	if !ok || x.scalar {
		return x, false
	}
	bad := false
	of := func(n *expr.Node) *expr.Node {
		n = compose(n, x.outs)
		bad = bad || f.reads(n)
		return n
	}
	agg := mapPlan(p, func(int, flow.Plan) flow.Plan { return x.plan }, of).(*flow.Aggregate)
	if bad || p.Closes != nil {
		return x, false
	}
	first := len(agg.Keys)
	agg.Keys = append(agg.Keys, x.locals(f)...)
	out := pulled{plan: agg, scalar: first == 0 && len(p.Aggs) > 0}
	cols := columnsOf(agg)
	out.outs = slices.Concat(cols[:first], cols[len(agg.Keys):])
	for i, c := range x.conds {
		param, own, _ := f.equality(c)
		out.conds = append(out.conds, mustEqual(param, expr.Column(first+i, own.Type, -1)))
	}
	if out.scalar {
		for i, g := range p.Aggs {
			out.outs[i] = overNothing(g, out.outs[i])
		}
	}
	return out, true
}

// overNothing is an aggregate's column where NULL stands for a group that is not there.
func overNothing(g flow.Agg, col *expr.Node) *expr.Node {
	switch g.Func {
	case flow.CountRows, flow.Count, flow.ApproxDistinct:
		n, err := expr.Coalesce([]*expr.Node{col, expr.Const(app.Int8, change.Int(0), -1)}, -1)
		if err != nil {
			panic("sql: counts are bigint: " + err.Error())
		}
		return n
	}
	return col
}

func (f *frame) pullTop(p *flow.TopN) (pulled, bool) {
	x, ok := f.pull(p.In, true)
	if !ok {
		return x, false
	}
	if x, ok = x.materialized(f, true); !ok {
		return x, false
	}
	n := len(x.outs)
	t := *p
	t.In = x.plan
	t.Partition = x.partition(f, p.Partition)
	x.plan = &t
	cols := columnsOf(&t)
	x.outs = cols[:n:n]
	if p.Number {
		x.outs = append(x.outs, cols[len(cols)-1])
	}
	return x, true
}

func (f *frame) pullOver(p *flow.Over) (pulled, bool) {
	x, ok := f.pull(p.In, true)
	if !ok {
		return x, false
	}
	if x, ok = x.materialized(f, true); !ok {
		return x, false
	}
	bad := false
	eachExpr(p, func(n *expr.Node) { bad = bad || f.reads(n) })
	if bad {
		return x, false
	}
	n := len(x.outs)
	o := *p
	o.In = x.plan
	o.Partition = x.partition(f, p.Partition)
	width := len(x.plan.Columns())
	x.plan = &o
	cols := columnsOf(&o)
	x.outs = slices.Concat(cols[:n], cols[width:])
	return x, true
}

// pullUnion takes the same equalities out of every branch.
func (f *frame) pullUnion(p *flow.Union) (pulled, bool) {
	var out pulled
	params := ""
	u := &flow.Union{}
	for i, in := range p.Ins {
		x, ok := f.pull(in, true)
		if !ok {
			return x, false
		}
		slices.SortStableFunc(x.conds, func(a, b *expr.Node) int {
			pa, _, _ := f.equality(a)
			pb, _, _ := f.equality(b)
			return strings.Compare(pa.String(), pb.String())
		})
		text := ""
		for _, c := range x.conds {
			param, own, _ := f.equality(c)
			text += param.String() + " " + own.Type.String() + "\n"
		}
		if x, ok = x.materialized(f, false); !ok || i > 0 && text != params {
			return x, false
		}
		u.Ins = append(u.Ins, x.plan)
		out, params = x, text
	}
	out.plan = u
	out.outs = columnsOf(u)[:len(out.outs)]
	return out, true
}
