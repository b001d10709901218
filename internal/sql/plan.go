package sql

import (
	"slices"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// plan puts the operators together once everything is bound without errors.
func (q *query) plan() *bound {
	in := q.from.plan
	if q.where != nil {
		in = &flow.Filter{In: in, Cond: q.where}
	}
	b := &bound{appendOnly: q.from.appendOnly}
	q.grouped = len(q.keys) > 0 || len(q.aggs.list) > 0 || q.having != nil
	if q.grouped {
		in = q.group(in)
		b.appendOnly = false
	}
	limited := q.limit >= 0 || q.offset > 0
	b.order, b.unseen = q.visibleOrder()
	if !limited { // the order is for readers alone: nothing is computed for it
		q.hidden = nil
	}
	exprs := make([]*expr.Node, 0, len(q.targets)+len(q.hidden))
	for _, t := range q.targets {
		exprs = append(exprs, t.node)
		b.cols = append(b.cols, app.Column{Name: t.name, Type: t.node.Type, NotNull: q.notNull(t.node)})
		b.spans = append(b.spans, t.nameAt)
	}
	exprs = append(exprs, q.hidden...)
	q.inferKey(b)
	b.plan = project(in, exprs)
	if q.sel.Unique {
		q.distinct(b)
	}
	if limited {
		b.plan = q.topN(b.plan)
		b.appendOnly = false
	}
	if len(q.hidden) > 0 {
		b.plan = firstColumns(b.plan, len(q.targets))
	}
	return b
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

// firstColumns takes off hidden columns.
func firstColumns(in flow.Plan, n int) flow.Plan {
	types := in.Columns()
	exprs := make([]*expr.Node, n)
	for i := range exprs {
		exprs[i] = expr.Column(i, types[i], -1)
	}
	return &flow.Project{In: in, Exprs: exprs}
}

// group adds the Aggregate and HAVING, and rewrites all that is computed from groups.
func (q *query) group(in flow.Plan) flow.Plan {
	agg := &flow.Aggregate{In: in, Aggs: q.aggs.list, AppendOnly: q.from.appendOnly}
	before := q.c.bad
	for i := range q.targets {
		t := &q.targets[i]
		q.c.try(func() { t.node = q.regroup(t.node, t.at) })
	}
	for i, h := range q.hidden {
		q.c.try(func() { q.hidden[i] = q.regroup(h, q.c.wordAt(max(h.Pos, 0))) })
	}
	if q.having != nil {
		q.c.try(func() { q.having = q.regroup(q.having, q.sel.Having.At()) })
	}
	if q.c.bad > before {
		panic(bail{})
	}
	// regroup may have added keys that depend on the others: aggregates stand behind all keys.
	agg.Keys = q.keys
	if q.limit < 0 && q.offset == 0 && q.needed+len(q.keys) > 0 {
		agg.Aggs = q.aggs.list[:q.needed]
	}
	if len(agg.Keys)+len(agg.Aggs) == 0 { // HAVING alone: one group all the same
		agg.Aggs = []flow.Agg{{Func: flow.CountRows, Type: app.Int8}}
	}
	shift := func(n *expr.Node) *expr.Node { return shiftAggregates(n, len(q.keys)) }
	for i := range q.targets {
		q.targets[i].node = shift(q.targets[i].node)
		q.targets[i].text = q.targets[i].node.String()
	}
	for i := range q.hidden {
		q.hidden[i] = shift(q.hidden[i])
	}
	if q.having == nil {
		return agg
	}
	return &flow.Filter{In: agg, Cond: shift(q.having)}
}

// groupCol is where keys stand while regroup works, so that they are not taken for columns of FROM.
const groupCol = 1 << 21

// regroup rewrites an expression over FROM's columns to one over the groups: what equals a key becomes the key. A column
// that is neither is an error, unless the keys decide it.
func (q *query) regroup(n *expr.Node, at span) *expr.Node {
	if i := q.keyOf(n); i >= 0 {
		return expr.Column(groupCol+i, n.Type, n.Pos)
	}
	if n.Kind == expr.KColumn {
		if n.Col >= aggregateCol {
			return n
		}
		return q.dependent(n, at)
	}
	if len(n.Args) == 0 {
		return n
	}
	copied := *n
	copied.Args = make([]*expr.Node, len(n.Args))
	for i, a := range n.Args {
		copied.Args[i] = q.regroup(a, at)
	}
	return &copied
}

// keyOf returns which key n is, or -1. Texts are long and compared last.
func (q *query) keyOf(n *expr.Node) int {
	for i, k := range q.keys {
		if n.Kind == k.Kind && n.Kind != expr.KConst && n.Type == k.Type && len(n.Args) == len(k.Args) && size(n) == size(k) && n.String() == q.keyText[i] {
			return i
		}
	}
	return -1
}

func size(n *expr.Node) int {
	total := 1
	for _, a := range n.Args {
		total += size(a)
	}
	return total
}

// dependent adds a column as a key when GROUP BY has the whole key of FROM, which decides it.
func (q *query) dependent(n *expr.Node, at span) *expr.Node {
	covered := q.from.direct && q.from.unique && q.explicit > 0
	for _, k := range q.from.key {
		covered = covered && slices.ContainsFunc(q.keys[:q.explicit], func(x *expr.Node) bool { return x.Kind == expr.KColumn && x.Col == k })
	}
	if !covered {
		if n.Pos >= 0 {
			at = q.c.wordAt(n.Pos)
		}
		name := q.scope.columns()[n.Col].Name
		hint := "add it to GROUP BY, or say which of its values you mean: min(" + name + ")"
		if len(q.keys) == 0 {
			hint = "add GROUP BY " + name + ", or say which of its values you mean: min(" + name + ")"
		}
		q.c.fail(at, hint, "column %s must be in GROUP BY or inside an aggregate", quoted(name))
	}
	for _, r := range q.from.relies {
		r.table.Kept = true
	}
	q.keys, q.keyText = append(q.keys, n), append(q.keyText, n.String())
	return expr.Column(groupCol+len(q.keys)-1, n.Type, n.Pos)
}

// shiftAggregates replaces the provisional columns by the real ones of the Aggregate.
func shiftAggregates(n *expr.Node, keys int) *expr.Node {
	if n.Kind == expr.KColumn {
		if n.Col >= groupCol {
			return expr.Column(n.Col-groupCol, n.Type, n.Pos)
		}
		return expr.Column(keys+n.Col-aggregateCol, n.Type, n.Pos)
	}
	if len(n.Args) == 0 {
		return n
	}
	copied := *n
	copied.Args = make([]*expr.Node, len(n.Args))
	for i, a := range n.Args {
		copied.Args[i] = shiftAggregates(a, keys)
	}
	return &copied
}

// inferKey finds result columns that identify a row. The nodes are over the columns of in.
func (q *query) inferKey(b *bound) {
	var key []int
	switch {
	case q.grouped:
		for i, k := range q.keys[:q.explicit] {
			if k.Kind != expr.KConst { // a constant tells no groups apart
				key = append(key, i)
			}
		}
		b.unique = true
	case q.from.unique:
		key, b.unique, b.relies = q.from.key, true, q.from.relies
	default:
		return
	}
	b.key = []int{}
	for _, k := range key {
		i := slices.IndexFunc(q.targets, func(t target) bool { return t.node.Kind == expr.KColumn && t.node.Col == k })
		if i < 0 {
			b.key, b.unique, b.relies = nil, false, nil
			return
		}
		b.key = append(b.key, i)
	}
}

// distinct removes duplicates, unless there cannot be any.
func (q *query) distinct(b *bound) {
	if b.unique && len(b.relies) == 0 {
		return
	}
	agg := &flow.Aggregate{In: b.plan, AppendOnly: b.appendOnly}
	b.key, b.unique, b.relies = nil, true, nil
	for i, t := range b.plan.Columns() {
		agg.Keys = append(agg.Keys, expr.Column(i, t, -1))
		b.key = append(b.key, i)
	}
	b.plan = agg
}

// notNull reports whether a result column is never NULL: only what is certain.
func (q *query) notNull(n *expr.Node) bool {
	switch n.Kind {
	case expr.KConst:
		return !n.Value.Null
	case expr.KIsNull, expr.KDistinct:
		return true
	case expr.KCoalesce:
		return slices.ContainsFunc(n.Args, q.notNull)
	case expr.KAnd, expr.KOr, expr.KNot, expr.KCast:
		return !slices.ContainsFunc(n.Args, func(a *expr.Node) bool { return !q.notNull(a) })
	case expr.KColumn:
		if !q.grouped {
			return q.from.cols[n.Col].NotNull
		}
		if n.Col < len(q.keys) {
			return q.keys[n.Col].Kind == expr.KColumn && q.from.cols[q.keys[n.Col].Col].NotNull
		}
		f := q.aggs.list[n.Col-len(q.keys)].Func
		return f == flow.Count || f == flow.CountRows
	}
	return false
}
