package sql

import (
	"laaster/internal/expr"
	"laaster/internal/sql/syntax"
)

// pairs binds two rows of equal length.
func (b *binder) pairs(l *syntax.Row, r syntax.Expr, at syntax.Span) (ls, rs []*expr.Node) {
	row, ok := r.(*syntax.Row)
	if !ok {
		b.c.fail(r.At(), "write as many values in parentheses: (a, b) = (1, 2)", "a row is compared with a row")
	}
	if len(row.Items) != len(l.Items) || len(l.Items) == 0 {
		b.c.fail(at, "", "the rows have %s and %s", plural(len(l.Items), "value"), plural(len(row.Items), "value"))
	}
	return b.list(l.Items), b.list(row.Items)
}

// rowOp binds a comparison of rows.
func (b *binder) rowOp(l *syntax.Row, e *syntax.Op) (*expr.Node, error) {
	op := e.Name
	if op == "!=" {
		op = "<>"
	}
	if flipped(op) == "" {
		b.c.fail(e.Span, "rows can be compared with =, <>, <, <=, > and >=", "operator %s is not supported between rows", e.Name)
	}
	ls, rs := b.pairs(l, e.R, e.Span)
	return compareRows(op, ls, rs, e.OpPos)
}

// compareRows compares value by value: the first pair that differs decides.
func compareRows(op string, ls, rs []*expr.Node, pos int) (*expr.Node, error) {
	if op == "=" || op == "<>" {
		parts := make([]*expr.Node, len(ls))
		for i := range ls {
			n, err := expr.Operator(op, []*expr.Node{ls[i], rs[i]}, pos)
			if err != nil {
				return nil, err
			}
			parts[i] = n
		}
		if op == "=" {
			return expr.And(parts, pos)
		}
		return expr.Or(parts, pos)
	}
	pair := []*expr.Node{ls[0], rs[0]}
	if len(ls) == 1 {
		return expr.Operator(op, pair, pos)
	}
	first, err := expr.Operator(op[:1], pair, pos) // strictly
	if err != nil {
		return nil, err
	}
	same, err := expr.Operator("=", pair, pos)
	if err != nil {
		return nil, err
	}
	rest, err := compareRows(op, ls[1:], rs[1:], pos)
	if err != nil {
		return nil, err
	}
	both, err := expr.And([]*expr.Node{same, rest}, pos)
	if err != nil {
		return nil, err
	}
	return expr.Or([]*expr.Node{first, both}, pos)
}

// rowIn binds (a, b) [NOT] IN ((1, 2), (3, 4)).
func (b *binder) rowIn(row *syntax.Row, e *syntax.In) (*expr.Node, error) {
	var terms []*expr.Node
	for _, item := range e.List {
		ls, rs := b.pairs(row, item, item.At())
		n, err := compareRows("=", ls, rs, e.Pos)
		if err != nil {
			return nil, err
		}
		terms = append(terms, n)
	}
	n, err := expr.Or(terms, e.Pos)
	if err != nil || !e.Not {
		return n, err
	}
	return expr.Not(n, e.Pos)
}

// rowDistinct binds (a, b) IS [NOT] DISTINCT FROM (c, d).
func (b *binder) rowDistinct(l *syntax.Row, e *syntax.Distinct) (*expr.Node, error) {
	ls, rs := b.pairs(l, e.R, e.Span)
	parts := make([]*expr.Node, len(ls))
	for i := range ls {
		n, err := expr.IsDistinct(ls[i], rs[i], false, e.Pos)
		if err != nil {
			return nil, err
		}
		parts[i] = n
	}
	n, err := expr.Or(parts, e.Pos)
	if err != nil || !e.Not {
		return n, err
	}
	return expr.Not(n, e.Pos)
}

// rowNull binds ROW(a, b) IS [NOT] NULL: whether all values are NULL, or none.
func (b *binder) rowNull(row *syntax.Row, not bool) (*expr.Node, error) {
	if len(row.Items) == 0 {
		b.c.fail(row.Span, "", "this row has no values")
	}
	parts := make([]*expr.Node, len(row.Items))
	for i, n := range b.list(row.Items) {
		parts[i] = expr.IsNull(n, not, row.Pos)
	}
	return expr.And(parts, row.Pos)
}
