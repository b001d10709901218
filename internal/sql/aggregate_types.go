package sql

import (
	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

// aggregateKind is what is known of an aggregate by its name.
type aggregateKind struct {
	name       string
	fn         flow.AggFunc
	args       int
	within     bool   // WITHIN GROUP (ORDER BY ..)
	ordered    bool   // the result depends on the order of the rows
	idempotent bool   // DISTINCT changes nothing
	hint       string // how it is called
}

// aggregateNamed returns the aggregate of a name, with fn 0 when there is none.
func aggregateNamed(name string) aggregateKind {
	k := aggregateKind{name: name, args: 1}
	switch name {
	case "count":
		k.fn = flow.Count
	case "sum":
		k.fn = flow.Sum
	case "avg":
		k.fn = flow.Avg
	case "min":
		k.fn, k.idempotent = flow.Min, true
	case "max":
		k.fn, k.idempotent = flow.Max, true
	case "bool_and", "every":
		k.fn, k.idempotent = flow.BoolAnd, true
	case "bool_or":
		k.fn, k.idempotent = flow.BoolOr, true
	case "any_value":
		k.fn, k.idempotent = flow.AnyValue, true
	case "approx_count_distinct":
		k.fn, k.idempotent = flow.ApproxDistinct, true
	case "bit_and":
		k.fn, k.idempotent = flow.BitAnd, true
	case "bit_or":
		k.fn, k.idempotent = flow.BitOr, true
	case "bit_xor":
		k.fn = flow.BitXor
	case "stddev", "stddev_samp":
		k.fn = flow.StddevSamp
	case "stddev_pop":
		k.fn = flow.StddevPop
	case "variance", "var_samp":
		k.fn = flow.VarSamp
	case "var_pop":
		k.fn = flow.VarPop
	case "array_agg":
		k.fn, k.ordered = flow.ArrayAgg, true
	case "string_agg":
		k.fn, k.ordered, k.args, k.hint = flow.StringAgg, true, 2, "the second is the separator: string_agg(name, ', ')"
	case "jsonb_agg", "json_agg":
		k.fn, k.ordered = flow.JSONBAgg, true
	case "jsonb_object_agg", "json_object_agg":
		k.fn, k.ordered, k.args, k.hint = flow.JSONBObjectAgg, true, 2, "the key and the value: jsonb_object_agg(name, points)"
	case "percentile_cont":
		k.fn, k.within = flow.PercentileCont, true
	case "percentile_disc":
		k.fn, k.within = flow.PercentileDisc, true
	case "mode":
		k.fn, k.within, k.args = flow.Mode, true, 0
	}
	return k
}

func isAggregate(name string) bool { return aggregateNamed(name).fn != 0 }

// refusedAggregate says what to do instead of the aggregates of PostgreSQL that we do not have.
func refusedAggregate(name string) (hint string, known bool) {
	switch name {
	case "corr", "covar_pop", "covar_samp", "regr_slope", "regr_intercept", "regr_count", "regr_r2", "regr_avgx", "regr_avgy",
		"regr_sxx", "regr_syy", "regr_sxy":
		return "compute it from sum(x), sum(y), sum(x * y), sum(x * x) and count(*)", true
	case "json_arrayagg", "jsonb_agg_strict", "json_agg_strict":
		return "use jsonb_agg, with FILTER (WHERE x IS NOT NULL) to leave NULLs out", true
	case "json_objectagg", "jsonb_object_agg_strict", "jsonb_object_agg_unique", "jsonb_object_agg_unique_strict":
		return "use jsonb_object_agg", true
	case "range_agg", "range_intersect_agg", "xmlagg":
		return "use jsonb_agg", true
	case "first", "last", "arg_min", "arg_max", "argmin", "argmax":
		return "for the newest row of each key: SELECT DISTINCT ON (key) .. ORDER BY key, at DESC", true
	case "group_concat", "listagg":
		return "use string_agg(x, ', ')", true
	case "median":
		return "use percentile_cont(0.5) WITHIN GROUP (ORDER BY x)", true
	case "countif", "count_if":
		return "use count(*) FILTER (WHERE condition)", true
	}
	return "", false
}

// aggregateArg checks the (first) argument as PostgreSQL does, and returns it as the aggregate takes it, and the type of the result.
func (b *binder) aggregateArg(kind aggregateKind, arg *expr.Node, e *syntax.Call) (*expr.Node, app.Type) {
	at := e.Args[0].X.At()
	switch kind.fn {
	case flow.Count, flow.ApproxDistinct:
		return expr.Settle(arg), app.Int8
	case flow.BoolAnd, flow.BoolOr:
		return b.implicitArg(kind, arg, app.Bool, at, "its argument is a condition, such as "+kind.name+"(x > 0)"), app.Bool
	case flow.Sum, flow.Avg, flow.StddevSamp, flow.StddevPop, flow.VarSamp, flow.VarPop, flow.BitAnd, flow.BitOr, flow.BitXor:
		return b.numberArg(kind, arg, at)
	case flow.Min, flow.Max:
		arg = expr.Settle(arg)
		if hint, ok := extremeType(kind.name, arg.Type); !ok {
			b.noAggregate(kind, arg, at, hint)
		}
		return arg, arg.Type
	case flow.StringAgg:
		return b.implicitArg(kind, arg, app.Text, at, "cast the argument: string_agg(x::text, ', ')"), app.Text
	case flow.JSONBObjectAgg:
		arg = expr.Settle(arg)
		if arg.Type.IsArray() || arg.Type == app.JSONB {
			b.c.fail(at, "cast it to text", "a key of jsonb_object_agg cannot be of type %s", arg.Type)
		}
		return arg, app.JSONB
	}
	if arg.Type == app.Unknown {
		b.c.fail(at, "cast it, for example: 'x'::text", "could not determine the type of this argument")
	}
	switch kind.fn {
	case flow.JSONBAgg:
		return arg, app.JSONB
	case flow.ArrayAgg:
		if arg.Type.IsArray() || arg.Type == app.Interval {
			b.c.fail(at, "use jsonb_agg", "arrays of %s are not supported", arg.Type)
		}
		return arg, app.Array(arg.Type)
	}
	return arg, arg.Type
}

// noAggregate fails because no aggregate of the name takes this argument.
func (b *binder) noAggregate(kind aggregateKind, arg *expr.Node, at span, hint string) {
	types := arg.Type.String()
	if kind.fn == flow.StringAgg {
		types += ", text"
	}
	b.c.fail(at, hint, "function %s(%s) does not exist", kind.name, types)
}

// implicitArg converts an argument as far as that happens unasked.
func (b *binder) implicitArg(kind aggregateKind, arg *expr.Node, to app.Type, at span, hint string) *expr.Node {
	n, err := expr.Implicit(arg, to, at.Pos)
	if err != nil {
		b.noAggregate(kind, arg, at, hint)
	}
	return n
}

// numberArg types the aggregates over numbers.
func (b *binder) numberArg(kind aggregateKind, arg *expr.Node, at span) (*expr.Node, app.Type) {
	switch kind.fn {
	case flow.Sum, flow.Avg:
		t := sumType(kind.fn, arg.Type)
		if t == app.Unknown {
			b.noAggregate(kind, arg, at, "cast the argument to a number")
		}
		return arg, t
	case flow.BitAnd, flow.BitOr, flow.BitXor:
		if arg.Type != app.Int4 && arg.Type != app.Int8 {
			b.noAggregate(kind, arg, at, "cast the argument to integer or bigint")
		}
		return arg, arg.Type
	}
	switch arg.Type {
	case app.Int4, app.Int8, app.Numeric:
		return arg, app.Numeric
	}
	return b.implicitArg(kind, arg, app.Float8, at, "cast the argument to a number"), app.Float8
}

// secondArg checks a separator or a value.
func (b *binder) secondArg(kind aggregateKind, arg *expr.Node, e *syntax.Call) *expr.Node {
	if kind.fn == flow.JSONBObjectAgg {
		return expr.Settle(arg)
	}
	at := e.Args[1].X.At()
	n, err := expr.Implicit(arg, app.Text, at.Pos)
	if err != nil {
		b.c.fail(at, "the separator is text: string_agg(name, ', ')", "function string_agg(text, %s) does not exist", arg.Type)
	}
	return n
}

// sumType returns the type of sum and avg, Unknown when there is none.
func sumType(fn flow.AggFunc, t app.Type) app.Type {
	switch t {
	case app.Int4:
		if fn == flow.Sum {
			return app.Int8
		}
		return app.Numeric
	case app.Int8, app.Numeric:
		return app.Numeric
	case app.Float8, app.Interval:
		return t
	}
	return app.Unknown
}

// extremeType reports whether min and max take a type.
func extremeType(name string, t app.Type) (hint string, ok bool) {
	switch t {
	case app.Bool:
		return "use bool_and or bool_or", false
	case app.JSONB, app.UUID:
		return "cast the argument: " + name + "(x::text)", false
	}
	return "", true
}

// arrayItems returns the elements of a constant array.
func arrayItems(n *expr.Node) []*expr.Node {
	var list []*expr.Node
	it := change.IterateArray(n.Value.B, n.Type.Elem())
	for v, ok := it.Next(); ok; v, ok = it.Next() {
		list = append(list, expr.Const(n.Type.Elem(), v, n.Pos))
	}
	return list
}
