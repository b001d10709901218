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
	q.bindUniqueOn()
	for _, w := range q.sel.Windows { // those that nobody uses are checked like the others
		q.c.try(func() { q.binder("WINDOW", true).checkWindow(w) })
	}
}

func (q *query) sortTerm(s syntax.SortBy) app.OrderBy {
	desc, nullsFirst := q.c.direction(s)
	return app.OrderBy{Column: q.sortColumn(s.X, "ORDER BY"), Desc: desc, NullsFirst: nullsFirst}
}

// direction resolves ASC, DESC, USING and NULLS FIRST or LAST.
func (c *compiler) direction(s syntax.SortBy) (desc, nullsFirst bool) {
	desc = s.Dir == syntax.Desc
	if s.Dir == syntax.Using {
		switch s.Operator.Last().Text {
		case "<":
		case ">":
			desc = true
		default:
			c.fail(s.Operator.At(), "write ASC or DESC", "ordering by this operator is not supported")
		}
	}
	return desc, s.Nulls == syntax.NullsFirst || s.Nulls == syntax.DefaultNulls && desc
}

// sortColumn binds a term of the clause that is named and returns its column.
func (q *query) sortColumn(e syntax.Expr, clause string) int {
	switch e := e.(type) {
	case *syntax.ColumnRef:
		if len(e.Names) == 1 && !e.Star {
			if t := q.named(e.Names[0].Text, e.Span); t != nil {
				return q.indexOf(t)
			}
		}
	case *syntax.Literal:
		return q.indexOf(q.ordinal(e, clause))
	}
	n := expr.Settle(q.binder(clause, true).expr(e))
	text := n.String()
	for i, t := range q.targets {
		if t.text == text {
			return i
		}
	}
	if q.sel.Unique && len(q.sel.UniqueOn) == 0 {
		q.c.fail(e.At(), "add it to the select list", "with SELECT DISTINCT, ORDER BY expressions must be in the select list")
	}
	for i, h := range q.hidden {
		if h.String() == text {
			return len(q.targets) + i
		}
	}
	q.hidden = append(q.hidden, n)
	return len(q.targets) + len(q.hidden) - 1
}

func (q *query) indexOf(t *target) int {
	return slices.IndexFunc(q.targets, func(x target) bool { return x.text == t.text })
}

// bindUniqueOn binds DISTINCT ON. What it names must come first in ORDER BY, which says which row of each remains.
func (q *query) bindUniqueOn() {
	for _, e := range q.sel.UniqueOn {
		q.c.try(func() {
			if i := q.sortColumn(e, "DISTINCT ON"); !slices.Contains(q.on, i) {
				q.on = append(q.on, i)
			}
		})
	}
	if len(q.on) == 0 {
		return
	}
	if len(q.sel.OrderBy) == 0 {
		q.c.report(q.sel.UniqueOn[0].At(), Warning, "which row remains is decided by the order of all columns: there is no ORDER BY",
			"say which row should come first: ORDER BY these expressions, then what decides")
		return
	}
	for i, o := range q.sort {
		if i < len(q.on) && !slices.Contains(q.on, o.Column) {
			q.c.fail(q.sel.OrderBy[min(i, len(q.sel.OrderBy)-1)].Span, "begin ORDER BY with the expressions of DISTINCT ON",
				"DISTINCT ON expressions must be the first ORDER BY expressions")
		}
	}
}

// distinctOn keeps the first row of each group that DISTINCT ON names.
func (q *query) distinctOn(in flow.Plan) flow.Plan {
	if len(q.on) == 0 {
		return in
	}
	sort := slices.DeleteFunc(slices.Clone(q.sort), func(o app.OrderBy) bool { return slices.Contains(q.on, o.Column) })
	return &flow.TopN{In: in, Partition: q.on, Sort: sort, Limit: 1}
}

// bindLimit evaluates LIMIT and OFFSET.
func (q *query) bindLimit() {
	if q.sel.Limit != nil {
		q.limit = q.count(q.sel.Limit, "LIMIT", -1)
	}
	if q.sel.Offset != nil {
		q.offset = q.count(q.sel.Offset, "OFFSET", 0)
	}
	if q.sel.WithTies && len(q.sel.OrderBy) == 0 {
		q.c.fail(q.sel.Limit.At(), "add ORDER BY: ties are rows that are equal in it", "WITH TIES needs ORDER BY")
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
	switch {
	case q.limit < 0 && q.offset == 0:
		return in
	case q.sel.WithTies && q.limit >= 0:
		if q.offset > 0 { // rows are skipped one by one, and ties counted from there
			in = &flow.TopN{In: in, Sort: q.sort, Limit: -1, Offset: q.offset}
		}
		return &flow.TopN{In: in, Sort: q.sort, Limit: q.limit, Rank: flow.Rank}
	}
	return &flow.TopN{In: in, Sort: q.sort, Limit: q.limit, Offset: q.offset}
}

// visibleOrder returns the order of the result as far as result columns can express it, and the first term that they cannot.
func (q *query) visibleOrder() ([]app.OrderBy, *syntax.SortBy) {
	for i, o := range q.sort {
		if o.Column >= len(q.targets) {
			if len(q.on) > 0 { // the order is for choosing rows
				return slices.Clone(q.sort[:i]), nil
			}
			return slices.Clone(q.sort[:i]), &q.sel.OrderBy[min(i, len(q.sel.OrderBy)-1)]
		}
	}
	return slices.Clone(q.sort), nil
}
