package sql

import (
	"slices"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

// join plans a JOIN.
func (q *query) join(j *syntax.Join, side *frame, aside *scope) item {
	l := q.ref(j.L, side, aside)
	kind := [...]flow.JoinKind{syntax.Inner: flow.InnerJoin, syntax.LeftJoin: flow.LeftJoin, syntax.RightJoin: flow.RightJoin, syntax.FullJoin: flow.FullJoin}[j.Kind]
	if call, ok := j.R.(*syntax.RangeCall); ok && (kind == flow.InnerJoin || kind == flow.LeftJoin) {
		if x, ok := q.joinCall(j, l, call, kind, side); ok {
			return q.joinAlias(j, x)
		}
	}
	f := q.c.newFrame(q.sideBinder(l, side))
	if call, ok := j.R.(*syntax.RangeCall); ok {
		kind = q.lookupKind(call, kind)
	}
	r := q.ref(j.R, f, l.scope)
	q.sameNames(l.scope, r.scope, j.R.At())
	if len(f.nodes) > 0 && kind != flow.InnerJoin && kind != flow.LeftJoin {
		q.c.fail(j.R.At(), "use JOIN or LEFT JOIN", "LATERAL is not possible on this side of a RIGHT or FULL JOIN")
	}
	out := item{&bound{cols: slices.Concat(l.cols, r.cols)}, l.scope.beside(r.scope, len(l.cols))}
	var conds []*expr.Node
	switch {
	case j.Natural:
		conds = q.using(j, &out, l, r, commonNames(l.scope, r.scope, q, j), kind)
	case j.Using != nil:
		conds = q.using(j, &out, l, r, j.Using, kind)
	case j.On != nil:
		b := &binder{c: q.c, clause: "ON", scope: out.scope, view: true, q: q, frame: q.outside(side)}
		conds = conjuncts(b.condition(j.On, "JOIN/ON"))
	}
	out.plan = q.joined(j, f, kind, l.plan, r.plan, conds)
	if kind != flow.InnerJoin {
		out.cols = slices.Clone(out.cols)
		for i := range out.cols {
			if i < len(l.cols) && kind != flow.LeftJoin && !isLookup(kind) || i >= len(l.cols) && kind != flow.RightJoin {
				out.cols[i].NotNull = false
			}
		}
	}
	return q.joinAlias(j, out)
}

// joined makes the plan. Sub-queries in the condition of an inner join are those of a filter above it.
func (q *query) joined(j *syntax.Join, f *frame, kind flow.JoinKind, l, r flow.Plan, conds []*expr.Node) flow.Plan {
	sub := slices.ContainsFunc(conds, func(n *expr.Node) bool { return readsBetween(n, subCol, paramCol) })
	if sub && kind != flow.InnerJoin {
		q.c.fail(j.On.At(), "put the sub-query into FROM, or into WHERE", "a sub-query in the condition of an outer join is not supported")
	}
	if sub {
		return q.filter(f.apply(kind, l, r, nil), conds)
	}
	return f.apply(kind, l, r, conds)
}

func isLookup(kind flow.JoinKind) bool { return kind == flow.LookupJoin || kind == flow.LookupLeftJoin }

// lookupKind returns the kind of a join with as_of(..) on its right, and lets it be there.
func (q *query) lookupKind(r *syntax.RangeCall, kind flow.JoinKind) flow.JoinKind {
	if name, ok := q.rangeCallName(r); !ok || name != "as_of" {
		return kind
	}
	q.lookup = true
	switch kind {
	case flow.InnerJoin:
		return flow.LookupJoin
	case flow.LeftJoin:
		return flow.LookupLeftJoin
	}
	q.c.fail(r.Span, "use JOIN or LEFT JOIN", "as_of is not possible on this side of a RIGHT or FULL JOIN")
	return kind
}

// joinCall plans JOIN function(..), whose arguments may read the left side.
func (q *query) joinCall(j *syntax.Join, l item, call *syntax.RangeCall, kind flow.JoinKind, side *frame) (item, bool) {
	if _, relation := q.rangeCallName(call); relation || j.Natural || j.Using != nil {
		return item{}, false
	}
	lit, always := j.On.(*syntax.Literal)
	always = j.On == nil || always && lit.Kind == syntax.True
	if kind == flow.LeftJoin && !always {
		return item{}, false
	}
	x, ok := q.expand(l, call, side)
	if !ok {
		return item{}, false
	}
	if kind == flow.LeftJoin {
		e := *x.plan.(*flow.Expand)
		e.Outer = true
		x.plan = &e
	}
	if !always {
		b := &binder{c: q.c, clause: "ON", scope: x.scope, view: true, q: q, frame: q.outside(side)}
		x.plan = q.filter(x.plan, conjuncts(b.condition(j.On, "JOIN/ON")))
	}
	return x, true
}

// joinAlias renames a join in parentheses.
func (q *query) joinAlias(j *syntax.Join, x item) item {
	if j.Alias == nil {
		return x
	}
	name := j.Alias.Name.Text
	src := source{name: name}
	s := &scope{}
	for i, v := range x.scope.visible {
		if i < len(j.Alias.Columns) {
			v.name = j.Alias.Columns[i].Text
		}
		v.of = name
		s.visible = append(s.visible, v)
		src.cols = append(src.cols, app.Column{Name: v.name, Type: v.node.Type})
		src.nodes = append(src.nodes, v.node)
	}
	if len(j.Alias.Columns) > len(src.cols) {
		q.c.fail(j.Alias.Columns[len(src.cols)].Span, "", "%s has %s, and %s given", quoted(name), plural(len(src.cols), "column"), plural(len(j.Alias.Columns), "name"))
	}
	s.sources = []source{src}
	return item{x.bound, s}
}

// commonNames returns the names that NATURAL joins by.
func commonNames(l, r *scope, q *query, j *syntax.Join) []syntax.Name {
	var names []syntax.Name
	for _, v := range l.visible {
		if r.has(v.name) && !slices.ContainsFunc(names, func(n syntax.Name) bool { return n.Text == v.name }) {
			names = append(names, syntax.Name{Span: firstLine(q.c.src, j.Span), Text: v.name})
		}
	}
	if len(names) == 0 {
		q.c.fail(firstLine(q.c.src, j.Span), "say what belongs together: JOIN .. ON a.x = b.y; for every pair: CROSS JOIN", "the sides of NATURAL JOIN have no column name in common")
	}
	return names
}

// using merges the columns of USING: they come first and stand bare for both.
func (q *query) using(j *syntax.Join, out *item, l, r item, names []syntax.Name, kind flow.JoinKind) []*expr.Node {
	var conds []*expr.Node
	var merged []field
	gone := map[string]bool{}
	for _, name := range names {
		if gone[name.Text] {
			q.c.fail(name.Span, "", "column %s is twice in USING", quoted(name.Text))
		}
		gone[name.Text] = true
		ref := &syntax.ColumnRef{Span: name.Span, Names: syntax.QName{name}}
		a, b := l.scope.lookup(q.c, ref), r.scope.lookup(q.c, ref)
		if a == nil || b == nil {
			side := map[bool]string{true: "left", false: "right"}[a == nil]
			q.c.fail(name.Span, "write ON with the names of both sides", "column %s of USING is not in the %s side of the join", quoted(name.Text), side)
		}
		b = shifted(b, len(l.cols))
		eq, err := expr.Operator("=", []*expr.Node{a, b}, name.Pos)
		conds = append(conds, q.c.must(eq, err, name.Span))
		merged = append(merged, field{name.Text, "", q.merge(a, b, kind, name)})
	}
	for _, v := range out.scope.visible {
		if !gone[v.name] {
			merged = append(merged, v)
		}
	}
	out.scope.visible = merged
	if j.UsingAlias != nil {
		src := source{name: j.UsingAlias.Text}
		for _, v := range merged[:len(names)] {
			src.cols, src.nodes = append(src.cols, app.Column{Name: v.name, Type: v.node.Type}), append(src.nodes, v.node)
		}
		out.scope.sources = append(out.scope.sources, src)
	}
	return conds
}

// merge is the one column that USING makes of two: of the side whose rows are all there, and for FULL the first that is not NULL.
func (q *query) merge(a, b *expr.Node, kind flow.JoinKind, name syntax.Name) *expr.Node {
	t, err := expr.CommonType([]*expr.Node{a, b}, "JOIN/USING")
	q.c.must(a, err, name.Span)
	cast := func(n *expr.Node) *expr.Node {
		n, err := expr.Implicit(n, t, name.Pos)
		return q.c.must(n, err, name.Span)
	}
	switch {
	case kind == flow.FullJoin:
		n, err := expr.Coalesce([]*expr.Node{a, b}, name.Pos)
		return q.c.must(n, err, name.Span)
	case kind == flow.RightJoin, kind == flow.InnerJoin && a.Type != t && b.Type == t:
		return cast(b)
	}
	return cast(a)
}
