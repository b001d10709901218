package sql

import (
	"laaster/internal/expr"
	"laaster/internal/sql/syntax"
)

const membershipForm = "x IN (SELECT col FROM t WHERE ..) or EXISTS (SELECT 1 FROM t WHERE t.col = x AND ..)"

// membership binds x IN (SELECT col FROM t WHERE ..) in a policy.
func (b *binder) membership(x syntax.Expr, sel *syntax.Select, at syntax.Span) *expr.Node {
	c := b.c
	if row, ok := x.(*syntax.Row); ok {
		c.fail(row.Span, "compare one column, or make one text of several in both", "a policy compares one value with a sub-query")
	}
	r, in := b.memberScope(sel, at)
	if len(sel.Targets) != 1 {
		c.fail(firstLine(c.src, at), "", "the sub-query must return one column, not %d", len(sel.Targets))
	}
	target := sel.Targets[0].X
	v := in.expr(target)
	pair := b.pairOf(b.expr(x), v, x.At())
	var cond *expr.Node
	if sel.Where != nil {
		cond = in.condition(sel.Where, "WHERE")
	}
	for _, n := range []*expr.Node{v, cond} {
		if n != nil && in.frame.reads(n) {
			c.fail(firstLine(c.src, at), "write EXISTS (SELECT 1 FROM t WHERE t.col = x AND ..)", "the sub-query of IN in a policy reads its own table alone")
		}
	}
	return b.member(r, pair, cond, target.At(), at)
}

// member makes the node of a membership, after what it stands on is checked.
func (b *binder) member(r *relation, p pair, cond *expr.Node, col, at syntax.Span) *expr.Node {
	c := b.c
	v := p.v
	if v.Kind == expr.KCast {
		v = v.Args[0]
	}
	if v.Kind != expr.KColumn {
		c.fail(firstLine(c.src, col), "compute it in a view, and take the view's column", "a policy compares with a column of %s as it is", quoted(r.name))
	}
	if cond != nil {
		cond.Memberships(func(n *expr.Node) {
			c.fail(firstLine(c.src, at), "join both in a view, and select from that", "a sub-query within a sub-query is not supported in a policy")
		})
	}
	if r.table != nil {
		r.table.Kept = true
		if c.def.Members == nil {
			c.def.Members = map[string]bool{}
		}
		c.def.Members[r.name] = true
	}
	set := &expr.Membership{Relation: r.name, Column: v.Col, From: r.rel.Columns[v.Col].Type, As: p.v.Type, Cond: cond}
	return set.In(p.x, at.Pos)
}

// exists binds EXISTS (SELECT .. FROM t WHERE t.col = x AND ..): the equality makes the pair, the rest is about rows of t alone.
func (b *binder) exists(sel *syntax.Select, at syntax.Span) *expr.Node {
	c := b.c
	r, in := b.memberScope(sel, at)
	if sel.Where == nil {
		c.fail(firstLine(c.src, at), "the form is "+membershipForm, "the sub-query of EXISTS in a policy needs a WHERE")
	}
	terms := []syntax.Expr{sel.Where}
	if l, ok := sel.Where.(*syntax.Logic); ok && l.Op == syntax.And {
		terms = l.Args
	}
	var found *pair
	var foundAt syntax.Span
	var rest []*expr.Node
	for _, t := range terms {
		n := in.condition(t, "WHERE")
		if n.Kind == expr.KCall && n.Func.Name == "=" && len(n.Args) == 2 && n.Args[0].Kind == expr.KColumn && n.Args[0].String() == n.Args[1].String() {
			c.report(t.At(), Warning, "both sides are the same column of "+quoted(r.name), "write the outer table in front of the one that is meant of the row")
		}
		p, ok := in.memberPair(n)
		switch {
		case in.frame.reads(n) && (!ok || found != nil && in.frame.reads(found.x)):
			c.fail(t.At(), "one equality ties both: "+membershipForm, "a policy cannot compare %s with the row in this way", quoted(r.name))
		case ok && (found == nil || in.frame.reads(n)):
			if found != nil { // a constant comparison was taken for the pair
				rest = append(rest, c.equal(found.v, found.x))
			}
			found, foundAt = &p, t.At()
		default:
			rest = append(rest, n)
		}
	}
	if found == nil {
		c.fail(firstLine(c.src, at), "the form is "+membershipForm, "the sub-query of EXISTS in a policy compares no column")
	}
	found.x = rewriteColumns(found.x, func(col *expr.Node) *expr.Node {
		if i := col.Col - in.frame.base; i >= 0 && i < len(in.frame.nodes) {
			return in.frame.nodes[i]
		}
		return nil
	})
	var cond *expr.Node
	if len(rest) > 0 {
		n, err := expr.And(rest, -1)
		cond = c.must(n, err, at)
	}
	return b.member(r, *found, cond, foundAt, at)
}

// memberPair takes an equality of a column of the sub-query's table with what does not read that table apart.
func (b *binder) memberPair(n *expr.Node) (pair, bool) {
	if n.Kind != expr.KCall || n.Func.Name != "=" || len(n.Args) != 2 {
		return pair{}, false
	}
	own := func(n *expr.Node) bool { return readsBetween(n, 0, aggregateCol) }
	l, r := n.Args[0], n.Args[1]
	if own(r) {
		l, r = r, l
	}
	if !own(l) || own(r) {
		return pair{}, false
	}
	if l.Kind == expr.KCast {
		if l.Args[0].Kind != expr.KColumn {
			return pair{}, false
		}
	} else if l.Kind != expr.KColumn {
		return pair{}, false
	}
	return b.c.alike(r, l), true
}

// memberScope checks the form of a sub-query in a policy, and returns its relation and what binds its expressions.
func (b *binder) memberScope(sel *syntax.Select, at syntax.Span) (*relation, *binder) {
	c := b.c
	plain := sel.With == nil && sel.Op == syntax.NoSetOp && len(sel.Values) == 0 && len(sel.UniqueOn) == 0 && len(sel.GroupBy) == 0 && sel.Having == nil &&
		len(sel.Windows) == 0 && sel.Limit == nil && sel.Offset == nil
	if !plain || len(sel.From) != 1 {
		c.fail(firstLine(c.src, at), "the form is "+membershipForm+"; more belongs into a view that the policy selects from", "this sub-query is not supported in a policy")
	}
	t, ok := sel.From[0].(*syntax.RangeTable)
	if !ok {
		c.fail(firstLine(c.src, sel.From[0].At()), "the form is "+membershipForm, "a sub-query in a policy reads one table or view")
	}
	if c.systemRelation(t.Name) != nil {
		c.fail(t.Name.At(), "", "a policy cannot read system tables")
	}
	r := c.lookup(t.Name, at.Pos)
	if r.table != nil && r.table.Ephemeral != nil {
		c.fail(t.Name.At(), "keep what decides about rights in a table", "a policy cannot read a channel")
	}
	name := r.name
	if t.Alias != nil {
		if len(t.Alias.Columns) > 0 {
			c.fail(t.Alias.Span, "", "names of columns in an alias are not supported in a policy")
		}
		name = t.Alias.Name.Text
	}
	return r, &binder{c: c, clause: "WHERE", scope: c.rowScope(r, name), policy: true, frame: c.newFrame(b)}
}
