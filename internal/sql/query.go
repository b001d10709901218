package sql

import (
	"slices"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

// bound is a query with its plan.
type bound struct {
	plan       flow.Plan
	cols       []app.Column // of the result
	spans      []syntax.Span
	key        []int       // columns that identify a row, if unique
	unique     bool        // with an empty key: at most one row
	relies     []*relation // append-only tables whose primary key makes it unique
	order      []app.OrderBy
	direct     bool           // a table itself: its primary key decides its other columns in GROUP BY
	unseen     *syntax.SortBy // the first ORDER BY term that result columns cannot express
	appendOnly bool           // rows never leave or change
}

// query is the state of binding one SELECT.
type query struct {
	c        *compiler
	sel      *syntax.Select
	scope    *scope
	from     *bound // what FROM gives
	where    *expr.Node
	having   *expr.Node
	aggs     aggregates
	keys     []*expr.Node // of GROUP BY, over FROM's columns
	keyText  []string
	explicit int  // keys that the text gave; the others depend on them
	grouped  bool // GROUP BY, HAVING or an aggregate
	targets  []target
	hidden   []*expr.Node // ORDER BY expressions that are not in the select list
	needed   int          // aggregates besides those that ORDER BY alone uses
	sort     []app.OrderBy
	limit    int64 // -1: none
	offset   int64
}

// target is one result column.
type target struct {
	name   string
	named  bool // by AS
	node   *expr.Node
	text   string
	at     syntax.Span
	nameAt syntax.Span
}

// bindQuery plans a query.
func (c *compiler) bindQuery(sel *syntax.Select) *bound {
	c.refuseQuery(sel)
	q := &query{c: c, sel: sel, limit: -1}
	q.bindFrom()
	before := c.bad
	if sel.Where != nil {
		c.try(func() {
			q.where = q.binder("WHERE", false).condition(sel.Where, "WHERE")
		})
	}
	q.bindTargets()
	q.bindGroups()
	if sel.Having != nil {
		c.try(func() {
			q.having = q.binder("HAVING", true).condition(sel.Having, "HAVING")
		})
	}
	c.try(q.bindLimit)
	c.try(q.bindOrder)
	if c.bad > before {
		panic(bail{})
	}
	return q.plan()
}

// refuseQuery answers the forms of queries that are not supported yet.
func (c *compiler) refuseQuery(s *syntax.Select) {
	later := func(at syntax.Span, what, hint string) { c.fail(at, hint, "%s is not supported yet", what) }
	switch {
	case s.With != nil:
		later(firstLine(c.src, s.With.Span), "WITH", "make each of its queries a view, or put it into FROM (SELECT ..)")
	case s.Op != syntax.NoSetOp:
		names := [...]string{syntax.Union: "UNION", syntax.Intersect: "INTERSECT", syntax.Except: "EXCEPT"}
		later(firstLine(c.src, s.Right.Span), names[s.Op], "make two views")
	case s.Values != nil:
		later(firstLine(c.src, s.Span), "VALUES", "a view reads a table or a view")
	case len(s.UniqueOn) > 0:
		later(s.UniqueOn[0].At(), "DISTINCT ON", "use GROUP BY with min or max")
	case len(s.Windows) > 0:
		later(s.Windows[0].Span, "WINDOW", "for the first n rows use ORDER BY .. LIMIT n")
	case s.WithTies:
		later(s.Limit.At(), "WITH TIES", "write ROWS ONLY")
	case len(s.Targets) == 0:
		c.fail(firstLine(c.src, s.Span), "name the columns after SELECT", "this query has no columns")
	}
	for _, g := range s.GroupBy {
		if g.Kind != syntax.GroupExpr {
			later(g.Span, "GROUPING SETS, ROLLUP, CUBE or ()", "make one view for each grouping")
		}
	}
}

// bindFrom plans the FROM clause.
func (q *query) bindFrom() {
	c, from := q.c, q.sel.From
	if len(from) == 0 {
		c.fail(firstLine(c.src, q.sel.Span), "add FROM with a table or view", "a view without FROM would never change")
	}
	if len(from) > 1 {
		c.fail(from[1].At(), joinHint, "joins are not supported yet")
	}
	name := ""
	switch r := from[0].(type) {
	case *syntax.RangeTable:
		q.from, name = c.scan(r), r.Name.Last().Text
		if r.Alias != nil {
			name = r.Alias.Name.Text
			q.renameColumns(r.Alias)
		}
	case *syntax.RangeQuery:
		q.from = c.bindQuery(r.Query)
		if r.Alias != nil {
			name = r.Alias.Name.Text
			q.renameColumns(r.Alias)
		}
	case *syntax.Join:
		c.fail(r.R.At(), joinHint, "joins are not supported yet")
	case *syntax.RangeCall:
		q.refuseFunction(r)
	}
	q.scope = &scope{[]source{{name: name, cols: q.from.cols}}}
}

const joinHint = "a view reads one table or view for now; send what belongs together in one row"

func (q *query) refuseFunction(r *syntax.RangeCall) {
	if call, ok := r.Calls[0].X.(*syntax.Call); ok {
		switch call.Name.Last().Text {
		case "tumble", "hop", "session":
			q.c.fail(r.Span, "group into buckets instead: GROUP BY date_trunc('minute', col)", "%s(..) is not supported yet", call.Name.Last().Text)
		}
	}
	q.c.fail(r.Span, "a view reads a table or a view", "functions in FROM are not supported yet")
}

// renameColumns applies FROM t AS a (x, y).
func (q *query) renameColumns(a *syntax.Alias) {
	if len(a.Columns) > len(q.from.cols) {
		q.c.fail(a.Columns[len(q.from.cols)].Span, "", "%s has %s, and %s given", quoted(a.Name.Text), plural(len(q.from.cols), "column"), plural(len(a.Columns), "name"))
	}
	q.from.cols = slices.Clone(q.from.cols)
	for i, n := range a.Columns {
		q.from.cols[i].Name = n.Text
	}
}

// scan reads a table or view.
func (c *compiler) scan(r *syntax.RangeTable) *bound {
	rel := c.lookup(r.Name, r.Pos)
	b := &bound{cols: rel.rel.Columns, key: rel.rel.Key, unique: !rel.rel.Copies}
	if rel.rel.Copies {
		b.cols, b.key = b.cols[:len(b.cols)-1], nil
	}
	if rel.table != nil {
		b.direct = true
		b.appendOnly = rel.table.AppendOnly
		if b.unique && b.appendOnly {
			b.relies = []*relation{rel}
		}
	} else {
		b.appendOnly = rel.bound.appendOnly
	}
	types := make([]app.Type, len(b.cols))
	for i, col := range b.cols {
		types[i] = col.Type
	}
	b.plan = &flow.Scan{Relation: slices.Index(c.rels, rel), Types: types}
	return b
}

func (q *query) binder(clause string, aggregates bool) *binder {
	b := &binder{c: q.c, clause: clause, scope: q.scope, view: true, output: map[string]bool{}}
	for _, t := range q.sel.Targets {
		if t.Alias != nil {
			b.output[t.Alias.Text] = true
		}
	}
	if aggregates {
		b.aggs = &q.aggs
	}
	return b
}

// bindTargets binds the select list.
func (q *query) bindTargets() {
	for _, t := range q.sel.Targets {
		q.c.try(func() {
			if ref, ok := t.X.(*syntax.ColumnRef); ok && ref.Star {
				q.star(ref)
				return
			}
			name, _ := figureName(t.X)
			out := target{name: name, nameAt: t.Span, at: t.X.At()}
			if t.Alias != nil {
				out.name, out.nameAt, out.named = t.Alias.Text, t.Alias.Span, true
			}
			out.node = expr.Settle(q.binder("SELECT", true).expr(t.X))
			q.addTarget(out)
		})
	}
}

func (q *query) addTarget(t target) {
	if len(q.targets) == MaxColumns {
		q.c.fail(t.at, "", "a query has at most %d columns", MaxColumns)
	}
	t.text = t.node.String()
	q.targets = append(q.targets, t)
}

// star puts in the columns of * and t.*.
func (q *query) star(ref *syntax.ColumnRef) {
	sources := q.scope.sources
	if len(ref.Names) > 0 {
		b := q.binder("SELECT", true)
		sources = []source{*b.qualifier(ref)}
	}
	for _, src := range sources {
		for i, col := range src.cols {
			q.addTarget(target{name: col.Name, nameAt: ref.Span, at: ref.Span, node: expr.Column(src.first+i, col.Type, ref.Pos)})
		}
	}
}

// bindGroups binds GROUP BY. An item is a column of FROM, or else a name or number of the select list, or an expression.
func (q *query) bindGroups() {
	for _, g := range q.sel.GroupBy {
		q.c.try(func() {
			n := q.groupItem(g.X)
			text := n.String()
			if !slices.Contains(q.keyText, text) {
				q.keys, q.keyText = append(q.keys, n), append(q.keyText, text)
			}
		})
	}
	q.explicit = len(q.keys)
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
	t.node.Columns(func(i int) {
		if i >= aggregateCol {
			q.c.fail(at, "", "aggregate functions are not allowed in GROUP BY")
		}
	})
	return t.node
}

// named finds a result column by its name. Two different ones of a name are ambiguous.
func (q *query) named(name string, at syntax.Span) *target {
	var found *target
	for i := range q.targets {
		t := &q.targets[i]
		if t.name != name {
			continue
		}
		if found != nil && found.text != t.text {
			q.c.fail(at, "", "%s is ambiguous: two columns of the select list have this name", quoted(name))
		}
		if found == nil {
			found = t
		}
	}
	return found
}

// ordinal finds a result column by its number.
func (q *query) ordinal(e *syntax.Literal, clause string) *target {
	if e.Kind != syntax.Int {
		q.c.fail(e.Span, "write a column, an expression, or the number of a column", "a constant in %s has no effect", clause)
	}
	n := 0
	for _, d := range e.Text {
		if d == '-' {
			n = -1
			break
		}
		n = min(n*10+int(d-'0'), 1<<20)
	}
	if n < 1 || n > len(q.targets) {
		q.c.fail(e.Span, "", "%s position %s is not in the select list, which has %s", clause, e.Text, plural(len(q.targets), "column"))
	}
	return &q.targets[n-1]
}
