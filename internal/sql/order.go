package sql

import (
	"slices"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

// bindOrder binds ORDER BY. An item is a name or number of the select list, or else an expression over FROM. Columns at or
// above len(targets) are hidden ones.
func (q *query) bindOrder() {
	q.needed = len(q.aggs.list)
	for _, s := range q.sel.OrderBy {
		q.c.try(func() {
			q.sort = append(q.sort, q.sortTerm(s))
		})
	}
	// A column that comes again decides nothing.
	seen := map[int]bool{}
	q.sort = slices.DeleteFunc(q.sort, func(o app.OrderBy) bool {
		was := seen[o.Column]
		seen[o.Column] = true
		return was
	})
}

func (q *query) sortTerm(s syntax.SortBy) app.OrderBy {
	o := app.OrderBy{Column: q.sortColumn(s.X), Desc: s.Dir == syntax.Desc}
	if s.Dir == syntax.Using {
		switch s.Operator.Last().Text {
		case "<":
		case ">":
			o.Desc = true
		default:
			q.c.fail(s.Operator.At(), "write ASC or DESC", "ordering by this operator is not supported")
		}
	}
	o.NullsFirst = s.Nulls == syntax.NullsFirst || s.Nulls == syntax.DefaultNulls && o.Desc
	return o
}

func (q *query) sortColumn(e syntax.Expr) int {
	switch e := e.(type) {
	case *syntax.ColumnRef:
		if len(e.Names) == 1 && !e.Star {
			if t := q.named(e.Names[0].Text, e.Span); t != nil {
				return q.sortable(q.indexOf(t), e.Span)
			}
		}
	case *syntax.Literal:
		return q.sortable(q.indexOf(q.ordinal(e, "ORDER BY")), e.Span)
	}
	n := expr.Settle(q.binder("ORDER BY", true).expr(e))
	text := n.String()
	for i, t := range q.targets {
		if t.text == text {
			return q.sortable(i, e.At())
		}
	}
	if q.sel.Unique {
		q.c.fail(e.At(), "add it to the select list", "with SELECT DISTINCT, ORDER BY expressions must be in the select list")
	}
	for i, h := range q.hidden {
		if h.String() == text {
			return len(q.targets) + i
		}
	}
	q.hidden = append(q.hidden, n)
	return q.sortable(len(q.targets)+len(q.hidden)-1, e.At())
}

func (q *query) indexOf(t *target) int {
	return slices.IndexFunc(q.targets, func(x target) bool { return x.text == t.text })
}

// sortable refuses types without an order of their own.
func (q *query) sortable(i int, at syntax.Span) int {
	t := app.Unknown
	if i < len(q.targets) {
		t = q.targets[i].node.Type
	} else {
		t = q.hidden[i-len(q.targets)].Type
	}
	if t == app.JSONB || t == app.Interval {
		q.c.fail(at, "order by a text or a number in it", "ordering by %s is not supported", t)
	}
	return i
}

// bindLimit evaluates LIMIT and OFFSET.
func (q *query) bindLimit() {
	if q.sel.Limit != nil {
		q.limit = q.count(q.sel.Limit, "LIMIT", -1)
	}
	if q.sel.Offset != nil {
		q.offset = q.count(q.sel.Offset, "OFFSET", 0)
	}
	if (q.limit >= 0 || q.offset > 0) && len(q.sel.OrderBy) == 0 && q.limit != 0 {
		e := q.sel.Limit
		if e == nil {
			e = q.sel.Offset
		}
		q.c.report(e.At(), Warning, "which rows remain is decided by the order of all columns: there is no ORDER BY", "say which rows should come first: ORDER BY col LIMIT n")
	}
}

// count evaluates a constant that is a number of rows; NULL is none.
func (q *query) count(e syntax.Expr, clause string, none int64) int64 {
	b := &binder{c: q.c, clause: clause, view: true}
	n, err := expr.Assign(b.expr(e), app.Int8, e.At().Pos)
	n = q.c.must(n, err, e.At())
	f, err := expr.Compile(n, nil)
	if err != nil {
		q.c.fail(e.At(), "", "%s", err.Error())
	}
	v, err := f(&expr.Ctx{})
	switch {
	case err != nil:
		q.c.fail(e.At(), "", "%s", err.Error())
	case v.Null:
		return none
	case v.N < 0:
		q.c.fail(e.At(), "", "%s must not be negative", clause)
	}
	return v.N
}

// topN limits a plan. Hidden columns are still there; the caller takes them off.
func (q *query) topN(in flow.Plan) flow.Plan {
	if q.limit < 0 && q.offset == 0 {
		return in
	}
	return &flow.TopN{In: in, Sort: q.sort, Limit: q.limit, Offset: q.offset}
}

// visibleOrder returns the order of the result as far as result columns can express it, and the first term that they cannot.
func (q *query) visibleOrder() ([]app.OrderBy, *syntax.SortBy) {
	for i, o := range q.sort {
		if o.Column >= len(q.targets) {
			return slices.Clone(q.sort[:i]), &q.sel.OrderBy[min(i, len(q.sel.OrderBy)-1)]
		}
	}
	return slices.Clone(q.sort), nil
}
