package sql

import (
	"slices"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

// windowCalls collects the window functions of one query. A call is bound to a column that does not exist yet, overCol and up;
// [query.windows] puts in the real one.
type windowCalls struct {
	list []windowCall
	text []string // for each: equal for equal calls
}

// windowCall is one window function over the columns that FROM, or grouping, gives.
type windowCall struct {
	call      flow.OverCall
	partition []*expr.Node
	sort      []flow.SortKey
}

// String prints a call with its window; equal calls print alike.
func (w *windowCall) String() string { return w.call.String() + w.window() }

// window prints the partitioning and the order.
func (w *windowCall) window() string {
	s := " partition"
	for _, n := range w.partition {
		s += " " + n.String()
	}
	sorted := flow.Agg{Func: flow.First, Sort: w.sort}
	return s + " " + sorted.String()
}

// nodes calls f for every expression of the call and puts in what it returns.
func (w *windowCall) nodes(f func(n *expr.Node) *expr.Node) {
	for i, n := range w.partition {
		w.partition[i] = f(n)
	}
	for i := range w.sort {
		w.sort[i].X = f(w.sort[i].X)
	}
	for i, n := range w.call.Args {
		w.call.Args[i] = f(n)
	}
	if w.call.Func == flow.OverAggregate {
		w.call.Agg = mapAgg(w.call.Agg, f)
	}
}

// isWindowFunction reports whether a function is one that needs OVER.
func isWindowFunction(name string) bool { return windowFunctionNamed(name) != 0 }

func windowFunctionNamed(name string) flow.OverFunc {
	return map[string]flow.OverFunc{"row_number": flow.OverRowNumber, "rank": flow.OverRank, "dense_rank": flow.OverDenseRank,
		"percent_rank": flow.OverPercentRank, "cume_dist": flow.OverCumeDist, "ntile": flow.OverNtile, "lag": flow.OverLag, "lead": flow.OverLead,
		"first_value": flow.OverFirstValue, "last_value": flow.OverLastValue, "nth_value": flow.OverNthValue}[name]
}

// over binds a window function.
func (b *binder) over(e *syntax.Call) *expr.Node {
	c, name := b.c, e.Name.Last().Text
	switch {
	case b.window:
		c.fail(e.Span, "compute the inner one in FROM (SELECT ..)", "window function calls cannot be nested")
	case b.inside:
		c.fail(e.Span, "compute it in FROM (SELECT ..)", "aggregate calls cannot contain window functions")
	case b.q == nil || b.clause != "SELECT" && b.clause != "ORDER BY" && b.clause != "DISTINCT ON":
		hint := ""
		if b.clause == "WHERE" || b.clause == "HAVING" {
			hint = "compute it in FROM (SELECT ..) and filter outside: SELECT * FROM (SELECT .., row_number() OVER (..) AS n FROM ..) AS x WHERE n <= 3"
		}
		c.fail(e.Span, hint, "window functions are not allowed in %s", b.clause)
	}
	w := windowCall{}
	inner := *b
	inner.window = true
	if isAggregate(name) {
		w.call = inner.windowAggregate(e, name)
	} else {
		w.call = inner.windowFunction(e, name)
	}
	inner.windowOf(&w, e.Over)
	list := &b.q.overs
	text := w.String()
	i := slices.Index(list.text, text)
	if i < 0 {
		i = len(list.list)
		list.list, list.text = append(list.list, w), append(list.text, text)
	}
	return expr.Column(overCol+i, w.call.Type, e.Pos)
}

// windowAggregate binds an aggregate that is used as a window function.
func (b *binder) windowAggregate(e *syntax.Call, name string) flow.OverCall {
	c := b.c
	switch {
	case e.Within:
		c.fail(e.Span, "compute it with GROUP BY and join", "OVER is not supported for %s", name)
	case e.Distinct:
		c.fail(e.Span, "for each value once: count it in FROM (SELECT DISTINCT ..)", "DISTINCT is not supported in window functions")
	case len(e.OrderBy) > 0:
		c.fail(e.OrderBy[0].Span, "put ORDER BY into OVER (..)", "ORDER BY inside the call is not supported in window functions")
	}
	agg := b.aggregateCall(e, name)
	return flow.OverCall{Func: flow.OverAggregate, Agg: agg, Type: agg.Type}
}

// windowFunction binds a function that is nothing else but a window function.
func (b *binder) windowFunction(e *syntax.Call, name string) flow.OverCall {
	c := b.c
	fn := windowFunctionNamed(name)
	switch {
	case fn == 0:
		c.fail(e.Name.At(), didYouMean(name, windowNames()), "OVER is for window functions and aggregates, and %s is neither", name)
	case e.Filter != nil:
		c.fail(e.Filter.At(), "filter in FROM (SELECT .. WHERE ..)", "FILTER is for aggregates, and %s is none", name)
	case e.Star || e.Distinct || e.Within || len(e.OrderBy) > 0 || e.Variadic:
		c.fail(e.Span, "put ORDER BY into OVER (..)", "%s takes plain arguments", name)
	}
	for _, a := range e.Args {
		if a.Name != nil {
			c.fail(a.Name.Span, "give the arguments in their order", "%s has no argument names", name)
		}
	}
	least, most := windowArgs(fn)
	if n := len(e.Args); n < least || n > most {
		takes := plural(most, "argument")
		if least < most {
			takes = "from " + plural(least, "argument") + " to " + plural(most, "argument")
		}
		c.fail(e.Span, "", "%s takes %s", name, takes)
	}
	call := flow.OverCall{Func: fn}
	for _, a := range e.Args {
		call.Args = append(call.Args, b.expr(a.X))
	}
	b.typeWindow(&call, e)
	return call
}

func windowNames() []string {
	return []string{"row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "lag", "lead", "first_value", "last_value", "nth_value",
		"count", "sum", "avg", "min", "max"}
}

func windowArgs(fn flow.OverFunc) (least, most int) {
	switch fn {
	case flow.OverNtile, flow.OverFirstValue, flow.OverLastValue:
		return 1, 1
	case flow.OverNthValue:
		return 2, 2
	case flow.OverLag, flow.OverLead:
		return 1, 3
	}
	return 0, 0
}

// typeWindow types the arguments and the result as PostgreSQL does. lag and lead get all three arguments.
func (b *binder) typeWindow(call *flow.OverCall, e *syntax.Call) {
	switch call.Func {
	case flow.OverRowNumber, flow.OverRank, flow.OverDenseRank:
		call.Type = app.Int8
	case flow.OverPercentRank, flow.OverCumeDist:
		call.Type = app.Float8
	case flow.OverNtile:
		call.Type, call.Args[0] = app.Int4, b.integerArg(call.Args[0], e, 0)
	case flow.OverFirstValue, flow.OverLastValue:
		call.Type = b.valueArg(call.Args[0], e)
	case flow.OverNthValue:
		call.Type, call.Args[1] = b.valueArg(call.Args[0], e), b.integerArg(call.Args[1], e, 1)
	default:
		b.typeLag(call, e)
	}
}

func (b *binder) typeLag(call *flow.OverCall, e *syntax.Call) {
	if len(call.Args) < 2 {
		one, err := expr.NumLit("1", e.Pos)
		call.Args = append(call.Args, b.c.must(one, err, e.Span))
	} else {
		call.Args[1] = b.integerArg(call.Args[1], e, 1)
	}
	if len(call.Args) < 3 {
		call.Type = b.valueArg(call.Args[0], e)
		call.Args = append(call.Args, expr.NullLit(e.Pos))
	} else {
		t, err := expr.CommonType([]*expr.Node{call.Args[0], call.Args[2]}, e.Name.Last().Text)
		if err != nil {
			b.c.must(nil, err, e.Args[2].X.At())
		}
		call.Type = t
	}
	for _, i := range []int{0, 2} {
		n, err := expr.Implicit(call.Args[i], call.Type, e.Pos)
		call.Args[i] = b.c.must(n, err, e.Span)
	}
}

func (b *binder) valueArg(n *expr.Node, e *syntax.Call) app.Type {
	if n.Type == app.Unknown {
		b.c.fail(e.Args[0].X.At(), "cast it, for example: 'x'::text", "could not determine the type of this argument")
	}
	return n.Type
}

func (b *binder) integerArg(n *expr.Node, e *syntax.Call, i int) *expr.Node {
	at := e.Args[i].X.At()
	out, err := expr.Implicit(n, app.Int4, at.Pos)
	if err != nil {
		b.c.fail(at, "cast it to integer", "argument %d of %s must be integer, not %s", i+1, e.Name.Last().Text, n.Type)
	}
	return out
}
