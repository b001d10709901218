package sql

import (
	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/sql/syntax"
)

// binder makes nodes of expressions: names resolved, types checked.
type binder struct {
	c      *compiler
	clause string          // for messages: "WHERE", "CHECK", "DEFAULT"
	scope  *scope          // nil: no columns
	view   bool            // within a view: no time, no caller, no chance
	aggs   *aggregates     // nil: no aggregates here
	inside bool            // within the arguments of an aggregate
	output map[string]bool // names of the select list, for hints
}

// condition binds a boolean expression.
func (b *binder) condition(e syntax.Expr, clause string) *expr.Node {
	n, err := expr.Condition(b.expr(e), clause)
	return b.c.must(n, err, e.At())
}

func (b *binder) list(es []syntax.Expr) []*expr.Node {
	out := make([]*expr.Node, len(es))
	for i, e := range es {
		out[i] = b.expr(e)
	}
	return out
}

// expr binds an expression.
func (b *binder) expr(e syntax.Expr) *expr.Node {
	if b.c.nodes++; b.c.nodes > maxNodes {
		b.c.fail(firstLine(b.c.src, e.At()), "split it into several views", "the expressions of this statement have more than %d parts", maxNodes)
	}
	n, err := b.build(e)
	return b.c.must(n, err, e.At())
}

func (b *binder) build(e syntax.Expr) (*expr.Node, error) {
	at := e.At()
	switch e := e.(type) {
	case *syntax.ColumnRef:
		return b.column(e), nil
	case *syntax.Literal:
		return b.literal(e)
	case *syntax.Cast:
		return expr.Cast(b.expr(e.X), b.c.typeOf(e.Type, false), at.Pos)
	case *syntax.Op:
		return b.op(e)
	case *syntax.Logic:
		return b.logic(e)
	case *syntax.NullTest:
		return expr.IsNull(b.expr(e.X), e.Not, at.Pos), nil
	case *syntax.BoolTest:
		if e.Value == syntax.Null {
			return expr.IsUnknown(b.expr(e.X), e.Not, at.Pos)
		}
		return expr.IsBool(b.expr(e.X), e.Value == syntax.True, e.Not, at.Pos)
	case *syntax.Distinct:
		return expr.IsDistinct(b.expr(e.L), b.expr(e.R), e.Not, at.Pos)
	case *syntax.Between:
		return expr.Between(b.expr(e.X), b.expr(e.Lo), b.expr(e.Hi), e.Symmetric, e.Not, at.Pos)
	case *syntax.In:
		if e.Query != nil {
			b.c.fail(at, "", "IN (SELECT ..) is not supported yet")
		}
		return expr.In(b.expr(e.X), b.list(e.List), e.Not, at.Pos)
	case *syntax.Like:
		return b.like(e)
	case *syntax.Case:
		return b.caseOf(e)
	case *syntax.Conditional:
		return b.conditional(e)
	case *syntax.Call:
		return b.call(e)
	case *syntax.Current:
		return b.current(e)
	case *syntax.Collate:
		b.c.collation(e.Collation)
		return b.expr(e.X), nil
	}
	b.refuse(e)
	return nil, nil
}

// refuse answers expressions that are read but not supported.
func (b *binder) refuse(e syntax.Expr) {
	what, hint := "this expression", ""
	switch e := e.(type) {
	case *syntax.SubQuery:
		what = "a sub-query in an expression"
		hint = "sub-queries are supported in FROM"
	case *syntax.Quantified:
		what = "comparison with ANY or ALL"
		hint = "for a list of values write x IN (a, b)"
	case *syntax.Row:
		what = "a row of values"
		hint = "compare the values one by one, joined with AND"
	case *syntax.Array, *syntax.Indirection:
		what = "an array or field of a value"
		hint = "for jsonb use the operators -> and ->>"
	case *syntax.Grouping:
		what = "GROUPING"
	case *syntax.Param:
		b.c.fail(e.Span, "app.sql is a file: write the value", "there are no parameters here")
	case *syntax.DefaultValue:
		b.c.fail(e.Span, "", "DEFAULT is not allowed here")
	}
	b.c.fail(e.At(), hint, "%s is not supported yet", what)
}

func (b *binder) literal(e *syntax.Literal) (*expr.Node, error) {
	switch e.Kind {
	case syntax.Int, syntax.Num:
		return expr.NumLit(decimal(e.Text), e.Pos)
	case syntax.String:
		return expr.StringLit(e.Text, e.Pos), nil
	case syntax.True, syntax.False:
		return expr.BoolLit(e.Kind == syntax.True, e.Pos), nil
	case syntax.Null:
		return expr.NullLit(e.Pos), nil
	}
	b.c.fail(e.Span, "", "bit strings are not supported")
	return nil, nil
}

// op binds an operator.
func (b *binder) op(e *syntax.Op) (*expr.Node, error) {
	if len(e.Schema) > 0 && e.Schema.String() != "pg_catalog" {
		b.c.fail(e.Span, "", "operator %s.%s does not exist", e.Schema, e.Name)
	}
	args := []*expr.Node{b.expr(e.R)}
	if e.L != nil {
		args = []*expr.Node{b.expr(e.L), args[0]}
	}
	return expr.Operator(e.Name, args, e.OpPos)
}

func (b *binder) logic(e *syntax.Logic) (*expr.Node, error) {
	switch e.Op {
	case syntax.And:
		return expr.And(b.list(e.Args), e.Pos)
	case syntax.Or:
		return expr.Or(b.list(e.Args), e.Pos)
	}
	return expr.Not(b.expr(e.Args[0]), e.Pos)
}

func (b *binder) like(e *syntax.Like) (*expr.Node, error) {
	x, pattern := b.expr(e.X), b.expr(e.Pattern)
	op := "~~"
	if e.Kind == syntax.ILike {
		op = "~~*"
	}
	args := []*expr.Node{pattern}
	if e.Escape != nil {
		args = append(args, b.expr(e.Escape))
	}
	var err error
	if e.Kind == syntax.SimilarTo {
		op = "~"
		pattern, err = b.function("similar_to_escape", args, e.Span)
	} else if e.Escape != nil {
		pattern, err = b.function("like_escape", args, e.Span)
	}
	if err != nil {
		return nil, err
	}
	if e.Not {
		op = "!" + op
	}
	return expr.Operator(op, []*expr.Node{x, pattern}, e.Pos)
}

func (b *binder) caseOf(e *syntax.Case) (*expr.Node, error) {
	var operand, other *expr.Node
	if e.Operand != nil {
		operand = b.expr(e.Operand)
	}
	if e.Else != nil {
		other = b.expr(e.Else)
	}
	whens := make([]expr.When, len(e.Whens))
	for i, w := range e.Whens {
		whens[i] = expr.When{Cond: b.expr(w.Cond), Then: b.expr(w.Result)}
	}
	return expr.Case(operand, whens, other, e.Pos)
}

func (b *binder) conditional(e *syntax.Conditional) (*expr.Node, error) {
	args := b.list(e.Args)
	switch e.Kind {
	case syntax.Coalesce:
		return expr.Coalesce(args, e.Pos)
	case syntax.NullIf:
		if args[0].Type == app.Int4 && args[1].Type == app.Int8 { // the first argument's type, not the common one
			eq, err := expr.Operator("=", args, e.Pos)
			if err != nil {
				return nil, err
			}
			return expr.Case(nil, []expr.When{{Cond: eq, Then: expr.NullLit(e.Pos)}}, args[0], e.Pos)
		}
		return expr.NullIf(args[0], args[1], e.Pos)
	case syntax.Greatest:
		return expr.Greatest(args, e.Pos)
	}
	return expr.Least(args, e.Pos)
}

// current binds the functions without parentheses.
func (b *binder) current(e *syntax.Current) (*expr.Node, error) {
	switch e.Name {
	case "current_timestamp":
		if e.Precision >= 0 && e.Precision != 6 {
			b.c.fail(e.Span, "leave the precision out: times have microseconds", "current_timestamp with a precision is not supported")
		}
		return b.function("now", nil, e.Span)
	case "current_user", "session_user", "user", "current_role":
		b.c.fail(e.Span, "auth_subject() is who asks, auth_role() in which role", "%s is not supported", e.Name)
	case "current_date", "localtimestamp", "localtime", "current_time":
		b.c.fail(e.Span, "use now(), and date_trunc('day', now()) for the day", "%s is not supported", e.Name)
	}
	b.c.fail(e.Span, "", "%s is not supported", e.Name)
	return nil, nil
}

// call binds a function call or an aggregate.
func (b *binder) call(e *syntax.Call) (*expr.Node, error) {
	c := b.c
	name := e.Name.Last().Text
	if len(e.Name) > 2 || len(e.Name) == 2 && e.Name[0].Text != "pg_catalog" {
		c.fail(e.Name.At(), "", "function %s does not exist", quoted(e.Name.String()))
	}
	if e.Over != nil {
		c.fail(e.Span, "for the first n rows use ORDER BY .. LIMIT n", "window functions (OVER) are not supported yet")
	}
	for _, a := range e.Args {
		if a.Name != nil {
			c.fail(a.Name.Span, "give the arguments in their order", "named arguments are not supported")
		}
	}
	if isAggregate(name) {
		return b.aggregate(e, name), nil
	}
	switch {
	case laterAggregate(name):
		c.fail(e.Name.At(), "the aggregates are count, sum, avg, min, max, bool_and, bool_or and every", "the aggregate %s is not supported yet", name)
	case laterWindow(name):
		c.fail(e.Name.At(), "for the first n rows use ORDER BY .. LIMIT n", "the window function %s is not supported yet", name)
	case e.Star || e.Distinct || e.Within || len(e.OrderBy) > 0 || e.Filter != nil:
		c.fail(e.Span, "", "%s is not an aggregate function: *, DISTINCT, ORDER BY and FILTER are for those", name)
	case e.Variadic:
		c.fail(e.Span, "give the values one by one", "VARIADIC is not supported")
	}
	args := make([]*expr.Node, len(e.Args))
	for i, a := range e.Args {
		args[i] = b.expr(a.X)
	}
	return b.function(name, args, e.Span)
}

// function calls a function of package expr.
func (b *binder) function(name string, args []*expr.Node, at syntax.Span) (*expr.Node, error) {
	if !expr.KnownFunction(name) {
		b.unknownFunction(name, at)
	}
	n, err := expr.Call(name, args, at.Pos)
	if err != nil {
		return nil, err
	}
	if b.view {
		b.steady(n, name, at)
	}
	return n, nil
}

// unknownFunction fails for functions that we know to be missing, with what to do instead. Other names are left to the
// builder, which may read them as casts, and suggests what is near.
func (b *binder) unknownFunction(name string, at syntax.Span) {
	hint := ""
	switch name {
	case "tumble", "hop", "session":
		hint = "windows of time are not supported yet: GROUP BY date_trunc('minute', col)"
	case "nextval", "currval", "lastval", "setval":
		hint = "there are no sequences: use uuid PRIMARY KEY DEFAULT gen_random_uuid(), or let the sender make the id"
	case "uuid_generate_v4":
		hint = "use gen_random_uuid()"
	case "ifnull", "nvl", "isnull":
		hint = "use coalesce(a, b)"
	case "like_escape", "similar_to_escape":
		b.c.fail(at, "use LIKE, or a regular expression: x ~ 'pattern'", "this form of LIKE is not supported yet")
	case "timezone":
		b.c.fail(at, "times are in UTC", "AT TIME ZONE is not supported yet")
	case "overlaps":
		b.c.fail(at, "compare the ends: a.start < b.end AND b.start < a.end", "OVERLAPS is not supported yet")
	default:
		return
	}
	b.c.fail(at, hint, "function %s does not exist", name)
}

// steady refuses what would change a view without an event.
func (b *binder) steady(n *expr.Node, name string, at syntax.Span) {
	switch {
	case n.Kind == expr.KNow:
		b.c.fail(at, "rows that leave as time passes are not supported yet: GROUP BY date_trunc('second', col), and keep the newest groups with ORDER BY .. LIMIT",
			"%s() is not supported in a view yet", name)
	case n.Kind == expr.KSubject || n.Kind == expr.KRole:
		b.c.fail(at, "a view is the same for all readers; filter when reading", "%s() is not allowed in a view", name)
	case n.Kind == expr.KCall && n.Func.Volatility == expr.Volatile:
		b.c.fail(at, "put it in a column's DEFAULT: there it is computed once and logged", "the volatile function %s() is not allowed in a view", name)
	}
}
