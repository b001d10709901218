package sql

import (
	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

// bound is a query, or an item of FROM, with its plan. Its keys and what else is known of its rows are for [compiler.factsOf].
type bound struct {
	plan   flow.Plan
	cols   []app.Column // of the plan, one by one
	spans  []syntax.Span
	order  []app.OrderBy
	unseen *syntax.SortBy // the first ORDER BY term that result columns cannot express
	table  *relation      // a table itself: its primary key decides its other columns in GROUP BY
	open   []*expr.Node   // by column: the literal whose type nothing has settled, nil for others; may be short
	hidden int            // with keepHidden: columns behind cols that only order them; order may name them
}

// query is the state of binding one SELECT.
type query struct {
	lookup   bool // as_of may be bound now
	c        *compiler
	sel      *syntax.Select
	frame    *frame // the queries around; nil: none
	with     *with  // the queries of WITH that it can see
	scope    *scope
	from     *bound // what FROM gives
	where    []*expr.Node
	having   []*expr.Node
	aggs     aggregates
	keys     []*expr.Node // of GROUP BY, over FROM's columns
	keyText  []string
	explicit int  // keys that the text gave; the others depend on them
	grouped  bool // GROUP BY, HAVING or an aggregate
	targets  []target
	hidden   []*expr.Node // ORDER BY expressions that are not in the select list
	sort     []app.OrderBy
	limit    int64 // -1: none
	offset   int64
	subs     []*sub
	overs    windowCalls
	sets     groupSets
	on       []int // columns of DISTINCT ON, hidden ones behind the targets
	// keepHidden leaves the hidden columns in the result, for a reader that needs the order.
	keepHidden bool
}

// target is one result column.
type target struct {
	name   string
	named  bool // by AS
	node   *expr.Node
	open   *expr.Node // the literal that node was before its type was settled; nil for all else
	text   string
	at     syntax.Span
	nameAt syntax.Span
}

// maxDepth bounds how deep queries may be nested.
const maxDepth = 64

// bindQuery plans a query. around is what it may read of the queries around it.
func (c *compiler) bindQuery(sel *syntax.Select, around *frame, w *with) *bound {
	return c.bindInner(sel, around, w, false)
}

func (c *compiler) bindInner(sel *syntax.Select, around *frame, w *with, keepHidden bool) *bound {
	if c.depth++; c.depth > maxDepth {
		c.fail(firstLine(c.src, sel.Span), "make a view of the inner queries", "queries are nested more than %d deep", maxDepth)
	}
	defer func() { c.depth-- }()
	q := &query{c: c, sel: sel, frame: around, with: w, limit: -1, keepHidden: keepHidden}
	if sel.With != nil {
		q.with = c.bindWith(sel.With, around, w)
		defer c.checkUsed(q.with, w)
	}
	switch {
	case sel.Op != syntax.NoSetOp:
		return q.overColumns(q.setOp())
	case sel.Values != nil:
		return q.overColumns(q.values())
	}
	return q.block()
}

// block plans one SELECT.
func (q *query) block() *bound {
	c, sel := q.c, q.sel
	if len(sel.Targets) == 0 {
		c.fail(firstLine(c.src, sel.Span), "name the columns after SELECT", "this query has no columns")
	}
	q.bindFrom()
	before := c.bad
	if sel.Where != nil {
		c.try(func() {
			q.where = conjuncts(q.binder("WHERE", false).condition(sel.Where, "WHERE"))
		})
	}
	q.bindTargets()
	q.bindGroups()
	if sel.Having != nil {
		c.try(func() {
			n := q.binder("HAVING", true).condition(sel.Having, "HAVING")
			if q.having = conjuncts(n); len(q.having) == 0 {
				q.having = []*expr.Node{n}
			}
		})
	}
	c.try(q.bindLimit)
	c.try(q.bindOrder)
	if c.bad > before {
		panic(bail{})
	}
	return q.plan()
}

// overColumns puts ORDER BY and LIMIT over the result of a set operation or of VALUES.
func (q *query) overColumns(in *bound) *bound {
	if len(q.sel.OrderBy) == 0 && q.sel.Limit == nil && q.sel.Offset == nil {
		return in
	}
	plain := *q.sel
	plain.Op, plain.Values, plain.With = syntax.NoSetOp, nil, nil
	for _, s := range q.sel.OrderBy {
		ref, isColumn := s.X.(*syntax.ColumnRef)
		_, isNumber := s.X.(*syntax.Literal)
		if !isNumber && (!isColumn || ref.Star || len(ref.Names) != 1 || !contains(in.cols, ref.Names[0].Text)) {
			q.c.fail(s.X.At(), "name a column of the result, or put the query into FROM (SELECT ..)", "ORDER BY of a set operation takes result columns only")
		}
	}
	q.sel = &plain
	q.from, q.scope = in, newScope("", in.cols, nil)
	for i, col := range in.cols {
		n := expr.Column(i, col.Type, -1)
		q.targets = append(q.targets, target{name: col.Name, node: n, text: n.String(), at: in.spans[i], nameAt: in.spans[i]})
	}
	q.bindLimit()
	q.bindOrder()
	return q.plan()
}

func contains(cols []app.Column, name string) bool {
	for _, c := range cols {
		if c.Name == name {
			return true
		}
	}
	return false
}

// binder binds expressions of one clause over FROM's columns.
func (q *query) binder(clause string, aggregates bool) *binder {
	b := &binder{c: q.c, clause: clause, scope: q.scope, view: true, output: map[string]bool{}, q: q, frame: q.frame, aside: q.c.aside}
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
			n := q.binder("SELECT", true).expr(t.X)
			if e, ok := t.X.(*syntax.SubQuery); ok && e.Kind == syntax.Scalar && t.Alias == nil {
				out.name = q.subs[n.Col-subCol].name
			}
			if n.Type == app.Unknown {
				out.open = n
			}
			out.node = expr.Settle(n)
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
	if len(q.sel.From) == 0 {
		q.c.fail(ref.Span, "add FROM with a table or view", "* needs FROM")
	}
	if len(ref.Names) > 0 {
		src := q.binder("SELECT", true).qualifier(ref)
		for i, col := range src.cols {
			q.starColumn(col.Name, src.nodes[i], ref)
		}
		return
	}
	for _, v := range q.scope.visible {
		q.starColumn(v.name, v.node, ref)
	}
}

func (q *query) starColumn(name string, n *expr.Node, ref *syntax.ColumnRef) {
	copied := *n
	copied.Pos = ref.Pos
	q.addTarget(target{name: name, nameAt: ref.Span, at: ref.Span, node: &copied})
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

// each replaces everything that is computed after grouping: result columns, hidden ones, HAVING, arguments of window functions,
// and what sub-queries that are not joined yet take from the query.
func (q *query) each(f func(n *expr.Node, at span) *expr.Node) {
	for i := range q.targets {
		t := &q.targets[i]
		t.node = f(t.node, t.at)
		t.text = t.node.String()
	}
	for i, h := range q.hidden {
		q.hidden[i] = f(h, q.c.wordAt(max(h.Pos, 0)))
	}
	for i, h := range q.having {
		q.having[i] = f(h, q.sel.Having.At())
	}
	q.eachOver(f)
	for _, s := range q.subs {
		s.each(func(n *expr.Node) *expr.Node { return f(n, s.at) })
	}
}
