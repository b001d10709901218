package sql

import (
	"slices"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

// groupingCol and up stand for calls of GROUPING until the groups have their columns.
const groupingCol = aggregateCol + 1<<19

// maxSets bounds the grouping sets of one query: each is an aggregation of its own.
const maxSets = 128

// groupSets is what GROUP BY groups by: one set of keys, or several.
type groupSets struct {
	list   [][]int // indexes of keys, ascending
	common []int   // keys that are in every set
	calls  []groupingCall
}

// groupingCall is a call of GROUPING.
type groupingCall struct {
	expr  *syntax.Grouping
	nodes []*expr.Node // its arguments, over FROM's columns
	keys  []int        // which keys they are, once these are known
}

func (s *groupSets) several() bool { return len(s.list) > 1 }

// all reports whether a key is in every set.
func (s *groupSets) all(key int) bool {
	return !slices.ContainsFunc(s.list, func(set []int) bool { return !slices.Contains(set, key) })
}

// unique leaves out sets that are there already.
func (s *groupSets) unique() {
	var list [][]int
	for _, set := range s.list {
		if !slices.ContainsFunc(list, func(have []int) bool { return slices.Equal(have, set) }) {
			list = append(list, set)
		}
	}
	s.list = list
}

// groupingSets returns the sets of a GROUP BY list: each of an item's sets together with each of the others'.
func (q *query) groupingSets(items []syntax.GroupItem) [][]int {
	sets := [][]int{nil}
	for _, item := range items {
		var next [][]int
		for _, more := range q.setsOf(item) {
			for _, set := range sets {
				next = append(next, joinSets(set, more))
			}
		}
		if len(next) > maxSets {
			q.c.fail(item.Span, "name the sets that you need: GROUPING SETS ((a, b), (a), ())", "GROUP BY has %d grouping sets, and %d is the most", len(next), maxSets)
		}
		sets = next
	}
	return sets
}

func joinSets(a, b []int) []int {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// setsOf returns the sets of one item.
func (q *query) setsOf(item syntax.GroupItem) [][]int {
	switch item.Kind {
	case syntax.GroupEmpty:
		return [][]int{nil}
	case syntax.GroupingSets:
		var sets [][]int
		for _, x := range item.Items {
			sets = append(sets, q.setsOf(x)...)
			q.checkSets(sets, item)
		}
		return sets
	case syntax.Rollup:
		var parts [][]int
		for _, x := range item.Items {
			parts = append(parts, q.setOf(x.X))
		}
		sets := make([][]int, 0, len(parts)+1)
		for n := len(parts); n >= 0; n-- {
			var set []int
			for _, p := range parts[:n] {
				set = joinSets(set, p)
			}
			sets = append(sets, set)
		}
		return sets
	case syntax.Cube:
		sets := [][]int{nil}
		for i := len(item.Items) - 1; i >= 0; i-- {
			part := q.setOf(item.Items[i].X)
			with := make([][]int, 0, 2*len(sets))
			for _, set := range sets {
				with = append(with, joinSets(part, set))
			}
			sets = append(with, sets...)
			q.checkSets(sets, item)
		}
		return sets
	}
	return [][]int{q.setOf(item.X)}
}

func (q *query) checkSets(sets [][]int, item syntax.GroupItem) {
	if len(sets) > maxSets {
		q.c.fail(item.Span, "name the sets that you need: GROUPING SETS ((a, b), (a), ())", "more than %d grouping sets", maxSets)
	}
}

// setOf binds one expression, or several in parentheses, which may nest.
func (q *query) setOf(e syntax.Expr) []int {
	row, ok := e.(*syntax.Row)
	if !ok || row.Explicit {
		return []int{q.addKey(e)}
	}
	var set []int
	for _, x := range row.Items {
		set = joinSets(set, q.setOf(x))
	}
	return set
}

// grouping binds GROUPING(..): a number with a bit for each argument, set where the row's grouping set leaves it out.
func (b *binder) grouping(e *syntax.Grouping) *expr.Node {
	switch {
	case b.q == nil || b.aggs == nil || b.inside:
		b.c.fail(e.Span, "", "GROUPING is not allowed in %s", b.clause)
	case len(b.q.sel.GroupBy) == 0:
		b.c.fail(e.Span, "for example: GROUP BY ROLLUP (a, b)", "GROUPING needs GROUP BY")
	}
	if len(e.Args) > 31 {
		b.c.fail(e.Span, "", "GROUPING takes fewer than 32 arguments")
	}
	q := b.q
	nodes := make([]*expr.Node, len(e.Args))
	for i, a := range e.Args {
		nodes[i] = expr.Settle(q.binder("GROUPING", false).expr(a))
	}
	q.sets.calls = append(q.sets.calls, groupingCall{expr: e, nodes: nodes})
	return expr.Column(groupingCol+len(q.sets.calls)-1, app.Int4, e.Pos)
}

// findGroupings finds the keys that calls of GROUPING name.
func (q *query) findGroupings() {
	for i := range q.sets.calls {
		call := &q.sets.calls[i]
		for j, n := range call.nodes {
			k := slices.Index(q.keyText[:q.explicit], n.String())
			if k < 0 {
				q.c.fail(call.expr.Args[j].At(), "name an expression of GROUP BY", "arguments of GROUPING must be grouping expressions")
			}
			call.keys = append(call.keys, k)
		}
	}
}

// union puts the groups of all sets together. A key that is not in a set is NULL in its rows.
func (q *query) union(in flow.Plan, aggs []flow.Agg) flow.Plan {
	sets := q.sets.list
	if len(sets) == 0 {
		sets = [][]int{nil}
	}
	u := &flow.Union{}
	for _, set := range sets {
		for k := q.explicit; k < len(q.keys); k++ {
			set = append(slices.Clip(set), k) // what keys decide that are in every set
		}
		keys := make([]*expr.Node, len(set))
		for i, k := range set {
			keys[i] = q.keys[k]
		}
		plan := aggregate(in, keys, aggs)
		var exprs []*expr.Node
		for k, n := range q.keys {
			if i := slices.Index(set, k); i >= 0 {
				exprs = append(exprs, expr.Column(i, n.Type, n.Pos))
			} else {
				exprs = append(exprs, expr.Const(n.Type, change.Null(), n.Pos))
			}
		}
		for i, g := range aggs {
			exprs = append(exprs, expr.Column(len(set)+i, g.Type, -1))
		}
		for _, call := range q.sets.calls {
			exprs = append(exprs, groupingValue(call.keys, set))
		}
		u.Ins = append(u.Ins, project(plan, exprs))
	}
	if len(u.Ins) == 1 {
		return u.Ins[0]
	}
	return u
}

// groupingValue is what GROUPING of these keys is in the rows of a set.
func groupingValue(call, set []int) *expr.Node {
	n := int64(0)
	for _, k := range call {
		n <<= 1
		if !slices.Contains(set, k) {
			n |= 1
		}
	}
	return expr.Const(app.Int4, change.Int(n), -1)
}
