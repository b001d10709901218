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
	policy bool            // within a policy: a sub-query is a membership
	aggs   *aggregates     // nil: no aggregates here
	inside bool            // within the arguments of an aggregate
	window bool            // within the arguments of a window function
	output map[string]bool // names of the select list, for hints
	q      *query          // nil outside of queries
	frame  *frame          // the queries around; nil: none
	aside  *scope          // what stands beside in FROM and LATERAL would make visible, for hints
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
	switch e := e.(type) {
	case *syntax.ColumnRef:
		return b.column(e), nil
	case *syntax.Literal:
		return b.literal(e)
	case *syntax.Cast:
		return b.cast(e)
	case *syntax.Op:
		return b.op(e)
	case *syntax.Logic:
		return b.logic(e)
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
	case *syntax.SubQuery:
		if b.policy && e.Kind == syntax.Exists {
			return b.exists(e.Query, e.Span), nil
		}
		return b.subQuery(e), nil
	case *syntax.Array:
		return b.array(e, app.Unknown)
	case *syntax.Indirection:
		return b.indirection(e)
	case *syntax.Grouping:
		return b.grouping(e), nil
	}
	return b.test(e)
}

// test binds the conditions that have words of their own.
func (b *binder) test(e syntax.Expr) (*expr.Node, error) {
	at := e.At()
	switch e := e.(type) {
	case *syntax.NullTest:
		if row, ok := e.X.(*syntax.Row); ok {
			return b.rowNull(row, e.Not)
		}
		return expr.IsNull(b.expr(e.X), e.Not, at.Pos), nil
	case *syntax.BoolTest:
		if e.Value == syntax.Null {
			return expr.IsUnknown(b.expr(e.X), e.Not, at.Pos)
		}
		return expr.IsBool(b.expr(e.X), e.Value == syntax.True, e.Not, at.Pos)
	case *syntax.Distinct:
		if l, ok := e.L.(*syntax.Row); ok {
			return b.rowDistinct(l, e)
		}
		return expr.IsDistinct(b.expr(e.L), b.expr(e.R), e.Not, at.Pos)
	case *syntax.Between:
		return expr.Between(b.expr(e.X), b.expr(e.Lo), b.expr(e.Hi), e.Symmetric, e.Not, at.Pos)
	case *syntax.In:
		if e.Query != nil && b.policy {
			n := b.membership(e.X, e.Query, e.Span)
			if e.Not {
				return expr.Not(n, e.Pos)
			}
			return n, nil
		}
		if e.Query != nil {
			return b.inQuery(e), nil
		}
		if row, ok := e.X.(*syntax.Row); ok {
			return b.rowIn(row, e)
		}
		return expr.In(b.expr(e.X), b.list(e.List), e.Not, at.Pos)
	case *syntax.Quantified:
		if e.Query != nil && b.policy && e.Name == "=" && !e.All {
			return b.membership(e.L, e.Query, e.Span), nil
		}
		if e.Query != nil {
			return b.quantified(e), nil
		}
		return expr.AnyOf(b.expr(e.L), e.Name, b.expr(e.R), e.All, at.Pos)
	}
	b.refuse(e)
	return nil, nil
}

// refuse answers expressions that are read but not supported.
func (b *binder) refuse(e syntax.Expr) {
	switch e := e.(type) {
	case *syntax.Row:
		b.c.fail(e.Span, "rows can be compared: (a, b) = (c, d), (a, b) IN ((1, 2), (3, 4)); to put several values into a column: jsonb_build_object('a', a, 'b', b)",
			"a row of values is not supported here")
	case *syntax.Param:
		b.c.fail(e.Span, "app.sql is a file: write the value", "there are no parameters here")
	case *syntax.DefaultValue:
		b.c.fail(e.Span, "", "DEFAULT is not allowed here")
	}
	b.c.fail(e.At(), "", "this expression is not supported")
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
	if l, ok := e.L.(*syntax.Row); ok {
		return b.rowOp(l, e)
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
