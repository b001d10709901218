package sql

import (
	"fmt"
	"slices"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

// setOp plans UNION, INTERSECT and EXCEPT.
func (q *query) setOp() *bound {
	c, s := q.c, q.sel
	name := [...]string{syntax.Union: "UNION", syntax.Intersect: "INTERSECT", syntax.Except: "EXCEPT"}[s.Op]
	l := c.bindBranch(s.Left, q.frame, q.with)
	r := c.bindBranch(s.Right, q.frame, q.with)
	if len(l.cols) != len(r.cols) {
		c.fail(firstLine(c.src, s.Right.Span), "", "each query of %s must have the same number of columns: %d and %d", name, len(l.cols), len(r.cols))
	}
	out := &bound{cols: slices.Clone(l.cols), spans: l.spans}
	ln, rn := columnsOf(l.plan), columnsOf(r.plan)
	for i := range out.cols {
		a, b := openOr(l, i, ln[i]), openOr(r, i, rn[i])
		t, err := expr.CommonType([]*expr.Node{a, b}, name)
		c.must(a, err, r.spans[i])
		x, err := expr.Implicit(a, t, l.spans[i].Pos)
		ln[i] = c.must(x, err, l.spans[i])
		x, err = expr.Implicit(b, t, r.spans[i].Pos)
		rn[i] = c.must(x, err, r.spans[i])
		out.cols[i].Type = t
		switch s.Op {
		case syntax.Union:
			out.cols[i].NotNull = l.cols[i].NotNull && r.cols[i].NotNull
		case syntax.Intersect:
			out.cols[i].NotNull = l.cols[i].NotNull || r.cols[i].NotNull
		}
	}
	lp, rp := project(l.plan, ln), project(r.plan, rn)
	switch s.Op {
	case syntax.Union:
		out.plan = unionAll(lp, rp)
		if !s.All {
			out.plan = distinctRows(out.plan)
		}
	case syntax.Intersect:
		out.plan = &flow.SetOp{Op: flow.Intersect, All: s.All, L: lp, R: rp}
	case syntax.Except:
		out.plan = &flow.SetOp{Op: flow.Except, All: s.All, L: lp, R: rp}
	}
	return out
}

// bindBranch plans one query of a set operation.
func (c *compiler) bindBranch(s *syntax.Select, around *frame, w *with) *bound {
	return c.bindQuery(s, around, w)
}

// unionAll puts plans side by side, flat.
func unionAll(ps ...flow.Plan) flow.Plan {
	u := &flow.Union{}
	for _, p := range ps {
		if in, ok := p.(*flow.Union); ok {
			u.Ins = append(u.Ins, in.Ins...)
			continue
		}
		u.Ins = append(u.Ins, p)
	}
	return u
}

// openOr returns the literal that a column of a branch is, with its type open as PostgreSQL leaves it for NULL and quoted text, or
// else the column.
func openOr(b *bound, i int, col *expr.Node) *expr.Node {
	if i < len(b.open) && b.open[i] != nil {
		return b.open[i]
	}
	return col
}

// values plans VALUES.
func (q *query) values() *bound {
	c, rows := q.c, q.sel.Values
	bound := &bound{}
	b := &binder{c: c, clause: "VALUES", view: true, q: q, frame: q.frame}
	nodes := make([][]*expr.Node, len(rows))
	for i, row := range rows {
		if len(row) != len(rows[0]) {
			c.fail(row[0].At(), "", "the rows of VALUES must have the same number of columns: %d and %d", len(rows[0]), len(row))
		}
		nodes[i] = b.list(row)
	}
	constant := true
	for k := range rows[0] {
		col := make([]*expr.Node, len(rows))
		for i := range rows {
			col[i] = nodes[i][k]
		}
		t, err := expr.CommonType(col, "VALUES")
		c.must(col[0], err, rows[0][k].At())
		notNull := true
		for i := range rows {
			n, err := expr.Implicit(col[i], t, rows[i][k].At().Pos)
			nodes[i][k] = c.must(n, err, rows[i][k].At())
			notNull = notNull && neverNull(nodes[i][k], nil)
			constant = constant && !readsBetween(nodes[i][k], 0, 1<<31-1)
		}
		bound.cols = append(bound.cols, app.Column{Name: fmt.Sprint("column", k+1), Type: t, NotNull: notNull})
		bound.spans = append(bound.spans, rows[0][k].At())
	}
	bound.plan = q.rowsOf(nodes, bound.cols, constant)
	return bound
}

// rowsOf makes a plan of rows of expressions, which may read the queries around.
func (q *query) rowsOf(nodes [][]*expr.Node, cols []app.Column, constant bool) flow.Plan {
	types := make([]app.Type, len(cols))
	for i, col := range cols {
		types[i] = col.Type
	}
	if constant && len(q.subs) == 0 {
		return &flow.Values{Rows: nodes, Types: types}
	}
	var ins []flow.Plan
	for _, row := range nodes {
		in := q.joinSubsOf(oneRow(), row)
		for i, n := range row {
			row[i] = q.placed(n)
		}
		ins = append(ins, &flow.Project{In: in, Exprs: row})
	}
	if len(ins) == 1 {
		return ins[0]
	}
	return unionAll(ins...)
}
