package sql

import (
	"slices"
	"strings"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/sql/syntax"
)

// current binds the functions without parentheses.
func (b *binder) current(e *syntax.Current) (*expr.Node, error) {
	if e.Precision >= 0 && e.Precision != 6 {
		b.c.fail(e.Span, "leave the precision out: times have microseconds", "%s with a precision is not supported", e.Name)
	}
	switch e.Name {
	case "current_timestamp":
		return b.function("now", nil, e.Span)
	case "localtimestamp", "current_date":
		now, err := b.function("now", nil, e.Span)
		if err != nil {
			return nil, err
		}
		t := app.Timestamp
		if e.Name == "current_date" {
			t = app.Date
		}
		return expr.Cast(now, t, e.Pos)
	case "current_user", "session_user", "user", "current_role":
		b.c.fail(e.Span, "auth_subject() is who asks, auth_role() in which role", "%s is not supported", e.Name)
	case "localtime", "current_time":
		b.c.fail(e.Span, "use now(), and date_trunc('day', now()) for the day", "%s is not supported", e.Name)
	}
	b.c.fail(e.Span, "", "%s is not supported", e.Name)
	return nil, nil
}

// call binds a function call, an aggregate or a window function.
func (b *binder) call(e *syntax.Call) (*expr.Node, error) {
	c := b.c
	name := e.Name.Last().Text
	if len(e.Name) > 2 || len(e.Name) == 2 && e.Name[0].Text != "pg_catalog" {
		c.fail(e.Name.At(), "", "function %s does not exist", quoted(e.Name.String()))
	}
	switch {
	case e.Over != nil:
		return b.over(e), nil
	case isAggregate(name):
		return b.aggregate(e, name), nil
	case isWindowFunction(name) && e.Within:
		c.fail(e.Span, "count the rows below: count(*) FILTER (WHERE x < 10)", "%s WITHIN GROUP is not supported", name)
	case isWindowFunction(name):
		c.fail(e.Span, "for example: "+name+"(..) OVER (PARTITION BY a ORDER BY b)", "the window function %s needs OVER", name)
	}
	if hint, known := refusedAggregate(name); known && !expr.KnownFunction(name) {
		c.fail(e.Name.At(), hint, "the aggregate %s is not supported", name)
	}
	plain := !(e.Star || e.Distinct || e.Within || len(e.OrderBy) > 0 || e.Filter != nil)
	switch {
	case !plain && !expr.KnownFunction(name):
		c.fail(e.Name.At(), didYouMean(name, aggregateNames()), "aggregate function %s does not exist", name)
	case !plain:
		c.fail(e.Span, "", "%s is not an aggregate function: *, DISTINCT, ORDER BY and FILTER are for those", name)
	case e.Variadic:
		c.fail(e.Span, "give the values one by one", "VARIADIC is not supported")
	}
	if strings.HasPrefix(name, "_") {
		c.fail(e.Name.At(), "", "function %s does not exist", name)
	}
	if !expr.KnownFunction(name) {
		b.unknownFunction(name, e.Name.At())
	}
	return b.function(name, b.arguments(e, name), e.Span)
}

// arguments binds the arguments of a function; those with names are put into their places.
func (b *binder) arguments(e *syntax.Call, name string) []*expr.Node {
	c := b.c
	var args []*expr.Node
	places := argumentNames(name)
	for _, a := range e.Args {
		if a.Name == nil {
			args = append(args, b.expr(a.X))
			continue
		}
		i := slices.Index(places, a.Name.Text)
		switch {
		case places == nil:
			c.fail(a.Name.Span, "give the arguments in their order", "%s has no argument names", name)
		case i < 0:
			c.fail(a.Name.Span, "they are "+strings.Join(places, ", "), "%s has no argument named %s", name, quoted(a.Name.Text))
		case i < len(args) && args[i] != nil:
			c.fail(a.Name.Span, "", "the argument %s is given twice", a.Name.Text)
		}
		for len(args) <= i {
			args = append(args, nil)
		}
		args[i] = b.expr(a.X)
	}
	for i, a := range args {
		if a == nil { // those with names have defaults: 0
			zero, err := expr.NumLit("0", e.Pos)
			args[i] = c.must(zero, err, e.Span)
		}
	}
	return args
}

// argumentNames are the names that PostgreSQL gives to arguments, as far as anybody uses them.
func argumentNames(function string) []string {
	if function == "make_interval" {
		return []string{"years", "months", "weeks", "days", "hours", "mins", "secs"}
	}
	return nil
}

// function calls a function of package expr.
func (b *binder) function(name string, args []*expr.Node, at syntax.Span) (*expr.Node, error) {
	n, err := expr.Call(name, args, at.Pos)
	if err != nil {
		return nil, err
	}
	if b.view {
		b.steady(n, name, at)
	}
	return n, nil
}

// aggregateNames are those that hints suggest.
func aggregateNames() []string {
	return strings.Fields("count sum avg min max bool_and bool_or every any_value approx_count_distinct bit_and bit_or bit_xor stddev variance " +
		"array_agg string_agg jsonb_agg jsonb_object_agg percentile_cont percentile_disc mode")
}

// unknownFunction fails for functions that we know to be missing, with what to do instead, and for those with a near name. Other
// names are left to the builder, which may read them as casts.
func (b *binder) unknownFunction(name string, at syntax.Span) {
	hint := ""
	switch name {
	case "tumble", "hop", "session":
		b.c.fail(at, "for example: FROM "+name+"(bids, at, interval '10 seconds')", "%s is a function for FROM", name)
	case "unnest", "generate_series", "jsonb_array_elements", "jsonb_array_elements_text", "jsonb_object_keys", "jsonb_each", "jsonb_each_text",
		"string_to_table", "regexp_split_to_table", "regexp_matches", "json_array_elements":
		b.c.fail(at, "write it in FROM, beside the table: FROM t, "+name+"(..) AS x", "%s gives several rows and is a function for FROM", name)
	case "nextval", "currval", "lastval", "setval":
		hint = "there are no sequences: use uuid PRIMARY KEY DEFAULT gen_random_uuid(), or let the sender make the id"
	case "uuid_generate_v4":
		hint = "use gen_random_uuid()"
	case "ifnull", "nvl", "isnull":
		hint = "use coalesce(a, b)"
	case "clock_timestamp", "statement_timestamp", "transaction_timestamp", "getdate", "sysdate":
		hint = "use now()"
	case "datediff", "timestampdiff", "date_diff":
		hint = "use extract(epoch from b - a) for seconds"
	case "dateadd", "date_add":
		hint = "use x + interval '1 day'"
	case "iff", "if", "decode":
		hint = "use CASE WHEN a THEN b ELSE c END"
	default:
		if expr.TypeNamed(name) != app.Unknown {
			return // f(x) may be a cast
		}
		near := syntax.Nearest(name, slices.Concat(aggregateNames(), windowNames(), userFunctions()))
		if near == "" {
			return
		}
		hint = "did you mean " + quoted(near) + "?"
	}
	b.c.fail(at, hint, "function %s does not exist", name)
}

// userFunctions are the functions that people call by name.
func userFunctions() []string {
	return slices.DeleteFunc(expr.FunctionNames(), func(name string) bool { return strings.HasPrefix(name, "_") })
}

// steady refuses what would change a view without an event. now() may stand where rows are let through for a time.
func (b *binder) steady(n *expr.Node, name string, at syntax.Span) {
	switch {
	case n.Kind == expr.KNow && (b.clause == "FILTER" || b.inside):
		b.c.fail(at, "put the condition into WHERE: WHERE col > now() - interval '1 hour'", "now() is not allowed in an aggregate")
	case n.Kind == expr.KNow && b.clause == "ON":
		b.c.fail(at, "put the condition into WHERE", "now() is not supported in ON")
	case n.Kind == expr.KNow && b.clause != "WHERE" && b.clause != "HAVING":
		b.c.fail(at, "let rows in and out by the time with WHERE col > now() - interval '1 hour'; for the time of the newest row: max(col)",
			"now() is not allowed in %s: every row would change at every moment", clauseName(b.clause))
	case n.Kind == expr.KSubject || n.Kind == expr.KRole || name == "auth_claim":
		b.c.fail(at, "a view is the same for all readers; CREATE POLICY on it says which rows a reader sees", "%s() is not allowed in a view", name)
	case n.Kind == expr.KCall && n.Func.Volatility == expr.Stable:
		b.c.fail(at, "give it both arguments: "+name+"(time1, time2)", "%s with one argument is not allowed in a view: it counts from today, which changes without an event", name)
	case n.Kind == expr.KCall && n.Func.Volatility == expr.Volatile:
		b.c.fail(at, "put it in a column's DEFAULT: there it is computed once and logged", "the volatile function %s() is not allowed in a view", name)
	}
}

// clauseName is how messages name a clause.
func clauseName(clause string) string {
	if clause == "SELECT" {
		return "the select list"
	}
	return clause
}
