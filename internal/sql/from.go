package sql

import (
	"slices"
	"strings"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

// item is a part of FROM: its plan, the columns of it, and what names mean.
type item struct {
	*bound
	scope *scope
}

// oneRow is a relation of one row without columns: what a query without FROM reads.
func oneRow() *flow.Values { return &flow.Values{Rows: [][]*expr.Node{{}}, Types: []app.Type{}} }

// bindFrom plans the FROM clause.
func (q *query) bindFrom() {
	all := item{&bound{plan: oneRow()}, &scope{}}
	for i, ref := range q.sel.From {
		if i == 0 {
			all = q.ref(ref, q.frame, nil)
			continue
		}
		all = q.beside(all, ref, q.frame)
	}
	q.from, q.scope = all.bound, all.scope
}

// beside puts a further item of FROM next to those before it, which it can read when it is LATERAL.
func (q *query) beside(l item, ref syntax.TableRef, around *frame) item {
	if r, ok := ref.(*syntax.RangeCall); ok {
		if x, ok := q.expand(l, r, around); ok {
			return x
		}
	}
	f := q.c.newFrame(q.sideBinder(l, around))
	r := q.ref(ref, f, l.scope)
	q.sameNames(l.scope, r.scope, ref.At())
	out := item{&bound{cols: slices.Concat(l.cols, r.cols)}, l.scope.beside(r.scope, len(l.cols))}
	out.plan = f.apply(flow.InnerJoin, l.plan, r.plan, nil)
	return out
}

// sideBinder resolves what a LATERAL item reads of those before it.
func (q *query) sideBinder(l item, around *frame) *binder {
	return &binder{c: q.c, clause: "FROM", scope: l.scope, view: true, q: q, frame: around}
}

// sameNames refuses two items of one name.
func (q *query) sameNames(l, r *scope, at syntax.Span) {
	for _, src := range r.sources {
		if src.name != "" && l.find(src.name) != nil {
			q.c.fail(firstLine(q.c.src, at), "give one of them another name: "+src.name+" AS other", "%s is twice in FROM", quoted(src.name))
		}
	}
}

// ref plans one item of FROM. side is the frame for what is LATERAL; aside is what stands beside it.
func (q *query) ref(ref syntax.TableRef, side *frame, aside *scope) item {
	switch r := ref.(type) {
	case *syntax.RangeTable:
		b := q.c.scan(r.Name, r.Pos, q.with)
		return q.aliased(b, r.Name.Last().Text, r.Alias, nil)
	case *syntax.RangeQuery:
		return q.derived(r, side, aside)
	case *syntax.RangeCall:
		return q.call(r, side)
	}
	return q.join(ref.(*syntax.Join), side, aside)
}

// derived plans a sub-query in FROM.
func (q *query) derived(r *syntax.RangeQuery, side *frame, aside *scope) item {
	around := side
	if !r.Lateral {
		around = q.outside(side)
	}
	if around == side {
		aside = nil
	}
	old := q.c.aside
	q.c.aside = aside
	b := q.c.bindQuery(r.Query, around, q.with)
	q.c.aside = old
	name := ""
	if r.Alias != nil {
		name = r.Alias.Name.Text
	}
	return q.aliased(b, name, r.Alias, nil)
}

// outside returns the frame of the queries around this one, leaving out the items of its own FROM.
func (q *query) outside(f *frame) *frame {
	for f != nil && f != q.frame {
		f = f.outer.frame
	}
	return f
}

// aliased makes an item of a plan under its name.
func (q *query) aliased(b *bound, name string, a *syntax.Alias, table *relation) item {
	if table == nil {
		table = b.table
	}
	cols := b.cols
	if a != nil {
		name = a.Name.Text
		if len(a.Columns) > len(cols) {
			q.c.fail(a.Columns[len(cols)].Span, "", "%s has %s, and %s given", quoted(name), plural(len(cols), "column"), plural(len(a.Columns), "name"))
		}
		cols = slices.Clone(cols)
		for i, n := range a.Columns {
			cols[i].Name = n.Text
		}
	}
	return item{&bound{plan: b.plan, cols: cols, table: table}, newScope(name, cols, table)}
}

// scan reads a table, a view, or a query of WITH.
func (c *compiler) scan(name syntax.QName, pos int, w *with) *bound {
	if len(name) == 1 {
		if b := w.find(name[0].Text); b != nil {
			return &bound{plan: b.plan, cols: b.cols}
		}
	}
	r := c.lookup(name, pos)
	c.refuseChannel(name, r)
	return c.scanOf(r)
}

func (c *compiler) scanOf(rel *relation) *bound {
	b := &bound{cols: rel.rel.Columns}
	if rel.rel.Copies {
		b.cols = b.cols[:len(b.cols)-1]
	}
	if rel.table != nil {
		b.table = rel
	}
	types := make([]app.Type, len(b.cols))
	for i, col := range b.cols {
		types[i] = col.Type
	}
	b.plan = &flow.Scan{Relation: slices.Index(c.rels, rel), Types: types}
	return b
}

// relationArg reads the table, view or query of WITH that the argument of a function in FROM names.
func (q *query) relationArg(e syntax.Expr) *bound {
	ref, ok := e.(*syntax.ColumnRef)
	if !ok || ref.Star {
		q.c.fail(e.At(), "name a table or view; for a query: WITH name AS (SELECT ..)", "this must be a table or a view")
	}
	return q.c.scan(ref.Names, e.At().Pos, q.with)
}

// call plans a function in FROM that stands alone or first.
func (q *query) call(r *syntax.RangeCall, side *frame) item {
	if x, ok := q.rangeRelation(r); ok {
		return x
	}
	x, _ := q.expand(item{&bound{plan: oneRow()}, &scope{}}, r, side)
	return x
}

// rangeRelation plans the functions in FROM that read a relation: windows of time and as_of.
func (q *query) rangeRelation(r *syntax.RangeCall) (item, bool) {
	call, ok := r.Calls[0].X.(*syntax.Call)
	if !ok || len(r.Calls) > 1 || len(call.Name) > 1 {
		return item{}, false
	}
	switch name := call.Name.Last().Text; name {
	case "tumble", "hop", "session":
		x := q.aliased(q.timeWindow(r), name, r.Alias, nil)
		x.scope.sources[0].fixed = name != "session"
		return x, true
	case "as_of":
		if len(call.Args) != 1 || call.Star {
			q.c.fail(call.Span, "for example: FROM events e JOIN as_of(prices) p ON p.id = e.id", "as_of takes one table or view")
		}
		if !q.lookup {
			q.c.fail(call.Span, "for example: FROM events e JOIN as_of(prices) p ON p.id = e.id", "as_of stands on the right of JOIN or LEFT JOIN")
		}
		q.lookup = false
		b := q.relationArg(call.Args[0].X)
		return q.aliased(&bound{plan: b.plan, cols: b.cols}, call.Args[0].X.(*syntax.ColumnRef).Names.Last().Text, r.Alias, nil), true
	}
	return item{}, false
}

// expand puts the rows of functions beside each row of l; false when the functions read relations.
func (q *query) expand(l item, r *syntax.RangeCall, around *frame) (item, bool) {
	if _, ok := q.rangeCallName(r); ok {
		return item{}, false
	}
	e := &flow.Expand{In: l.plan, Ordinality: r.Ordinality}
	b := q.sideBinder(l, around)
	b.clause = "functions in FROM"
	var cols []app.Column
	name := ""
	for _, c := range r.Calls {
		if len(c.Columns) > 0 {
			q.c.fail(c.Columns[0].Span, "name the columns alone: AS t (a, b)", "column definitions of a function are not supported")
		}
		arrays, names, of := b.setFunction(c.X)
		if name == "" {
			name = of
		}
		e.Arrays = append(e.Arrays, arrays...)
		for i, a := range arrays {
			cols = append(cols, app.Column{Name: names[i], Type: a.Type.Elem()})
		}
	}
	if len(r.Columns) > 0 {
		q.c.fail(r.Columns[0].Span, "name the columns alone: AS t (a, b)", "column definitions of a function are not supported")
	}
	if r.Alias != nil {
		name = r.Alias.Name.Text
		if len(cols) == 1 && len(r.Alias.Columns) == 0 && !strings.HasPrefix(cols[0].Name, "=") {
			cols[0].Name = name
		}
	}
	for i := range cols {
		cols[i].Name = strings.TrimPrefix(cols[i].Name, "=")
	}
	if r.Ordinality {
		cols = append(cols, app.Column{Name: "ordinality", Type: app.Int8, NotNull: true})
	}
	mine := q.aliased(&bound{plan: e, cols: cols}, name, r.Alias, nil)
	mine.scope.sources[0].value = len(cols) == 1
	q.sameNames(l.scope, mine.scope, r.Span)
	return item{&bound{plan: e, cols: slices.Concat(l.cols, mine.cols)}, l.scope.beside(mine.scope, len(l.cols))}, true
}

// rangeCallName returns the name of a function in FROM that reads a relation.
func (q *query) rangeCallName(r *syntax.RangeCall) (string, bool) {
	if call, ok := r.Calls[0].X.(*syntax.Call); ok && len(r.Calls) == 1 && len(call.Name) == 1 {
		switch name := call.Name[0].Text; name {
		case "tumble", "hop", "session", "as_of":
			return name, true
		}
	}
	return "", false
}

// setFunction binds a function in FROM: the arrays whose elements are its columns, and their names. A name after "=" is its
// own and not replaced by the alias of the table.
func (b *binder) setFunction(e syntax.Expr) (arrays []*expr.Node, names []string, of string) {
	call, ok := e.(*syntax.Call)
	if !ok {
		b.c.fail(e.At(), "call a function, such as unnest(tags) or generate_series(1, 10)", "this cannot stand in FROM")
	}
	name := call.Name.Last().Text
	if len(call.Name) > 2 || len(call.Name) == 2 && call.Name[0].Text != "pg_catalog" {
		b.c.fail(call.Name.At(), "", "function %s does not exist", quoted(call.Name.String()))
	}
	if call.Star || call.Distinct || call.Filter != nil || call.Over != nil || len(call.OrderBy) > 0 || call.Variadic {
		b.c.fail(call.Span, "", "a function in FROM has plain arguments only")
	}
	args := make([]*expr.Node, len(call.Args))
	for i, a := range call.Args {
		if a.Name != nil {
			b.c.fail(a.Name.Span, "give the arguments in their order", "named arguments are not supported")
		}
		args[i] = b.expr(a.X)
	}
	one := func(f string) *expr.Node {
		if !expr.KnownFunction(f) {
			b.c.fail(call.Span, "the functions for FROM are unnest, generate_series, jsonb_array_elements, jsonb_array_elements_text, jsonb_each, jsonb_each_text, jsonb_object_keys, string_to_table and regexp_split_to_table",
				"the function %s cannot stand in FROM", name)
		}
		n, err := expr.Call(f, args, call.Pos)
		if te, ok := err.(*expr.TypeError); ok {
			te.Msg, te.Hint = strings.ReplaceAll(te.Msg, "_set_", ""), strings.ReplaceAll(te.Hint, "_set_", "")
		}
		return b.c.must(n, err, call.Span)
	}
	switch name {
	case "unnest":
		if len(args) == 0 {
			b.c.fail(call.Span, "", "unnest takes an array")
		}
		for _, a := range args {
			if !a.Type.IsArray() {
				b.c.fail(call.Span, "for jsonb use jsonb_array_elements", "function unnest(%s) does not exist", a.Type)
			}
			arrays, names = append(arrays, a), append(names, name)
		}
		return arrays, names, name
	case "jsonb_each", "jsonb_each_text":
		value := map[string]string{"jsonb_each": "_set_jsonb_each_value", "jsonb_each_text": "_set_jsonb_each_value_text"}[name]
		return []*expr.Node{one("_set_jsonb_object_keys"), one(value)}, []string{"=key", "=value"}, name
	case "jsonb_array_elements", "jsonb_array_elements_text":
		return []*expr.Node{one("_set_" + name)}, []string{"=value"}, name
	}
	return []*expr.Node{one("_set_" + name)}, []string{name}, name
}

// decided reports whether keys hold the whole primary key of the table in FROM that has the column, and so decide the column.
// relies are the tables that must then be kept, for their key to hold.
func (q *query) decided(col int, keys []*expr.Node) (relies []*relation, ok bool) {
	for _, src := range q.scope.sources {
		if src.table == nil || len(src.table.table.PrimaryKey) == 0 {
			continue
		}
		has := func(want *expr.Node) bool {
			return slices.ContainsFunc(keys, func(k *expr.Node) bool {
				return k.Kind == expr.KColumn && want.Kind == expr.KColumn && k.Col == want.Col
			})
		}
		if !slices.ContainsFunc(src.nodes, func(n *expr.Node) bool { return n.Kind == expr.KColumn && n.Col == col }) {
			continue
		}
		for _, k := range src.table.table.PrimaryKey {
			if !has(src.nodes[k]) {
				return nil, false
			}
		}
		return []*relation{src.table}, true
	}
	return nil, false
}
