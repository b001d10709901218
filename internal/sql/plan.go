package sql

import (
	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// plan puts the operators together once everything is bound without errors.
func (q *query) plan() *bound {
	in, where := q.gates(q.from.plan, q.where)
	in = q.filter(in, where)
	q.grouped = len(q.sel.GroupBy) > 0 || len(q.keys) > 0 || len(q.aggs.list) > 0 || len(q.having) > 0
	if q.grouped {
		in = q.joinInner(in)
		in = q.group(in)
	}
	in, q.having = q.gates(in, q.having)
	in = q.filter(in, q.having)
	q.having = nil
	in = q.joinSubs(in, false)
	in = q.windows(in)
	in = q.joinSubs(in, true)
	return q.results(in)
}

// results computes the select list, and what stands behind it: DISTINCT, ORDER BY, LIMIT.
func (q *query) results(in flow.Plan) *bound {
	b := &bound{}
	limited := q.limit >= 0 || q.offset > 0
	b.order, b.unseen = q.visibleOrder()
	if !limited && !q.keepHidden && len(q.sel.UniqueOn) == 0 { // the order is for readers alone: nothing is computed for it
		q.hidden = nil
	}
	notNull := q.c.factsOf(in).notNull
	exprs := make([]*expr.Node, 0, len(q.targets)+len(q.hidden))
	for _, t := range q.targets {
		exprs = append(exprs, t.node)
		b.cols = append(b.cols, app.Column{Name: t.name, Type: t.node.Type, NotNull: neverNull(t.node, notNull)})
		b.spans = append(b.spans, t.nameAt)
		b.open = append(b.open, t.open)
	}
	exprs = append(exprs, q.hidden...)
	b.plan = project(in, exprs)
	if q.sel.Unique && len(q.sel.UniqueOn) == 0 {
		b.plan = q.distinct(b.plan)
	}
	b.plan = q.distinctOn(b.plan)
	if limited {
		b.plan = q.topN(b.plan)
	}
	switch {
	case q.keepHidden:
		b.hidden, b.order = len(q.hidden), q.sort
	case len(q.hidden) > 0:
		b.plan = firstColumns(b.plan, len(q.targets))
	}
	return b
}

// distinct removes duplicates, unless there cannot be any.
func (q *query) distinct(in flow.Plan) flow.Plan {
	for _, k := range q.c.factsOf(in).keys {
		if len(k.relies) == 0 {
			return in
		}
	}
	return distinctRows(in)
}

// distinctRows keeps each row once.
func distinctRows(in flow.Plan) flow.Plan {
	if len(in.Columns()) == 0 {
		return &flow.TopN{In: in, Limit: 1}
	}
	return &flow.Aggregate{In: in, Keys: columnsOf(in)}
}

// filter keeps the rows for which all conditions hold. EXISTS and IN on their own become semi and anti joins.
func (q *query) filter(in flow.Plan, conds []*expr.Node) flow.Plan {
	var plain, late []*expr.Node
	var tests []test
	for _, n := range conds {
		switch t, ok := q.testOf(n); {
		case ok:
			tests = append(tests, t)
		case readsBetween(n, subCol, paramCol):
			late = append(late, n)
		default:
			plain = append(plain, n)
		}
	}
	in = filter(in, plain)
	for _, t := range tests {
		in = q.joinTest(in, t)
	}
	if len(late) == 0 {
		return in
	}
	in = q.joinSubsOf(in, late)
	for i, n := range late {
		late[i] = q.placed(n)
	}
	return filter(in, late)
}
