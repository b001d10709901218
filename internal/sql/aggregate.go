package sql

import (
	"slices"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

// aggregates collects the aggregate calls of one query. A call is bound to a column that does not exist yet, aggregateCol
// and up; [query.regroup] puts in the real one.
type aggregates struct {
	list []flow.Agg
	text []string // for each: equal for equal calls
}

// aggregateCol is above every real column.
const aggregateCol = 1 << 20

func isAggregate(name string) bool {
	switch name {
	case "count", "sum", "avg", "min", "max", "bool_and", "bool_or", "every":
		return true
	}
	return false
}

func laterAggregate(name string) bool {
	switch name {
	case "array_agg", "string_agg", "json_agg", "jsonb_agg", "json_object_agg", "jsonb_object_agg", "bit_and", "bit_or", "bit_xor",
		"stddev", "stddev_pop", "stddev_samp", "variance", "var_pop", "var_samp", "corr", "covar_pop", "covar_samp",
		"percentile_cont", "percentile_disc", "mode", "any_value", "approx_count_distinct", "range_agg", "xmlagg",
		"regr_slope", "regr_intercept", "regr_count", "regr_r2", "regr_avgx", "regr_avgy", "regr_sxx", "regr_syy", "regr_sxy":
		return true
	}
	return false
}

func laterWindow(name string) bool {
	switch name {
	case "row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "lag", "lead", "first_value", "last_value",
		"nth_value":
		return true
	}
	return false
}

// aggregate binds an aggregate call.
func (b *binder) aggregate(e *syntax.Call, name string) *expr.Node {
	c := b.c
	switch {
	case b.inside:
		c.fail(e.Span, "compute the inner one in a view or in FROM (SELECT ..)", "aggregate calls cannot be nested")
	case b.aggs == nil:
		hint := ""
		if b.clause == "WHERE" {
			hint = "conditions on aggregates go into HAVING"
		}
		c.fail(e.Span, hint, "aggregate functions are not allowed in %s", b.clause)
	case e.Within:
		c.fail(e.Span, "", "%s is not an ordered-set aggregate: WITHIN GROUP is not for it", name)
	case len(e.OrderBy) > 0:
		c.fail(e.OrderBy[0].Span, "leave it out: the result does not depend on the order", "ORDER BY in %s is not supported", name)
	case e.Variadic:
		c.fail(e.Span, "", "VARIADIC is not supported")
	}
	inner := *b
	inner.inside = true
	agg := flow.Agg{Type: app.Int8}
	if e.Star {
		if name != "count" {
			c.fail(e.Span, "name a column", "%s(*) does not exist", name)
		}
		agg.Func = flow.CountRows
	} else {
		if len(e.Args) != 1 {
			c.fail(e.Span, "", "%s takes one argument", name)
		}
		agg.Func, agg.Arg, agg.Type = inner.aggregateArg(name, inner.expr(e.Args[0].X), e)
		agg.Distinct = e.Distinct && agg.Func != flow.Min && agg.Func != flow.Max && agg.Func != flow.BoolAnd && agg.Func != flow.BoolOr
	}
	if e.Filter != nil {
		inner.clause = "FILTER"
		agg.Filter = inner.condition(e.Filter, "FILTER")
	}
	return expr.Column(aggregateCol+b.aggs.add(agg), agg.Type, e.Pos)
}

// add returns the index of an aggregate; equal ones share it.
func (a *aggregates) add(g flow.Agg) int {
	text := aggText(g)
	if i := slices.Index(a.text, text); i >= 0 {
		return i
	}
	a.list, a.text = append(a.list, g), append(a.text, text)
	return len(a.list) - 1
}

// aggregateArg types an aggregate as PostgreSQL does.
func (b *binder) aggregateArg(name string, arg *expr.Node, e *syntax.Call) (flow.AggFunc, *expr.Node, app.Type) {
	at := e.Args[0].X.At()
	no := func(hint string) {
		b.c.fail(at, hint, "function %s(%s) does not exist", name, arg.Type)
	}
	switch name {
	case "count":
		return flow.Count, expr.Settle(arg), app.Int8
	case "bool_and", "every", "bool_or":
		f := flow.BoolAnd
		if name == "bool_or" {
			f = flow.BoolOr
		}
		n, err := expr.Implicit(arg, app.Bool, at.Pos)
		if err != nil {
			no("its argument is a condition, such as " + name + "(x > 0)")
		}
		return f, n, app.Bool
	case "sum", "avg":
		t, ok := sumType(name, arg.Type)
		if arg.Type == app.Interval {
			b.c.fail(at, "for seconds: "+name+"(extract(epoch from x))", "%s of an interval is not supported", name)
		}
		if !ok {
			no("cast the argument to a number")
		}
		if name == "sum" {
			return flow.Sum, arg, t
		}
		return flow.Avg, arg, t
	}
	arg = expr.Settle(arg)
	switch arg.Type {
	case app.Int4, app.Int8, app.Float8, app.Numeric, app.Text, app.Timestamptz:
	case app.Bool:
		no("use bool_and or bool_or")
	case app.Interval:
		b.c.fail(at, "for seconds: "+name+"(extract(epoch from x))", "%s of an interval is not supported", name)
	default:
		no("cast the argument: " + name + "(x::text)")
	}
	if name == "min" {
		return flow.Min, arg, arg.Type
	}
	return flow.Max, arg, arg.Type
}

// sumType returns the type of sum and avg.
func sumType(name string, t app.Type) (app.Type, bool) {
	switch t {
	case app.Int4:
		if name == "sum" {
			return app.Int8, true
		}
		return app.Numeric, true
	case app.Int8, app.Numeric:
		return app.Numeric, true
	case app.Float8:
		return app.Float8, true
	}
	return 0, false
}
