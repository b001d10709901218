package sql

import (
	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// newJoin makes a join of conditions over l's columns, then r's: equalities of the two sides become its keys.
func newJoin(kind flow.JoinKind, l, r flow.Plan, conds []*expr.Node) *flow.Join {
	j := &flow.Join{Kind: kind, L: l, R: r}
	width := len(l.Columns())
	var rest []*expr.Node
	for _, c := range conds {
		a, b, nullSafe, ok := sides(c, width)
		if !ok {
			rest = append(rest, c)
			continue
		}
		j.LKeys, j.RKeys = append(j.LKeys, a), append(j.RKeys, shifted(b, -width))
		j.NullSafe = append(j.NullSafe, nullSafe)
	}
	if !anyTrue(j.NullSafe) {
		j.NullSafe = nil
	}
	j.Cond = conjunction(rest)
	return j
}

func anyTrue(list []bool) bool {
	for _, x := range list {
		if x {
			return true
		}
	}
	return false
}

// sides splits an equality into what is of the left and what is of the right side of a join.
func sides(c *expr.Node, width int) (l, r *expr.Node, nullSafe, ok bool) {
	x := c
	if c.Kind == expr.KNot && c.Args[0].Kind == expr.KDistinct {
		x, nullSafe = c.Args[0], true
	} else if c.Kind != expr.KCall || c.Func.Name != "=" || !c.Func.IsOperator() {
		return nil, nil, false, false
	}
	l, r = x.Args[0], x.Args[1]
	if !ofLeft(l, width) || !ofRight(r, width) {
		l, r = r, l
	}
	if !ofLeft(l, width) || !ofRight(r, width) {
		return nil, nil, false, false
	}
	if l.Type != r.Type {
		t, err := expr.CommonType([]*expr.Node{l, r}, "=")
		if err != nil {
			return nil, nil, false, false
		}
		a, err1 := expr.Implicit(l, t, l.Pos)
		b, err2 := expr.Implicit(r, t, r.Pos)
		if err1 != nil || err2 != nil {
			return nil, nil, false, false
		}
		l, r = a, b
	}
	return l, r, nullSafe, l.Type != app.Unknown
}

// ofLeft reports whether n reads the left side of a join alone, and something of it.
func ofLeft(n *expr.Node, width int) bool {
	return readsBetween(n, 0, width) && !readsBetween(n, width, 1<<31-1)
}

func ofRight(n *expr.Node, width int) bool {
	return readsBetween(n, width, aggregateCol) && !readsBetween(n, 0, width) && !readsBetween(n, aggregateCol, 1<<31-1)
}

// joinConds returns all conditions of a join over its left columns, then its right ones.
func joinConds(j *flow.Join) []*expr.Node {
	width := len(j.L.Columns())
	var conds []*expr.Node
	for i, l := range j.LKeys {
		r := shifted(j.RKeys[i], width)
		if j.NullSafe != nil && j.NullSafe[i] {
			conds = append(conds, same(l, r))
			continue
		}
		conds = append(conds, mustEqual(l, r))
	}
	return append(conds, conjuncts(j.Cond)...)
}
