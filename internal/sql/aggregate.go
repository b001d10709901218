package sql

import (
	"slices"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

// aggregates collects the aggregate calls of one query. A call is bound to a column that does not exist yet, aggregateCol
// and up; [query.group] puts in the real one.
type aggregates struct {
	list []flow.Agg
	text []string // for each: equal for equal calls
}

// add returns the index of an aggregate; equal ones share it.
func (a *aggregates) add(g flow.Agg) int {
	text := g.String()
	if i := slices.Index(a.text, text); i >= 0 {
		return i
	}
	a.list, a.text = append(a.list, g), append(a.text, text)
	return len(a.list) - 1
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
	}
	inner := *b
	inner.inside = true
	if fractions := inner.fractions(e, name); fractions != nil {
		return b.percentiles(e, name, fractions)
	}
	agg := inner.aggregateCall(e, name)
	b.ownColumns(e, &agg)
	return expr.Column(aggregateCol+b.aggs.add(agg), agg.Type, e.Pos)
}

// ownColumns refuses an aggregate of a sub-query over the columns of the query around alone: in SQL it belongs to that one.
func (b *binder) ownColumns(e *syntax.Call, agg *flow.Agg) {
	own, outer := false, false
	for _, n := range aggNodes(agg) {
		n.Columns(func(i int) {
			own = own || i < paramCol
			outer = outer || i >= paramCol
		})
	}
	if outer && !own {
		b.c.fail(e.Span, "compute it in the query around, in FROM (SELECT ..)", "an aggregate over columns of the query around is not supported in a sub-query")
	}
}

// aggNodes returns the expressions of an aggregate.
func aggNodes(g *flow.Agg) []*expr.Node {
	var list []*expr.Node
	for _, n := range []*expr.Node{g.Arg, g.Arg2, g.Filter} {
		if n != nil {
			list = append(list, n)
		}
	}
	for _, k := range g.Sort {
		list = append(list, k.X)
	}
	return list
}

// aggregateCall types a call.
func (b *binder) aggregateCall(e *syntax.Call, name string) (agg flow.Agg) {
	c := b.c
	kind := aggregateNamed(name)
	switch {
	case e.Variadic:
		c.fail(e.Span, "give the values one by one", "VARIADIC is not supported")
	case e.Within && !kind.within:
		c.fail(e.Span, "", "%s is not an ordered-set aggregate: WITHIN GROUP is not for it", name)
	case kind.within && !e.Within:
		c.fail(e.Span, "write "+name+"(..) WITHIN GROUP (ORDER BY col)", "WITHIN GROUP is required for %s", name)
	}
	for _, a := range e.Args {
		if a.Name != nil {
			c.fail(a.Name.Span, "give the arguments in their order", "%s has no argument names", name)
		}
	}
	switch {
	case e.Star && name != "count":
		c.fail(e.Span, "name a column", "%s(*) does not exist", name)
	case e.Star:
		agg = flow.Agg{Func: flow.CountRows, Type: app.Int8}
	case len(e.Args) != kind.args:
		c.fail(e.Span, kind.hint, "%s takes %s", name, plural(kind.args, "argument"))
	case kind.within:
		agg = b.withinGroup(e, kind)
	default:
		agg = b.plainAggregate(e, kind)
	}
	if e.Filter != nil {
		inner := *b
		inner.clause = "FILTER"
		agg.Filter = inner.condition(e.Filter, "FILTER")
	}
	return agg
}

// plainAggregate types an aggregate without WITHIN GROUP.
func (b *binder) plainAggregate(e *syntax.Call, kind aggregateKind) flow.Agg {
	args := make([]*expr.Node, len(e.Args))
	for i, a := range e.Args {
		args[i] = b.expr(a.X)
	}
	agg := flow.Agg{Func: kind.fn}
	agg.Arg, agg.Type = b.aggregateArg(kind, args[0], e)
	if kind.fn == flow.StringAgg || kind.fn == flow.JSONBObjectAgg {
		agg.Arg2 = b.secondArg(kind, args[1], e)
	}
	agg.Distinct = e.Distinct && !kind.idempotent
	b.aggregateOrder(e, kind, &agg)
	return agg
}

// aggregateOrder binds ORDER BY within the call; it is kept where the result depends on it.
func (b *binder) aggregateOrder(e *syntax.Call, kind aggregateKind, agg *flow.Agg) {
	keys := b.sortKeys(e.OrderBy)
	if e.Distinct {
		for i, k := range keys {
			text := k.X.String()
			if text != agg.Arg.String() && (agg.Arg2 == nil || text != agg.Arg2.String()) {
				b.c.fail(e.OrderBy[i].Span, "order by the argument itself, cast as it is there",
					"in an aggregate with DISTINCT, ORDER BY expressions must be in the argument list")
			}
		}
	}
	if kind.ordered {
		agg.Sort = keys
	}
}

// sortKeys binds an ORDER BY whose items are expressions only. Constants decide nothing.
func (b *binder) sortKeys(list []syntax.SortBy) []flow.SortKey {
	var keys []flow.SortKey
	for _, s := range list {
		n := expr.Settle(b.expr(s.X))
		desc, nullsFirst := b.c.direction(s)
		if n.Kind != expr.KConst {
			keys = append(keys, flow.SortKey{X: n, Desc: desc, NullsFirst: nullsFirst})
		}
	}
	return keys
}

// withinGroup types percentile_cont, percentile_disc and mode.
func (b *binder) withinGroup(e *syntax.Call, kind aggregateKind) flow.Agg {
	c := b.c
	if len(e.OrderBy) != 1 {
		c.fail(e.Span, "", "WITHIN GROUP of %s takes one ORDER BY expression", kind.name)
	}
	s := e.OrderBy[0]
	n := b.expr(s.X)
	if n.Type == app.Unknown {
		c.fail(s.X.At(), "cast it", "could not determine the type of this value")
	}
	if kind.fn == flow.PercentileCont && n.Type != app.Interval {
		f, err := expr.Implicit(n, app.Float8, s.X.At().Pos)
		if err != nil {
			c.fail(s.X.At(), "it computes values between two others: order by a number or an interval; percentile_disc takes any type",
				"function percentile_cont(double precision, %s) does not exist", n.Type)
		}
		n = f
	}
	desc, nullsFirst := c.direction(s)
	agg := flow.Agg{Func: kind.fn, Sort: []flow.SortKey{{X: n, Desc: desc, NullsFirst: nullsFirst}}, Type: n.Type}
	if kind.args == 0 {
		return agg
	}
	at := e.Args[0].X.At()
	fraction, err := expr.Implicit(b.expr(e.Args[0].X), app.Float8, at.Pos)
	agg.Arg = c.must(fraction, err, at)
	c.checkFraction(agg.Arg, at)
	return agg
}

// checkFraction wants a constant from 0 to 1, or NULL.
func (c *compiler) checkFraction(n *expr.Node, at span) {
	switch f := n.Value.Float(); {
	case n.Kind != expr.KConst:
		c.fail(at, "for example: percentile_cont(0.95)", "the fraction must be a constant")
	case !n.Value.Null && !(f >= 0 && f <= 1):
		c.fail(at, "half of the values lie below 0.5", "the fraction must be between 0 and 1")
	}
}

// fractions returns the elements of a constant array that is the argument of a percentile; nil when it is no array.
func (b *binder) fractions(e *syntax.Call, name string) []*expr.Node {
	if !e.Within || name != "percentile_cont" && name != "percentile_disc" || len(e.Args) != 1 {
		return nil
	}
	at := e.Args[0].X.At()
	n := b.expr(e.Args[0].X)
	if !n.Type.IsArray() {
		return nil
	}
	n, err := expr.Cast(n, app.Array(app.Float8), at.Pos)
	n = b.c.must(n, err, at)
	if n.Kind != expr.KConst || n.Value.Null {
		b.c.fail(at, "for example: percentile_cont(ARRAY[0.5, 0.95])", "the fractions must be constants")
	}
	list := arrayItems(n)
	if len(list) == 0 || len(list) > MaxColumns {
		b.c.fail(at, "", "there must be between 1 and %d fractions", MaxColumns)
	}
	return list
}

// percentiles makes an array of single percentiles; without values it is NULL.
func (b *binder) percentiles(e *syntax.Call, name string, fractions []*expr.Node) *expr.Node {
	one := *e
	items := make([]*expr.Node, len(fractions))
	inner := *b
	inner.inside = true
	kind := aggregateNamed(name)
	for i, f := range fractions {
		if b.c.checkFraction(f, e.Args[0].X.At()); f.Value.Null {
			b.c.fail(e.Args[0].X.At(), "", "a fraction cannot be NULL")
		}
		half := syntax.Literal{Span: e.Args[0].X.At(), Kind: syntax.Num, Text: "0.5"}
		one.Args = []syntax.Arg{{X: &half}}
		agg := inner.withinGroup(&one, kind)
		if e.Filter != nil {
			agg.Filter = inner.condition(e.Filter, "FILTER")
		}
		agg.Arg = f
		b.ownColumns(e, &agg)
		items[i] = expr.Column(aggregateCol+b.aggs.add(agg), agg.Type, e.Pos)
	}
	list, err := expr.ArrayLit(items, e.Pos)
	list = b.c.must(list, err, e.Span)
	list, err = expr.Case(nil, []expr.When{{Cond: expr.IsNull(items[0], false, e.Pos), Then: expr.NullLit(e.Pos)}}, list, e.Pos)
	return b.c.must(list, err, e.Span)
}
