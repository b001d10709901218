package sql

import (
	"slices"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

// bindGroups binds GROUP BY. An item is a column of FROM, or else a name or number of the select list, or an expression.
func (q *query) bindGroups() {
	if len(q.sel.GroupBy) > 0 {
		q.c.try(func() { q.sets.list = q.groupingSets(q.sel.GroupBy) })
	}
	if q.sel.GroupUnique {
		q.sets.unique()
	}
	q.explicit = len(q.keys)
	for i := range q.keys {
		if q.sets.all(i) {
			q.sets.common = append(q.sets.common, i)
		}
	}
}

// addKey binds one expression of GROUP BY and returns which key it is.
func (q *query) addKey(e syntax.Expr) int {
	n := q.groupItem(e)
	text := n.String()
	if i := slices.Index(q.keyText, text); i >= 0 {
		return i
	}
	q.keys, q.keyText = append(q.keys, n), append(q.keyText, text)
	return len(q.keys) - 1
}

func (q *query) groupItem(e syntax.Expr) *expr.Node {
	b := q.binder("GROUP BY", false)
	switch e := e.(type) {
	case *syntax.ColumnRef:
		if len(e.Names) == 1 && !e.Star && !slices.Contains(q.scope.names(), e.Names[0].Text) {
			if t := q.named(e.Names[0].Text, e.Span); t != nil {
				return q.groupTarget(t, e.Span)
			}
		}
	case *syntax.Literal:
		return q.groupTarget(q.ordinal(e, "GROUP BY"), e.Span)
	}
	return expr.Settle(b.expr(e))
}

func (q *query) groupTarget(t *target, at syntax.Span) *expr.Node {
	if readsBetween(t.node, aggregateCol, groupCol) {
		q.c.fail(at, "", "aggregate functions are not allowed in GROUP BY")
	}
	if readsBetween(t.node, overCol, subCol) {
		q.c.fail(at, "compute it in FROM (SELECT ..) and group outside", "window functions are not allowed in GROUP BY")
	}
	return t.node
}

// group adds the Aggregate, one for each grouping set, and rewrites all that is computed from groups.
func (q *query) group(in flow.Plan) flow.Plan {
	before := q.c.bad
	q.findGroupings()
	q.each(func(n *expr.Node, at span) *expr.Node {
		q.c.try(func() { n = q.regroup(n, at) })
		return n
	})
	if q.c.bad > before {
		panic(bail{})
	}
	q.groupByEnds()
	used := q.usedAggregates()
	// regroup may have added keys that depend on the others: aggregates stand behind all keys.
	place := make([]int, len(q.aggs.list))
	var aggs []flow.Agg
	for i, g := range q.aggs.list {
		if used[i] {
			place[i] = len(q.keys) + len(aggs)
			aggs = append(aggs, g)
		}
	}
	groupings := len(q.keys) + len(aggs)
	q.each(func(n *expr.Node, _ span) *expr.Node {
		return rewriteColumns(n, func(n *expr.Node) *expr.Node {
			switch {
			case groupCol <= n.Col && n.Col < overCol:
				return expr.Column(n.Col-groupCol, n.Type, n.Pos)
			case groupingCol <= n.Col && n.Col < groupCol:
				return expr.Column(groupings+n.Col-groupingCol, n.Type, n.Pos)
			case aggregateCol <= n.Col && n.Col < groupingCol:
				return expr.Column(place[n.Col-aggregateCol], n.Type, n.Pos)
			}
			return nil
		})
	})
	if !q.sets.several() && len(q.sets.calls) == 0 {
		return aggregate(in, q.keys, aggs)
	}
	return q.union(in, aggs)
}

// groupByEnds has groups by the start of a window be groups by its end, too, which is one and the same: by the end the watermark closes them.
func (q *query) groupByEnds() {
	if q.sets.several() {
		return
	}
	for _, s := range q.scope.sources {
		n := len(s.nodes)
		if !s.fixed || s.nodes[n-1].Kind != expr.KColumn {
			continue
		}
		start, end := s.nodes[n-2], s.nodes[n-1]
		if slices.Contains(q.keyText, start.String()) && !slices.Contains(q.keyText, end.String()) {
			q.keys, q.keyText = append(q.keys, end), append(q.keyText, end.String())
		}
	}
}

// aggregate groups. Without keys and aggregates there is one group all the same.
func aggregate(in flow.Plan, keys []*expr.Node, aggs []flow.Agg) flow.Plan {
	if len(keys)+len(aggs) == 0 {
		aggs = []flow.Agg{{Func: flow.CountRows, Type: app.Int8}}
	}
	return &flow.Aggregate{In: in, Keys: keys, Aggs: aggs}
}

// usedAggregates says which aggregates something reads. An ORDER BY that is for readers alone does not count.
func (q *query) usedAggregates() []bool {
	if !q.ordersInside() {
		q.hidden = nil
	}
	used := make([]bool, len(q.aggs.list))
	q.each(func(n *expr.Node, _ span) *expr.Node {
		n.Columns(func(i int) {
			if aggregateCol <= i && i < groupingCol {
				used[i-aggregateCol] = true
			}
		})
		return n
	})
	return used
}

// ordersInside reports whether the order decides which rows there are, or who reads the result needs it.
func (q *query) ordersInside() bool {
	return q.limit >= 0 || q.offset > 0 || q.keepHidden || len(q.sel.UniqueOn) > 0
}

// regroup rewrites an expression over FROM's columns to one over the groups: what equals a key becomes the key. A column
// that is neither is an error, unless the keys decide it.
func (q *query) regroup(n *expr.Node, at span) *expr.Node {
	return rewrite(n, func(n *expr.Node) *expr.Node {
		if i := q.keyOf(n); i >= 0 {
			return expr.Column(groupCol+i, n.Type, n.Pos)
		}
		if n.Kind == expr.KColumn {
			if n.Col >= aggregateCol {
				return n
			}
			return q.dependent(n, at)
		}
		return nil
	})
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

// dependent adds a column as a key when GROUP BY has the whole key of its table, which decides it.
func (q *query) dependent(n *expr.Node, at span) *expr.Node {
	common := make([]*expr.Node, len(q.sets.common))
	for i, k := range q.sets.common {
		common[i] = q.keys[k]
	}
	relies, decided := q.decided(n.Col, common)
	if !decided {
		if n.Pos >= 0 {
			at = q.c.wordAt(n.Pos)
		}
		name := q.scope.nameOf(n.Col)
		hint := "add it to GROUP BY, or say which of its values you mean: min(" + name + ")"
		if len(q.keys) == 0 {
			hint = "add GROUP BY " + name + ", or say which of its values you mean: min(" + name + ")"
		}
		q.c.fail(at, hint, "column %s must be in GROUP BY or inside an aggregate", quoted(name))
	}
	for _, r := range relies {
		r.table.Kept = true
	}
	q.keys, q.keyText = append(q.keys, n), append(q.keyText, n.String())
	return expr.Column(groupCol+len(q.keys)-1, n.Type, n.Pos)
}
