package sql

import (
	"slices"
	"strconv"
	"strings"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// gates takes the conditions that compare now() with something of the row out of conds and makes a Gate of those that read the same item
// of FROM, so that each can go to where its rows come from. What is left is for a Filter.
func (q *query) gates(in flow.Plan, conds []*expr.Node) (flow.Plan, []*expr.Node) {
	var rest []*expr.Node
	var gates []*gateBuilder
	of := map[int]*gateBuilder{}
	for _, cond := range conds {
		if !readsNow(cond) {
			rest = append(rest, cond)
			continue
		}
		item := q.itemOf(cond)
		if of[item] == nil {
			of[item] = &gateBuilder{c: q.c}
			gates = append(gates, of[item])
		}
		of[item].condition(cond, false)
	}
	for _, g := range gates {
		if len(g.from)+len(g.until) > 0 {
			in = &flow.Gate{In: in, From: g.both(g.from, expr.Greatest), Until: g.both(g.until, expr.Least)}
		}
	}
	return in, rest
}

// itemOf returns the item of FROM that an expression reads, -1 when there are several or it is not known.
func (q *query) itemOf(n *expr.Node) int {
	found := -2
	n.Columns(func(col int) {
		at := slices.IndexFunc(q.scope.sources, func(s source) bool {
			return slices.ContainsFunc(s.nodes, func(x *expr.Node) bool { return x.Kind == expr.KColumn && x.Col == col })
		})
		if found != -2 && found != at {
			at = -1
		}
		found = at
	})
	return max(found, -1)
}

// readsNow reports whether an expression depends on the time.
func readsNow(n *expr.Node) bool {
	return n.Kind == expr.KNow || slices.ContainsFunc(n.Args, readsNow)
}

// gateBuilder collects what now() is compared with: from <= now() < until, all of type timestamptz.
type gateBuilder struct {
	c           *compiler
	from, until []*expr.Node
}

const nowHint = "compare it with a time of the row, such as: col > now() - interval '1 hour'"

// condition takes one condition on now(), negated when not is set.
func (g *gateBuilder) condition(n *expr.Node, not bool) {
	switch {
	case n.Kind == expr.KNot:
		g.condition(n.Args[0], !not)
		return
	case n.Kind == expr.KAnd && !not, n.Kind == expr.KOr && not:
		for _, a := range n.Args {
			if !readsNow(a) {
				g.fail(n, nowHint, "now() inside OR is not supported")
			}
			g.condition(a, not)
		}
		return
	case n.Kind == expr.KOr, n.Kind == expr.KAnd:
		g.fail(n, "make two queries and put them together with UNION ALL", "now() inside OR is not supported")
	case n.Kind != expr.KCall || !n.Func.IsOperator() || len(n.Args) != 2 || flipped(n.Func.Name) == "":
		g.fail(n, nowHint, "this use of now() is not supported")
	}
	op, l, r := n.Func.Name, n.Args[0], n.Args[1]
	if not {
		op = negated(op)
	}
	if !readsNow(l) {
		op, l, r = flipped(op), r, l
	}
	if readsNow(r) {
		g.fail(n, nowHint, "now() on both sides of a comparison is not supported")
	}
	if op == "<>" {
		g.fail(n, "write two conditions with < and >, in two queries", "now() with <> is not supported")
	}
	if readsBetween(r, subCol, paramCol) {
		g.fail(n, "compute the other side in FROM (SELECT ..)",
			"now() beside a sub-query is not supported")
	}
	g.solve(l, op, r)
}

func (g *gateBuilder) fail(n *expr.Node, hint, format string, args ...any) {
	pos := max(nowPos(n), 0)
	at := g.c.wordAt(pos)
	if strings.HasPrefix(g.c.src[at.End:], "()") {
		at.End += 2
	}
	g.c.fail(at, hint, format, args...)
}

// nowPos returns where in the text now() stands.
func nowPos(n *expr.Node) int {
	if n.Kind == expr.KNow {
		return n.Pos
	}
	for _, a := range n.Args {
		if readsNow(a) {
			return nowPos(a)
		}
	}
	return -1
}

// flipped returns the operator that says the same with its operands exchanged, "" for what is no comparison.
func flipped(op string) string {
	return map[string]string{"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "<>": "<>"}[op]
}

func negated(op string) string {
	return map[string]string{"<": ">=", "<=": ">", ">": "<=", ">=": "<", "=": "<>", "<>": "="}[op]
}

// solve makes bounds of x op e, where x reads now() and e does not: it takes x apart from the outside, doing the inverse to e, until
// now() alone is left.
func (g *gateBuilder) solve(x *expr.Node, op string, e *expr.Node) {
	switch x.Kind {
	case expr.KNow:
		g.bound(op, g.cast(e, app.Timestamptz))
		return
	case expr.KCast:
		g.solveCast(x, op, e)
		return
	case expr.KCall:
		switch name := x.Func.Name; {
		case len(x.Args) == 2 && (name == "+" || name == "-"):
			g.solveSum(x, op, e)
			return
		case name == "date_trunc" && x.Args[0].Kind == expr.KConst && isTime(x.Type):
			g.solveTrunc(x, op, e)
			return
		case name == "timezone" && utcName(x.Args[0]):
			g.solve(x.Args[1], op, g.recast(e, x.Args[1].Type))
			return
		case name == "extract" && textOf(x.Args[0]) == "epoch" && x.Args[1].Type == app.Interval:
			g.solveEpoch(x, op, e)
			return
		}
	}
	g.fail(x, nowHint, "this use of now() is not supported")
}

func isTime(t app.Type) bool { return t == app.Timestamptz || t == app.Timestamp || t == app.Date }

// textOf returns the text of a constant, "" for what is none.
func textOf(n *expr.Node) string {
	if n.Kind != expr.KConst || n.Value.Null || n.Type != app.Text {
		return ""
	}
	return strings.ToLower(string(n.Value.B))
}

func utcName(n *expr.Node) bool {
	return slices.Contains([]string{"utc", "gmt", "z", "etc/utc"}, textOf(n))
}

func (g *gateBuilder) cast(n *expr.Node, t app.Type) *expr.Node {
	if n.Type == t {
		return n
	}
	out, err := expr.Cast(n, t, n.Pos)
	return g.c.must(out, err, g.c.wordAt(max(n.Pos, 0)))
}

// recast converts between the types of times, which are the same moments in UTC.
func (g *gateBuilder) recast(n *expr.Node, t app.Type) *expr.Node {
	if !isTime(n.Type) || !isTime(t) || t == app.Date { // a date would lose what the moment has
		return n
	}
	return g.cast(n, t)
}

func (g *gateBuilder) solveCast(x *expr.Node, op string, e *expr.Node) {
	inner := x.Args[0]
	switch {
	case !isTime(x.Type) || !isTime(inner.Type):
		g.fail(x, nowHint, "this use of now() is not supported")
	case x.Type == app.Date && inner.Type != app.Date:
		g.solveStep(inner, op, e, "day", e.Type == app.Date)
	default:
		g.solve(inner, op, g.recast(e, inner.Type))
	}
}

// solveSum takes a sum or difference apart.
func (g *gateBuilder) solveSum(x *expr.Node, op string, e *expr.Node) {
	minus := x.Func.Name == "-"
	l, r := x.Args[0], x.Args[1]
	switch {
	case readsNow(l) && readsNow(r):
		g.fail(x, nowHint, "now() twice in one expression is not supported")
	case isTime(l.Type) && isTime(r.Type): // the time between two
		span := g.span(e, x)
		if readsNow(l) {
			g.solve(l, op, g.op("+", r, span))
		} else {
			g.solve(r, flipped(op), g.op("-", l, span))
		}
	case readsNow(l) && isTime(l.Type):
		back := "-"
		if minus {
			back = "+"
		}
		if e.Type == app.Date && r.Type == app.Int4 && r.Kind == expr.KConst { // dates stay dates
			g.solve(l, op, g.op(back, e, r))
			return
		}
		g.solve(l, op, g.op(back, e, g.fixed(r)))
	case !minus && isTime(r.Type):
		g.solve(r, op, g.op("-", e, g.fixed(l)))
	default:
		g.fail(x, nowHint, "this use of now() is not supported")
	}
}

func (g *gateBuilder) op(name string, l, r *expr.Node) *expr.Node {
	n, err := expr.Operator(name, []*expr.Node{l, r}, l.Pos)
	return g.c.must(n, err, g.c.wordAt(max(l.Pos, 0)))
}

// fixed checks what is added to now(): a constant whose length does not depend on the calendar. A number counts days.
func (g *gateBuilder) fixed(n *expr.Node) *expr.Node {
	at := g.c.wordAt(max(n.Pos, 0))
	switch {
	case n.Kind != expr.KConst:
		g.c.fail(at, "move it to the other side: col + x > now() instead of col > now() - x", "what is added to now() must be a constant")
	case n.Type == app.Int4 || n.Type == app.Int8:
		return g.days(n)
	case n.Type != app.Interval:
		g.c.fail(at, nowHint, "now() with %s is not supported", n.Type)
	case n.Value.Null:
		return n
	}
	if months, _, _ := expr.IntervalFields(n.Value); months != 0 {
		g.c.fail(at, "a month has 28 to 31 days: write interval '30 days', or col + interval '1 month' > now()",
			"months and years cannot be added to now() or taken from it")
	}
	return n
}

// days makes an interval of a constant number of days.
func (g *gateBuilder) days(n *expr.Node) *expr.Node {
	iv, err := expr.Operator("*", []*expr.Node{g.microseconds(86_400_000_000), g.cast(n, app.Float8)}, n.Pos)
	return g.c.must(iv, err, g.c.wordAt(max(n.Pos, 0)))
}

// span makes what a difference of times is compared with a constant of microseconds, as intervals compare: days of 24 hours and months
// of 30 days. Differences of dates are numbers of days.
func (g *gateBuilder) span(e, x *expr.Node) *expr.Node {
	if e.Kind != expr.KConst {
		g.fail(x, "put the column beside the time: col + span > now() instead of now() - col < span", "now() with an interval that is no constant is not supported")
	}
	if e.Type != app.Interval || e.Value.Null {
		return g.fixed(e)
	}
	months, days, us := expr.IntervalFields(e.Value)
	total := int64(months)*30 + int64(days)
	if max(total, -total) > maxDays || max(us, -us) > maxDays*dayMicros {
		g.fail(x, "", "this interval is longer than the time there is")
	}
	return g.microseconds(total*dayMicros + us)
}

const (
	dayMicros = 86_400_000_000
	maxDays   = 50_000_000 // more days than the times that there are lie apart, and twice their microseconds fit 64 bits
)

func (g *gateBuilder) microseconds(n int64) *expr.Node {
	return g.cast(expr.StringLit(strconv.FormatInt(n, 10)+" microseconds", -1), app.Interval)
}

// solveEpoch takes extract(epoch from interval) apart: the seconds of the interval are a constant.
func (g *gateBuilder) solveEpoch(x *expr.Node, op string, e *expr.Node) {
	if e.Kind != expr.KConst {
		g.fail(x, "compare the interval itself: now() - col < interval '30 seconds'", "now() with a number of seconds that is no constant is not supported")
	}
	if e.Value.Null {
		g.solve(x.Args[1], op, g.cast(e, app.Interval))
		return
	}
	seconds, err := expr.Operator("*", []*expr.Node{g.microseconds(1_000_000), g.cast(e, app.Float8)}, e.Pos)
	g.solve(x.Args[1], op, g.c.must(seconds, err, g.c.wordAt(max(e.Pos, 0))))
}

// truncUnits are the units of date_trunc with the length of each.
const truncUnits = "microsecond=1 microsecond,millisecond=1 millisecond,second=1 second,minute=1 minute,hour=1 hour,day=1 day,week=7 days," +
	"month=1 month,quarter=3 months,year=1 year,decade=10 years,century=100 years,millennium=1000 years"

func (g *gateBuilder) solveTrunc(x *expr.Node, op string, e *expr.Node) {
	unit := strings.TrimSuffix(textOf(x.Args[0]), "s")
	if len(x.Args) > 2 && !utcName(x.Args[2]) {
		g.fail(x, "leave the time zone out: days begin at midnight UTC", "date_trunc of now() in a time zone is not supported")
	}
	onGrid := e.Kind == expr.KCall && e.Func.Name == "date_trunc" && strings.TrimSuffix(textOf(e.Args[0]), "s") == unit && len(e.Args) == 2
	g.solveStep(x.Args[1], op, e, unit, onGrid || unit == "day" && e.Type == app.Date)
}

// solveStep takes a rounding down to a unit apart: trunc(x) op e. onGrid says that e has no smaller parts.
func (g *gateBuilder) solveStep(x *expr.Node, op string, e *expr.Node, unit string, onGrid bool) {
	length := ""
	for pair := range strings.SplitSeq(truncUnits, ",") {
		if name, span, _ := strings.Cut(pair, "="); name == unit {
			length = span
		}
	}
	if length == "" {
		g.fail(x, "for example: date_trunc('day', now())", "this unit is not supported with now()")
	}
	step := g.cast(expr.StringLit(length, -1), app.Interval)
	e = g.cast(e, app.Timestamptz)
	floor := func(n *expr.Node) *expr.Node {
		if onGrid {
			return n
		}
		out, err := expr.Call("date_trunc", []*expr.Node{expr.Settle(expr.StringLit(unit, n.Pos)), n}, n.Pos)
		return g.c.must(out, err, g.c.wordAt(max(n.Pos, 0)))
	}
	next := func() *expr.Node { return g.op("+", floor(e), step) } // the first full unit behind e
	ceiling := e
	if !onGrid {
		ceiling = g.op("+", floor(g.op("-", e, g.microseconds(1))), step)
	}
	switch op {
	case ">=":
		g.solve(x, ">=", ceiling)
	case ">":
		g.solve(x, ">=", next())
	case "<":
		g.solve(x, "<", ceiling)
	case "<=":
		g.solve(x, "<", next())
	default:
		g.solve(x, ">=", ceiling)
		g.solve(x, "<", next())
	}
}

// bound notes now() op e.
func (g *gateBuilder) bound(op string, e *expr.Node) {
	after := func() *expr.Node { return g.op("+", e, g.microseconds(1)) }
	switch op {
	case ">=":
		g.from = append(g.from, e)
	case ">":
		g.from = append(g.from, after())
	case "<":
		g.until = append(g.until, e)
	case "<=":
		g.until = append(g.until, after())
	default:
		g.from, g.until = append(g.from, e), append(g.until, after())
	}
}

// both makes one bound of several: NULL when any is.
func (g *gateBuilder) both(list []*expr.Node, pick func([]*expr.Node, int) (*expr.Node, error)) *expr.Node {
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	n, err := pick(list, list[0].Pos)
	n = g.c.must(n, err, g.c.wordAt(max(list[0].Pos, 0)))
	var nulls []*expr.Node
	for _, e := range list {
		if e.Kind != expr.KConst || e.Value.Null {
			nulls = append(nulls, expr.IsNull(e, false, e.Pos))
		}
	}
	if len(nulls) == 0 {
		return n
	}
	any, err := expr.Or(nulls, n.Pos)
	any = g.c.must(any, err, g.c.wordAt(max(n.Pos, 0)))
	n, err = expr.Case(nil, []expr.When{{Cond: any, Then: expr.NullLit(n.Pos)}}, n, n.Pos)
	return g.c.must(n, err, g.c.wordAt(max(list[0].Pos, 0)))
}
