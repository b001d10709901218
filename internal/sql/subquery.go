package sql

import (
	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

// sub is a sub-query in an expression, which stands there as the column subCol and its index in [query.subs]. When it is
// joined to the query, node says what the column is.
type sub struct {
	f      *frame
	plan   flow.Plan
	kind   subKind
	pairs  []pair // of in
	typ    app.Type
	name   string // of a value's column
	at     syntax.Span
	node   *expr.Node // over the plan of the query; nil: not joined yet
	tested bool       // made a semi or anti join
}

type subKind uint8

const (
	scalarSub subKind = iota // the one value of the first column
	existsSub
	inSub // pairs compare equal
)

// pair is one comparison of x IN (query): x over the query around, v over the columns of the sub-query, of one type.
type pair struct{ x, v *expr.Node }

// each replaces what the sub-query reads of the query around it.
func (s *sub) each(f func(n *expr.Node) *expr.Node) {
	if s.node != nil || s.tested {
		return
	}
	for i, n := range s.f.nodes {
		s.f.nodes[i] = f(n)
	}
	for i := range s.pairs {
		s.pairs[i].x = f(s.pairs[i].x)
	}
}

// bindSub plans the query of an expression.
func (b *binder) bindSub(sel *syntax.Select, at syntax.Span, keepHidden bool) (*frame, *bound) {
	if b.policy {
		b.c.fail(firstLine(b.c.src, at), "the form is "+membershipForm, "this sub-query is not supported in a policy")
	}
	if b.q == nil {
		b.c.fail(firstLine(b.c.src, at), "", "a sub-query is not allowed in %s", b.clause)
	}
	f := b.c.newFrame(b)
	in := b.c.bindInner(sel, f, b.q.with, keepHidden)
	return f, in
}

func (b *binder) addSub(s *sub) *expr.Node {
	b.q.subs = append(b.q.subs, s)
	return expr.Column(subCol+len(b.q.subs)-1, s.typ, s.at.Pos)
}

// subQuery binds (SELECT ..), EXISTS (SELECT ..) and ARRAY(SELECT ..).
func (b *binder) subQuery(e *syntax.SubQuery) *expr.Node {
	f, in := b.bindSub(e.Query, e.Span, e.Kind == syntax.ToArray)
	s := &sub{f: f, plan: in.plan, at: e.Span}
	if e.Kind == syntax.Exists {
		s.kind, s.typ = existsSub, app.Bool
		return b.addSub(s)
	}
	if len(in.cols) != 1 {
		b.c.fail(firstLine(b.c.src, e.Span), "", "a sub-query in an expression must return one column, not %d", len(in.cols))
	}
	s.typ, s.name = in.cols[0].Type, in.cols[0].Name
	if e.Kind == syntax.ToArray {
		s.typ = app.Array(s.typ)
		s.plan = b.arrayOf(in, s.typ, e)
	}
	return b.addSub(s)
}

// arrayOf collects the rows of a query in its order.
func (b *binder) arrayOf(in *bound, t app.Type, e *syntax.SubQuery) flow.Plan {
	if in.cols[0].Type.IsArray() {
		b.c.fail(firstLine(b.c.src, e.Span), "", "arrays of arrays are not supported")
	}
	cols := columnsOf(in.plan)
	g := flow.Agg{Func: flow.ArrayAgg, Arg: cols[0], Type: t}
	for _, o := range in.order {
		g.Sort = append(g.Sort, flow.SortKey{X: cols[o.Column], Desc: o.Desc, NullsFirst: o.NullsFirst})
	}
	agg := &flow.Aggregate{In: in.plan, Aggs: []flow.Agg{g}}
	empty, err := expr.Cast(expr.StringLit("{}", e.Pos), t, e.Pos)
	empty = b.c.must(empty, err, e.Span)
	n, err := expr.Coalesce([]*expr.Node{expr.Column(0, t, -1), empty}, e.Pos)
	return &flow.Project{In: agg, Exprs: []*expr.Node{b.c.must(n, err, e.Span)}}
}

// inQuery binds x [NOT] IN (SELECT ..), with several columns (x, y) IN (SELECT ..).
func (b *binder) inQuery(e *syntax.In) *expr.Node {
	n := b.equalAny(e.X, e.Query, e.Span)
	if e.Not {
		not, err := expr.Not(n, e.Pos)
		return b.c.must(not, err, e.Span)
	}
	return n
}

func (b *binder) equalAny(x syntax.Expr, query *syntax.Select, at syntax.Span) *expr.Node {
	xs := []syntax.Expr{x}
	if row, ok := x.(*syntax.Row); ok {
		xs = row.Items
	}
	nodes := b.list(xs)
	f, in := b.bindSub(query, at, false)
	if len(in.cols) != len(nodes) {
		b.c.fail(firstLine(b.c.src, at), "", "the sub-query must return %s, not %d", plural(len(nodes), "column"), len(in.cols))
	}
	s := &sub{f: f, plan: in.plan, kind: inSub, typ: app.Bool, at: at}
	for i, v := range columnsOf(in.plan) {
		s.pairs = append(s.pairs, b.pairOf(nodes[i], v, xs[i].At()))
	}
	return b.addSub(s)
}

// pairOf makes two values comparable as x = v would.
func (b *binder) pairOf(x, v *expr.Node, at syntax.Span) pair {
	eq, err := expr.Operator("=", []*expr.Node{x, v}, at.Pos)
	eq = b.c.must(eq, err, at)
	if eq.Kind != expr.KCall || len(eq.Args) != 2 {
		return pair{x, v}
	}
	return b.c.alike(eq.Args[0], eq.Args[1])
}

// alike casts two values that = compares to one type.
func (c *compiler) alike(x, v *expr.Node) pair {
	if x.Type == v.Type {
		return pair{x, v}
	}
	t, err := expr.CommonType([]*expr.Node{x, v}, "=")
	if err != nil {
		return pair{x, v}
	}
	a, err1 := expr.Implicit(x, t, x.Pos)
	d, err2 := expr.Implicit(v, t, v.Pos)
	if err1 != nil || err2 != nil {
		return pair{x, v}
	}
	return pair{a, d}
}

// quantified binds x op ANY (SELECT ..) and x op ALL (SELECT ..).
func (b *binder) quantified(e *syntax.Quantified) *expr.Node {
	c := b.c
	switch {
	case e.Name == "=" && !e.All:
		return b.equalAny(e.L, e.Query, e.Span)
	case (e.Name == "<>" || e.Name == "!=") && e.All:
		n, err := expr.Not(b.equalAny(e.L, e.Query, e.Span), e.Pos)
		return c.must(n, err, e.Span)
	}
	x := b.expr(e.L)
	f, in := b.bindSub(e.Query, e.Span, false)
	if len(in.cols) != 1 {
		c.fail(firstLine(c.src, e.Span), "", "the sub-query must return one column, not %d", len(in.cols))
	}
	cmp, err := expr.Operator(e.Name, []*expr.Node{f.param(expr.Settle(x), e.Span), expr.Column(0, in.cols[0].Type, -1)}, e.Pos)
	cmp, err = expr.Condition(c.must(cmp, err, e.Span), "ANY/ALL")
	cmp = c.must(cmp, err, e.Span)
	// Three values: decided by one row, else unknown by one row, else the value over no rows.
	decides, rest := cmp, expr.BoolLit(false, -1)
	if e.All {
		decides, err = expr.Not(cmp, -1)
		decides, rest = c.must(decides, err, e.Span), expr.BoolLit(true, -1)
	}
	count := func(cond *expr.Node) flow.Agg { return flow.Agg{Func: flow.CountRows, Filter: cond, Type: app.Int8} }
	agg := &flow.Aggregate{In: in.plan, Aggs: []flow.Agg{count(decides), count(expr.IsNull(cmp, false, -1))}}
	some := func(i int) *expr.Node {
		n, err := expr.Operator(">", []*expr.Node{expr.Column(i, app.Int8, -1), expr.Const(app.Int8, change.Int(0), -1)}, -1)
		return c.must(n, err, e.Span)
	}
	n, err := expr.Case(nil, []expr.When{{Cond: some(0), Then: expr.BoolLit(!e.All, -1)},
		{Cond: some(1), Then: expr.Const(app.Bool, change.Null(), -1)}}, rest, e.Pos)
	plan := &flow.Project{In: agg, Exprs: []*expr.Node{c.must(n, err, e.Span)}}
	return b.addSub(&sub{f: f, plan: plan, typ: app.Bool, at: e.Span})
}

// test is a condition that is a sub-query alone: EXISTS, IN, and their negations.
type test struct {
	*sub
	not bool
}

// testOf recognises a condition that a semi or anti join decides.
func (q *query) testOf(n *expr.Node) (test, bool) {
	not := false
	for n.Kind == expr.KNot {
		n, not = n.Args[0], !not
	}
	if n.Kind != expr.KColumn || n.Col < subCol || n.Col >= paramCol {
		return test{}, false
	}
	s := q.subs[n.Col-subCol]
	if s.kind == scalarSub || s.node != nil || not && len(s.pairs) > 1 {
		return test{}, false
	}
	return test{s, not}, true
}

// joinTest keeps the rows for which a test holds.
func (q *query) joinTest(in flow.Plan, t test) flow.Plan {
	t.tested = true
	in = q.joinSubsOf(in, t.f.nodes)
	t.placeIn(q)
	var xs []*expr.Node
	for _, p := range t.pairs {
		xs = append(xs, p.x)
	}
	in = q.joinSubsOf(in, xs)
	t.placeIn(q)
	width := len(in.Columns())
	if t.kind == existsSub {
		return t.f.apply(semi(t.not), in, t.plan, nil)
	}
	var eqs []*expr.Node
	for _, p := range t.pairs {
		eqs = append(eqs, q.c.equal(p.x, shifted(p.v, width)))
	}
	if !t.not {
		return t.f.apply(flow.SemiJoin, in, t.plan, eqs)
	}
	return q.notIn(in, t, eqs[0])
}

func semi(not bool) flow.JoinKind {
	if not {
		return flow.AntiJoin
	}
	return flow.SemiJoin
}

// notIn keeps the rows of x NOT IN (query): no equal value, no NULL among the values, and x itself NULL only over no values.
func (q *query) notIn(in flow.Plan, t test, eq *expr.Node) flow.Plan {
	p, width := t.pairs[0], len(in.Columns())
	xNever, vNever := neverNull(p.x, q.c.factsOf(in).notNull), neverNull(p.v, q.c.factsOf(t.plan).notNull)
	out := t.f.apply(flow.AntiJoin, in, t.plan, []*expr.Node{eq})
	if !vNever {
		out = t.f.apply(flow.AntiJoin, out, t.plan, []*expr.Node{expr.IsNull(shifted(p.v, width), false, -1)})
	}
	if !xNever {
		out = t.f.apply(flow.AntiJoin, out, t.plan, []*expr.Node{expr.IsNull(p.x, false, -1)})
	}
	return out
}

// equal makes x = v.
func (c *compiler) equal(x, v *expr.Node) *expr.Node {
	n, err := expr.Operator("=", []*expr.Node{x, v}, x.Pos)
	return c.must(n, err, syntax.Span{Pos: max(x.Pos, 0), End: max(x.Pos, 0)})
}

// placeIn puts what is known of other sub-queries into what this one reads.
func (s *sub) placeIn(q *query) {
	for i, n := range s.f.nodes {
		s.f.nodes[i] = q.placed(n)
	}
	for i, p := range s.pairs {
		s.pairs[i].x = q.placed(p.x)
	}
}

// placed puts in the columns of sub-queries that are joined.
func (q *query) placed(n *expr.Node) *expr.Node {
	return rewriteColumns(n, func(col *expr.Node) *expr.Node {
		if subCol <= col.Col && col.Col < paramCol {
			return q.subs[col.Col-subCol].node
		}
		return nil
	})
}

// joinInner joins the sub-queries in keys and arguments of aggregates, before the rows are grouped.
func (q *query) joinInner(in flow.Plan) flow.Plan {
	var list []*expr.Node
	list = append(list, q.keys...)
	for _, g := range q.aggs.list {
		mapAgg(g, func(n *expr.Node) *expr.Node {
			list = append(list, n)
			return n
		})
	}
	in = q.joinSubsOf(in, list)
	for i, k := range q.keys {
		if n := q.placed(k); n != k {
			q.keys[i], q.keyText[i] = n, n.String()
		}
	}
	q.aggs.list = mapAggs(q.aggs.list, q.placed)
	q.each(func(n *expr.Node, _ span) *expr.Node { return q.placed(n) })
	return in
}

// joinSubs joins the sub-queries in what is computed of a group or row: all of them, or those that read no window function.
func (q *query) joinSubs(in flow.Plan, all bool) flow.Plan {
	var list []*expr.Node
	q.each(func(n *expr.Node, _ span) *expr.Node {
		list = append(list, n)
		return n
	})
	if !all {
		kept := list[:0]
		for _, n := range list {
			if !q.readsWindows(n) {
				kept = append(kept, n)
			}
		}
		list = kept
	}
	in = q.joinSubsOf(in, list)
	q.each(func(n *expr.Node, _ span) *expr.Node { return q.placed(n) })
	return in
}

// readsWindows reports whether a sub-query in n reads a window function.
func (q *query) readsWindows(n *expr.Node) bool {
	found := false
	n.Columns(func(i int) {
		if subCol <= i && i < paramCol {
			s := q.subs[i-subCol]
			s.each(func(n *expr.Node) *expr.Node {
				found = found || readsBetween(n, overCol, subCol) || q.readsWindows(n)
				return n
			})
		}
	})
	return found
}

// joinSubsOf joins the sub-queries that expressions read.
func (q *query) joinSubsOf(in flow.Plan, list []*expr.Node) flow.Plan {
	for _, n := range list {
		var subs []*sub
		n.Columns(func(i int) {
			if subCol <= i && i < paramCol {
				subs = append(subs, q.subs[i-subCol])
			}
		})
		for _, s := range subs {
			if s.node != nil {
				continue
			}
			var reads []*expr.Node
			s.each(func(n *expr.Node) *expr.Node {
				reads = append(reads, n)
				return n
			})
			in = q.joinSubsOf(in, reads)
			s.placeIn(q)
			in = q.joinSub(in, s)
		}
	}
	return in
}

// joinSub adds the columns that give a sub-query its value.
func (q *query) joinSub(in flow.Plan, s *sub) flow.Plan {
	switch s.kind {
	case scalarSub:
		in, s.node = s.f.value(in, s.plan)
	case existsSub:
		in, s.node = s.f.exists(in, s.plan, nil)
	case inSub:
		in, s.node = q.member(in, s)
	}
	return in
}

// member computes x IN (query) with its three values.
func (q *query) member(in flow.Plan, s *sub) (flow.Plan, *expr.Node) {
	in, found := s.f.exists(in, s.plan, s.pairs)
	var unknown []*expr.Node
	notNull, inner := q.c.factsOf(in).notNull, q.c.factsOf(s.plan).notNull
	xs, vs := false, false
	for _, p := range s.pairs {
		xs, vs = xs || !neverNull(p.x, notNull), vs || !neverNull(p.v, inner)
	}
	if (xs || vs) && len(s.pairs) > 1 {
		q.c.fail(firstLine(q.c.src, s.at), "use it alone in WHERE, or compare columns that are NOT NULL", "this use of IN with several columns that may be NULL is not supported")
	}
	if vs {
		nulls := filter(s.plan, []*expr.Node{expr.IsNull(s.pairs[0].v, false, -1)})
		var n *expr.Node
		in, n = s.f.exists(in, nulls, nil)
		unknown = append(unknown, n)
	}
	if xs {
		var n *expr.Node
		in, n = s.f.exists(in, s.plan, nil)
		and, err := expr.And([]*expr.Node{expr.IsNull(s.pairs[0].x, false, -1), n}, -1)
		unknown = append(unknown, q.c.must(and, err, s.at))
	}
	if len(unknown) == 0 {
		return in, found
	}
	or, err := expr.Or(unknown, -1)
	or = q.c.must(or, err, s.at)
	n, err := expr.Case(nil, []expr.When{{Cond: found, Then: expr.BoolLit(true, -1)}, {Cond: or, Then: expr.Const(app.Bool, change.Null(), -1)}},
		expr.BoolLit(false, -1), -1)
	return in, q.c.must(n, err, s.at)
}
