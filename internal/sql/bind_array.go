package sql

import (
	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/sql/syntax"
)

// array binds ARRAY[..]. With a type, that of a cast around it, the elements are cast to that type's.
func (b *binder) array(e *syntax.Array, to app.Type) (*expr.Node, error) {
	if len(e.Items) == 0 && to.IsArray() {
		return expr.Const(to, change.Value{}, e.Pos), nil
	}
	if len(e.Items) == 0 {
		b.c.fail(e.Span, "say of what type it is: ARRAY[]::integer[]", "the type of an empty array is not known")
	}
	items := b.list(e.Items)
	if to.IsArray() {
		for i, n := range items {
			cast, err := expr.Cast(n, to.Elem(), e.Items[i].At().Pos)
			items[i] = b.c.must(cast, err, e.Items[i].At())
		}
	}
	return expr.ArrayLit(items, e.Pos)
}

// indirection binds x[1], x[1:2] and x['key'].
func (b *binder) indirection(e *syntax.Indirection) (*expr.Node, error) {
	n := b.expr(e.X)
	for _, s := range e.Steps {
		var err error
		switch {
		case s.Field != nil:
			b.c.fail(s.Field.Span, "for jsonb use the operators -> and ->>: x ->> '"+s.Field.Text+"'", "a value of type %s has no fields", n.Type)
		case s.Star:
			b.c.fail(e.Span, "", "a value of type %s has no fields", n.Type)
		case s.Slice:
			n, err = expr.Slice(n, b.optional(s.Lo), b.optional(s.Index), e.Pos)
		default:
			n, err = expr.Subscript(n, b.expr(s.Index), e.Pos)
		}
		if err != nil {
			return nil, err
		}
	}
	return n, nil
}

// optional binds an expression that may be absent.
func (b *binder) optional(e syntax.Expr) *expr.Node {
	if e == nil {
		return nil
	}
	return b.expr(e)
}
